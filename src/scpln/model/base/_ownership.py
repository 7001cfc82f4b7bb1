"""Which places of an AnnData or MuData belong to a key: what `annotate` and others wrote under it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from mudata import MuData

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from scpln.data import Data

#: Entry of ``uns[key]`` that lists the places.
WRITTEN = "written"
#: A place as `annotate` lists it: ``obs['plnpca_elbo']``, or ``mod['rna'].var['plnpca_sd']``.
_PLACE = re.compile(r"(?:mod\['(?P<modality>.*)'\]\.)?(?P<slot>obs|obsm|var|varm|varp)\['(?P<name>.*)'\]")
#: What version 0.1.0 wrote after the key and an underscore, without a list of it.
_EARLIER = {
    "obs": r"leiden|elbo|iw_bound|gap|ess|pareto_k|cluster|ppc_library_size_\w+",
    "obsm": r"cluster_probs",
    "var": r"inverse_dispersion|zero_inflation|sd|probability_\d+|ppc_(mean|variance|zero_fraction)_\w+",
    "varm": r"loadings",
}


def claim(adata: Data, key: str, places: Iterable[str]) -> None:
    """Add places to those that belong to a key, which has an entry in ``uns``.

    Parameters
    ----------
    adata
        Where something was written.
    key
        Name of the results that it belongs to.
    places
        Where, such as ``"obs['plnpca_elbo']"`` or ``"mod['rna'].varm['plnpca_loadings']"``.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> adata = AnnData(np.ones((2, 1)), uns={"fit": {"model": "PLNPCA"}})
    >>> adata.obs["fit_elbo"] = [-1.0, -2.0]
    >>> claim(adata, "fit", ["obs['fit_elbo']"])
    >>> forget(adata, "fit")
    >>> list(adata.obs), list(adata.uns)
    ([], [])
    """
    entry = dict(adata.uns[key])
    known = [*map(str, entry.get(WRITTEN, ()))]
    entry[WRITTEN] = np.array([*known, *(place for place in places if place not in known)], dtype=object)
    adata.uns[key] = entry


def forget(adata: Data, key: str) -> None:
    """Remove all that belongs to a key; nothing of what anybody else has put beside it."""
    entry = adata.uns.get(key)
    if not (isinstance(entry, Mapping) and "model" in entry):
        return
    places = [*map(str, entry[WRITTEN])] if WRITTEN in entry else _earlier_places(adata, key)
    for place in places:
        found = _PLACE.fullmatch(place)
        if found is None:
            continue
        owner = adata if found["modality"] is None else getattr(adata, "mod", {}).get(found["modality"])
        slot = getattr(owner, found["slot"], {})
        if owner is not None and found["name"] in slot:
            del slot[found["name"]]
            owner.uns.pop(f"{found['name']}_colors", None)  # where scanpy keeps those of a column
    del adata.uns[key]


def _earlier_places(adata: Data, key: str) -> list[str]:
    """Where version 0.1.0 has written under a key."""
    places = [f"obsm['X_{key}']", f"obsm['X_{key}_umap']"]
    parts: dict[str, AnnData] = adata.mod if isinstance(adata, MuData) else {}
    for prefix, owner in {
        "": adata,
        **{f"mod['{name}']." if name else "": part for name, part in parts.items()},
    }.items():
        for slot, names in _EARLIER.items():
            pattern = re.compile(rf"{re.escape(key)}_({names})")
            places += [f"{prefix}{slot}['{name}']" for name in getattr(owner, slot) if pattern.fullmatch(str(name))]
    return places


def storable(values: dict[str, Any]) -> dict[str, Any]:
    """The same, as AnnData can write it: lists as arrays, and nothing for None.

    Examples
    --------
    >>> storable({"keys": ["a", "b"], "seed": 0, "batch_key": None, "history": {"elbo": [-2.0, -1.0]}})
    {'keys': array(['a', 'b'], dtype=object), 'seed': 0, 'history': {'elbo': array([-2., -1.])}}
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result[name] = storable(value)
        elif isinstance(value, list | tuple):
            try:
                array = np.asarray(value)
            except ValueError:  # lists of different lengths, of a file that somebody changed
                array = np.asarray([str(each) for each in value])
            result[name] = array.astype(object) if array.dtype.kind == "U" else array
        elif value is not None:
            result[name] = value
    return result
