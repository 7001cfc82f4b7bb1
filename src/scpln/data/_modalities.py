"""What is registered of a MuData: the fields of its modalities, side by side, for one latent state of each cell.

Each modality is an AnnData, which the fields of an AnnData read, check and summarise. Genes stand side by side in the
order of the registration; cells are those of the MuData, matched by name. In a modality that a cell lacks it has no
counts and an exposure of zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._field import States


#: What can be said of a modality: what always stands in a registration, and what does if it is given.
_ALWAYS, _IF_GIVEN = ("layer", "size_factor_key"), ("offset_key", "mask_key")


def specify(modalities: Any, known: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """What to read of each modality, of those that there are, from the shorthands that `setup_mudata` takes.

    Examples
    --------
    >>> specify({"rna": "counts", "prot": None}, ["rna", "prot", "atac"])
    {'rna': {'layer': 'counts', 'size_factor_key': None}, 'prot': {'layer': None, 'size_factor_key': None}}
    """
    if isinstance(modalities, str):
        modalities = [modalities]
    if not isinstance(modalities, Mapping):
        modalities = dict.fromkeys(modalities if isinstance(modalities, Iterable) else ())
    if not modalities:
        msg = f"modalities names none. Pass one or more of {list(known)}."
        raise ValueError(msg)
    unknown = [name for name in modalities if name not in known]
    if unknown:
        msg = f"mdata.mod has no {', '.join(map(repr, unknown))} (modalities). It has {list(known)}."
        raise ValueError(msg)
    return {str(name): _options(name, value) for name, value in modalities.items()}


def _options(name: str, value: Any) -> dict[str, str | None]:
    """Layer, size factor, offsets and mask of a modality, from None, the name of a layer, or a mapping."""
    if value is None or isinstance(value, str):
        value = {"layer": value}
    if not isinstance(value, Mapping) or not set(value) <= {*_ALWAYS, *_IF_GIVEN}:
        given = sorted(value) if isinstance(value, Mapping) else value
        msg = (
            f"modalities[{name!r}] is {given!r}, but it must be None (its X), the name of a layer, or a mapping with "
            "some of 'layer', 'size_factor_key', 'offset_key' and 'mask_key', such as {'layer': 'counts', 'size_factor_key': 'total_counts'}."
        )
        raise ValueError(msg)
    options = {option: value.get(option) for option in (*_ALWAYS, *_IF_GIVEN)}
    for option, chosen in options.items():
        if not isinstance(chosen, str | None):
            msg = f"modalities[{name!r}] has {option}={chosen!r}, but it must be one name, as text, or None."
            raise TypeError(msg)
    return {option: chosen for option, chosen in options.items() if option in _ALWAYS or chosen is not None}


def modality_sizes(states: States) -> dict[str, int]:
    """Number of genes of each modality, in order; nothing of one AnnData.

    Examples
    --------
    >>> modality_sizes({"X": {"modalities": {"rna": {"n_obs": 9, "n_vars": 3}}}}), modality_sizes({"X": {}})
    ({'rna': 3}, {})
    """
    modalities = states[REGISTRY_KEYS.X_KEY].get("modalities", {})
    return {name: int(size["n_vars"]) for name, size in modalities.items()}


def modality_slices(states: States) -> dict[str, slice]:
    """Where the genes of each modality stand."""
    ends = np.cumsum([0, *modality_sizes(states).values()]).tolist()
    return {name: slice(*ends[number : number + 2]) for number, name in enumerate(modality_sizes(states))}
