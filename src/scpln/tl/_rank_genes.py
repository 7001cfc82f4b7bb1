"""Genes that differ between groups, ranked, where scanpy looks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

    from scpln.model.abilities import GroupTests

#: Tables that scanpy knows, and further ones, with the types of their values.
_FIELDS = {
    "names": "O",
    "scores": "float32",
    "logfoldchanges": "float32",
    "pvals": "float64",
    "pvals_adj": "float64",
    "s_values": "float64",
    "logfoldchanges_sd": "float32",
    "logfoldchanges_estimate": "float32",
    "logfoldchanges_se": "float32",
}


def rank_genes(
    adata: AnnData,
    groupby: str,
    *,
    model: GroupTests | None = None,
    groups: str | Sequence[Any] = "all",
    reference: Any = "rest",
    within: str | None = None,
    sample_key: str | None = None,
    covariate_keys: Sequence[str] | str | None = None,
    adjust_for_state: bool = False,
    composition: bool = True,
    min_cells: int = 3,
    key_added: str = "rank_genes_groups",
    copy: bool = False,
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    is_count_data: bool = True,
    round_counts: bool = False,
) -> AnnData | None:
    """Rank genes by a test of whether groups have the same mean expression, as :func:`scanpy.tl.rank_genes_groups` does.

    It tests raw counts, with size factors, batches and covariates in the model of their means, and cells or samples as what
    varies: see ``test_groups`` of any model, such as :meth:`scpln.model.PLNPCA.test_groups`, which returns the same as a table.

    Parameters
    ----------
    adata
        Cells by genes, with raw counts (or other values, see `is_count_data`) in `layer`.
    groupby
        Column of ``adata.obs`` with the groups.
    model
        A trained model, of whose registration the counts, size factors, batches and covariates are taken, in place of `layer`
        and what follows it. Needed for `adjust_for_state` only.
    groups, reference
        Groups to compare, one after another; and what with, all other cells (``"rest"``) or a group.
    within
        Column of clusters: groups are compared within each. In what is stored, groups are named ``"cluster: group"``.
    sample_key
        Column of samples, such as donors, whose sums of counts are compared. Wanted wherever groups are of different samples.
    covariate_keys
        Batches and covariates to hold, of those that are named; by default all, but `groupby`, `within` and `sample_key`.
    adjust_for_state, composition, min_cells
        As in :meth:`scpln.model.PLNPCA.test_groups`.
    key_added
        Name in ``adata.uns``.
    copy
        Leave `adata` alone and return an annotated copy.
    layer
        Layer that holds the counts or other values; by default ``adata.X`` does.
    batch_key
        Column of ``obs`` with each cell's batch.
    size_factor_key
        Column of ``obs`` with size factors on the natural scale, for instance total counts over all genes where `adata`
        holds some of them only. By default, the totals of the counts given, and none for values that are not counts.
    design
        Formula of further columns of ``obs``, as in :func:`scpln.model.setup_anndata`.
    categorical_covariate_keys, continuous_covariate_keys
        Further columns of ``obs`` whose effects are held.
    is_count_data
        Whether `layer` holds raw counts; False for real values such as log-normalised expression, of which fold changes are
        then differences.
    round_counts
        Whether to round the values to the nearest whole numbers, for estimated counts.

    Returns
    -------
    None, or the annotated copy. Sets ``uns[key_added]`` as scanpy does, for its figures and ``sc.get.rank_genes_groups_df``: for
    each group the genes' ``names`` by descending ``scores``, ``logfoldchanges`` (shrunken, to the base 2), ``pvals`` and
    ``pvals_adj``, and ``params``; besides, ``s_values``, ``logfoldchanges_sd``, ``logfoldchanges_estimate`` and
    ``logfoldchanges_se``.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> scpln.tl.rank_genes(adata, "bulk_labels", groups=["CD19+ B"], layer="counts", size_factor_key="n_counts")
    >>> sorted(sc.get.rank_genes_groups_df(adata, group="CD19+ B")["names"].head(2))
    ['CD79A', 'CD79B']
    """
    from scpln.data import check_adata, unregistered
    from scpln.model.abilities import GroupTests
    from scpln.utils import as_bool, storable_name

    key = storable_name("key_added", key_added)
    copy = as_bool("copy", copy)
    check_adata(adata, view_allowed=copy)
    group1, group2 = _sides(groups, reference)
    arguments: dict[str, Any] = {"within": within, "sample_key": sample_key, "covariate_keys": covariate_keys}
    arguments |= {"composition": composition, "min_cells": min_cells}
    registration: dict[str, Any] = {
        "layer": layer,
        "batch_key": batch_key,
        "size_factor_key": size_factor_key,
        "design": design,
        "categorical_covariate_keys": categorical_covariate_keys,
        "continuous_covariate_keys": continuous_covariate_keys,
        "is_count_data": is_count_data,
        "round_counts": round_counts,
    }
    if model is None:
        if as_bool("adjust_for_state", adjust_for_state):
            msg = "adjust_for_state=True holds latent states, which a model gives: pass model=..., or leave it out."
            raise ValueError(msg)
        registry = unregistered(adata, **registration)
        table = _without_model(adata, registry, groupby, group1, group2, **arguments)
    else:
        if not isinstance(model, GroupTests):
            msg = f"model must be a model of scpln.model, not {type(model).__name__}."
            raise TypeError(msg)
        _check_unset(registration)
        arguments["adjust_for_state"] = adjust_for_state
        table, registry = model.test_groups(adata, groupby, group1, group2, **arguments), model.registry
    adata = adata.copy() if copy else adata
    params = {"groupby": groupby, "reference": str(reference), "method": "scpln", "use_raw": False}
    params |= {"layer": registry["setup_args"]["layer"], "corr_method": "benjamini-hochberg"}
    params |= {name: value for name, value in (("within", within), ("sample_key", sample_key)) if value is not None}
    adata.uns[key] = {"params": params, **_records(table)}
    return adata if copy else None


def _sides(groups: Any, reference: Any) -> tuple[Any, Any]:
    """Groups to compare and to compare with, None for all and for the rest, from scanpy's arguments."""
    from scpln.data import as_list, as_text

    group2 = None if isinstance(reference, str) and reference == "rest" else reference
    if isinstance(groups, str) and groups == "all":
        return None, group2
    skipped = {as_text(group) for group in as_list(group2)}
    return [group for group in as_list(groups) if as_text(group) not in skipped], group2


def _without_model(
    adata: AnnData,
    registry: dict[str, Any],
    groupby: str,
    group1: Any,
    group2: Any,
    *,
    within: str | None,
    sample_key: str | None,
    covariate_keys: Any,
    composition: bool,
    min_cells: int,
) -> pd.DataFrame:
    from scpln.data import read_cells, validated_once
    from scpln.model.abilities import GroupTest, Plan

    test = GroupTest(
        Plan(groupby, group1, group2, within, sample_key, min_cells), registry, covariate_keys, composition
    )
    with validated_once():
        return test.table(read_cells(adata, registry), adata.obs)


def _check_unset(registration: Mapping[str, Any]) -> None:
    """Refuse to be told twice where the counts are."""
    defaults = {"is_count_data": True, "round_counts": False}
    given = [name for name, value in registration.items() if value != defaults.get(name)]
    if given:
        msg = f"model= was set up with its own layer and columns, so that {given} have no effect. Leave them out."
        raise ValueError(msg)


def _records(table: pd.DataFrame) -> dict[str, Any]:
    """Tables with a column for each group, in scanpy's form."""
    labels = table["group"].astype(str)
    if "within" in table:
        labels = table["within"].astype(str) + ": " + labels
    parts = [table[labels == label] for label in dict.fromkeys(labels)]
    names = list(dict.fromkeys(labels))
    records: dict[str, Any] = {}
    for field, dtype in _FIELDS.items():
        record = np.empty(len(parts[0]), dtype=[(name, dtype) for name in names])
        for name, part in zip(names, parts, strict=True):
            record[name] = part[field].to_numpy()
        records[field] = record.view(np.recarray)
    return records
