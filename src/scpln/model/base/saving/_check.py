"""Whether what a ``model.json`` says of a model has the form that saving gives it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scpln.data import DESIGN_KEY, Design
from scpln.data._make_fields import make_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch

#: Forms: types; a list of one form; a mapping of texts to one form; or one with names, of which those with "?" may lack.
_SCALAR = (str, int, float, bool)
_SIZES = {"n_obs": int, "n_vars": int}
_FIELDS = {
    "X": {**_SIZES, "column_names": [str], "modalities?": {str: _SIZES}},
    "batch": {"categorical_mapping": [_SCALAR], "original_key": (str, type(None))},
    "labels": {"categorical_mapping": [_SCALAR], "original_key": (str, type(None)), "dtype?": str},
    DESIGN_KEY: {
        "factors": {str: [_SCALAR]},
        "numbers": [str],
        "arguments": {str: str},
        "names": [str],
        "scales?": {str: [float]},
        "formula?": {"text": str, "dtypes": {str: str}, "transforms": dict, "basis": [list]},
    },
    "log_size_factor": {"center?": float, "modalities?": {str: {"center": float}}},
    "entries?": {"center?": [float], "modalities?": {str: {"center?": [float]}}},
}
_KEYS = (str, list, type(None))
_REGISTRY = {
    "setup_method_name": str,
    "setup_args": {
        "layer?": (str, type(None)),
        "modalities?": {
            str: {
                "layer": (str, type(None)),
                "size_factor_key": (str, type(None)),
                "offset_key?": str,
                "mask_key?": str,
            }
        },
        "batch_key": (str, type(None)),
        "labels_key?": (str, type(None)),
        "size_factor_key?": (str, type(None)),
        "offset_key?": str,
        "mask_key?": str,
        "design?": str,
        "categorical_covariate_keys": _KEYS,
        "continuous_covariate_keys": _KEYS,
        "unlabeled_category?": str,
        "is_count_data?": bool,
        "round_counts?": bool,
    },
    "field_registries": {
        name: {
            "state_registry": state,
            "data_registry": {"attr_name": str, "attr_key": (str, type(None))},
            "summary_stats": {str: int},
        }
        for name, state in _FIELDS.items()
    },
    "scvi_version": str,
    "_scvi_uuid": str,
}
_DENSITY = {"weights": [float], "means": [[float]], "covariance": [[float]]}
_METADATA = {
    "class": str,
    "scpln_version": str,
    "init_params": dict,
    "registry": _REGISTRY,
    "is_trained": bool,
    "training": {
        "converged?": bool,
        "reason?": str,
        "reliability?": ({"gap": float, "unreliable": float, "n_cells": int}, type(None)),
    },
    "history": {str: [float]},
    "objective?": {"name": str, "unit": str, "value": float, "higher_is_better": bool},
    "format?": int,
    "fingerprint": str,
    "not_finite?": [str],
    "states?": {"density?": _DENSITY, "distances?": [[float]]},
    "query?": {"design": _FIELDS[DESIGN_KEY], "n_batches": int, "dims": dict},
}
_METHODS = ("setup_anndata", "setup_mudata")
#: Sizes up to here are not compared with what is saved.
SMALL = 10_000
#: Logarithm of the largest double.
LARGEST_LOG = 709.0


def check_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Refuse metadata that no model has.

    Parameters
    ----------
    path
        The ``model.json``, for the message.
    metadata
        What it says of the model.

    Raises
    ------
    ValueError
        Something lacks, is of another type, or contradicts something else.
    """
    what = next(_misfits(metadata, _METADATA), None) or next(_contradictions(metadata["registry"]), None)
    if what is not None:
        msg = f"{str(path)!r} is damaged: {what} is not what a model has there. Save the model again."
        raise ValueError(msg)


def check_sizes(path: Path, metadata: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse arguments that stand for more values than there are saved, before memory is taken for them."""
    most = max(SMALL, sum(tensor.numel() for tensor in tensors.values()))
    for name, value in metadata["init_params"].items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int | float) and abs(number) > most for number in numbers):
            msg = f"{str(path)!r} is damaged: {name}={value!r} is more than the saved parameters have. Save the model again."
            raise ValueError(msg)


def _misfits(value: Any, form: Any, name: str = "") -> Iterator[str]:
    """Names of what does not have its form.

    Examples
    --------
    >>> list(_misfits({"a": [1, "x"], "b": {}}, {"a": [int], "b": {"c": str}, "d?": int}))
    ['a[1]', 'b.c']
    """
    if isinstance(form, tuple) and not all(isinstance(each, type) for each in form):
        if all(any(True for _ in _misfits(value, each)) for each in form):
            yield name
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield name
            return
        for number, each in enumerate(value):
            yield from _misfits(each, form[0], f"{name}[{number}]")
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            yield name
            return
        rest = form.get(str)
        forms = {**dict.fromkeys(value, rest), **form} if rest is not None else form
        for key, inner in forms.items():
            if not isinstance(key, str):
                continue
            plain = key.removesuffix("?")
            if plain in value:
                yield from _misfits(value[plain], inner, f"{name}.{plain}".removeprefix("."))
            elif plain == key:
                yield f"{name}.{plain}".removeprefix(".")
    else:
        types = form if isinstance(form, tuple) else (form,)
        types = (*types, int) if float in types else types  # as JSON has whole numbers
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            yield name


def _contradictions(registry: dict[str, Any]) -> Iterator[str]:
    """Names of what other parts of a registration belie."""
    args, entries = registry["setup_args"], registry["field_registries"]
    states = {key: entry["state_registry"] for key, entry in entries.items()}
    if registry["setup_method_name"] != _METHODS["modalities" in args]:
        yield "registry.setup_method_name"
    try:
        fields = make_fields(**args)
    except TypeError:  # an argument that no set-up has
        yield "registry.setup_args"
        return
    for key in set(fields) ^ set(states):
        yield f"registry.field_registries.{key}"
        return
    for key, field in fields.items():
        categories = states[key].get("categorical_mapping", [None])
        unique = 0 < len(categories) == len(set(categories))
        if not unique or field.get_summary_stats(states[key]) != entries[key]["summary_stats"]:
            yield f"registry.field_registries.{key}"
    genes, given = states["X"], list(args.get("modalities", {}))
    sizes, centers = (states[key].get("modalities", {}) for key in ("X", "log_size_factor"))
    parts = [size["n_vars"] for size in sizes.values()] or [genes["n_vars"]]
    names = genes["column_names"]
    if genes["n_obs"] < 1 or min(parts) < 1 or not sum(parts) == len(names) == len(set(names)) or list(sizes) != given:
        yield "registry.field_registries.X"
    if list(centers) != given or ("center" in states["log_size_factor"]) != (not given):
        yield "registry.field_registries.log_size_factor"
    for state in (states["log_size_factor"], *centers.values()):
        if not abs(state.get("center", 0.0)) <= LARGEST_LOG:
            yield "registry.field_registries.log_size_factor.center"
    entries, options = states.get("entries", {}), args.get("modalities", {"": args})
    for name, own in options.items():
        center = (entries.get("modalities", {}).get(name, {}) if name else entries).get("center", [])
        n_genes = sizes[name]["n_vars"] if name in sizes else len(names)
        if len(center) != ("offset_key" in own) * n_genes or not all(map(math.isfinite, center)):
            yield "registry.field_registries.entries.center"
    design = states[DESIGN_KEY]
    scales = design.get("scales", {})
    if scales and sorted(scales) != sorted(design["numbers"]):
        yield f"registry.field_registries.{DESIGN_KEY}.scales"
    for scale in scales.values():
        if len(scale) != 2 or not all(map(math.isfinite, scale)) or not scale[1] > 0:
            yield f"registry.field_registries.{DESIGN_KEY}.scales"
    keys = [*design["factors"], *design["numbers"]]
    if sorted(keys) != sorted(design["arguments"]) or _names(design) != design["names"]:
        yield f"registry.field_registries.{DESIGN_KEY}"


def _names(design: dict[str, Any]) -> list[str] | None:
    """Names of the columns of a design; None of what is none."""
    try:
        return Design.from_state(design).names
    except Exception:  # noqa: BLE001 - whatever a formula that was changed may raise
        return None
