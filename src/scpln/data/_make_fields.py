"""The fields that a registration has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi import REGISTRY_KEYS

from ._fields import CategoryField, CountsField, DesignField, LabelsField, OffsetField
from .entries import EntriesField

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ._field import Field

    Data = AnnData | MuData


def make_fields(**args: Any) -> dict[str, Field]:
    """Fields of the arguments of `setup_anndata`, or of `setup_mudata`, by registry key."""
    from ._joint_fields import make_joint_fields  # which is made of the fields here

    return make_joint_fields(**args) if "modalities" in args else _make_fields(**args)


def _make_fields(
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    unlabeled_category: str | None = None,
    size_factor_key: str | None = None,
    design: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    categorical_covariate_keys: list[str] | None = None,
    continuous_covariate_keys: list[str] | None = None,
    is_count_data: bool = True,
    round_counts: bool = False,
) -> dict[str, Field]:
    """Fields of the arguments of `setup_anndata`, by registry key.

    They are registered in this order: columns of ``obs`` that are wrong are refused before counts are read, which takes long.
    """
    counts = CountsField(layer, is_count_data, round_counts, mask_key)
    offsets = OffsetField(counts, size_factor_key, by_total=is_count_data and offset_key is None)
    has_entries = offset_key is not None or mask_key is not None
    fields: list[Field] = [
        CategoryField(REGISTRY_KEYS.BATCH_KEY, batch_key, "batch_key"),
        LabelsField(labels_key, unlabeled_category),
        DesignField(
            design=design,
            batch_key=batch_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        ),
        *([EntriesField(offset_key, mask_key, is_count_data)] if has_entries else []),
        # Size factors are totals of the counts, or a column.
        *((counts, offsets) if size_factor_key is None else (offsets, counts)),
    ]
    return {field.registry_key: field for field in fields}
