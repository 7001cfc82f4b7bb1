"""What figures read: results that a model or a function of `scpln.tl` stored under a key, or an error that says how to get them."""

from __future__ import annotations

import operator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from scpln._catalogue import of_class
from scpln.utils import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

#: What genes are ranked by: their loadings on the scale of expression, or of log-rates.
SortBy = Literal["expression", "loading"]
#: Longest name of a gene or component that is drawn in full.
_LONGEST_NAME = 24


def stored(adata: AnnData, key: str, name: str, *, model: str = "PLNPCA", line: str | None = None) -> Any:
    """``adata.uns[key][name]``, or an error that says how it gets there.

    Parameters
    ----------
    adata, key
        Annotated data, and the name of the results.
    name
        Name of the entry.
    model
        Name of the model class whose results have it.
    line
        What to run to get it, if that is not to fit the model.
    """
    results = adata.uns.get(key, {})
    if name not in results:
        raise KeyError(_missing(adata, key, f"adata.uns[{key!r}] has no {name!r}", model, line))
    return results[name]


def stored_by(
    adata: AnnData,
    slot: Literal["obs", "var", "obsm", "varm"],
    key: str,
    name: str,
    *,
    model: str = "PLNPCA",
    line: str | None = None,
) -> NDArray:
    """What is stored by cell or gene under the full `name`, or an error that says how it gets there; see `stored`."""
    found = getattr(adata, slot)
    if name not in found:
        raise KeyError(_missing(adata, key, f"adata.{slot} has no {name!r}", model, line))
    return np.asarray(found[name])


def pairs_by(adata: AnnData, key: str, name: str, *, model: str = "PLNPCA", line: str | None = None) -> Any:
    """The matrix that is stored by pairs of genes under the full `name`, or an error that says how to get it; see `stored`."""
    if name not in adata.varp:
        raise KeyError(_missing(adata, key, f"adata.varp has no {name!r}", model, line))
    return adata.varp[name]


def _missing(adata: AnnData, key: str, what: str, model: str, line: str | None) -> str:
    """What is missing, and what to do about it."""
    owner = str(adata.uns.get(key, {}).get("model", model))
    if line is None and owner != model:
        what += f": these are results of a {owner}, and only {model} has it"
        line = _one_call(model, "adata") or f"scpln.model.{model}(adata)"
    elif line is None:
        ways = [f"model.annotate(key_added={key!r})", _one_call(model, f"adata, key_added={key!r}")]
        line = "` or `".join(filter(None, ways))
    others = [str(name) for name, entry in adata.uns.items() if name != key and "model" in _as_dict(entry)]
    known = f"; there are results of {', '.join(map(repr, others))}" if others else ""
    modalities = list(getattr(adata, "mod", {}))
    inside = f" Of a MuData, pass the modality that has it, as mdata[{modalities[0]!r}]." if modalities else ""
    return f"{what}. Run `{line}` first, or pass the key that was used as `key`{known}.{inside}"


def _one_call(model: str, arguments: str) -> str:
    """The call of ``scpln.tl`` that stores the results of a model class; nothing if there is none."""
    entry = of_class(model)
    return "" if entry is None or entry.function is None else f"scpln.tl.{entry.function}({arguments})"


def _as_dict(entry: Any) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {}


def latent_states(adata: AnnData, key: str, *, model: str = "PLNPCA") -> NDArray:
    """Posterior means of the latent states (n × q)."""
    return stored_by(adata, "obsm", key, f"X_{key}", model=model)


def loadings_of(
    adata: AnnData, key: str, mask_var: str | NDArray[np.bool_] | None = None
) -> tuple[NDArray, NDArray[np.float64]]:
    """Names of the genes that the model has, and their loadings C (genes × q); with a mask, of the genes in it."""
    loadings = stored_by(adata, "varm", key, f"{key}_loadings").astype(float)
    chosen = _chosen(adata, loadings, mask_var)
    return adata.var_names.astype(str).to_numpy(dtype=object)[chosen], loadings[chosen]


def _chosen(adata: AnnData, loadings: NDArray, mask_var: str | NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Genes that the model has, and that are in the mask; an error if there are none."""
    chosen = np.isfinite(loadings).all(1)
    if mask_var is not None:
        chosen &= _mask_of(adata, mask_var)
    if not chosen.any():
        msg = "There are no genes to draw: none has loadings" + ("." if mask_var is None else " and is in mask_var.")
        raise ValueError(msg)
    return chosen


def contributions(
    adata: AnnData, key: str, mask_var: str | NDArray[np.bool_] | None = None, *, sort_by: SortBy = "expression"
) -> tuple[NDArray[np.float64], str]:
    """What genes are ranked by, (genes × q), of those that `loadings_of` gives, and what it is called.

    These are the loadings on the scale of expression, unless those on the scale of log-rates are asked for, or an earlier
    version wrote no others.
    """
    one_of("sort_by", sort_by, get_args(SortBy))
    loadings = stored_by(adata, "varm", key, f"{key}_loadings").astype(float)
    known = adata.varm.get(f"{key}_expression_loadings")
    chosen = _chosen(adata, loadings, mask_var)
    if sort_by == "loading" or np.shape(known) != loadings.shape:
        return loadings[chosen], "loading"
    return np.asarray(known, dtype=float)[chosen], "change of log(1 + rate)"


def _mask_of(adata: AnnData, mask_var: str | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask over genes, or the column of ``var`` that holds it."""
    if isinstance(mask_var, str) and mask_var not in adata.var:
        msg = f"adata.var has no {mask_var!r} (mask_var).{suggestion(mask_var, list(adata.var))}"
        raise KeyError(msg)
    mask = np.asarray(adata.var[mask_var] if isinstance(mask_var, str) else mask_var)
    if mask.dtype != bool or mask.shape != (adata.n_vars,):
        msg = f"mask_var must be True or False for each of the {adata.n_vars:,} genes, not {mask.dtype} of shape {mask.shape}."
        raise ValueError(msg)
    return mask


def variance_shares(adata: AnnData, key: str) -> NDArray[np.float64]:
    """Share of each component in the variance of log-rates, ‖C_k‖² / tr(C Cᵀ), of a linear decoder.

    As it was stored for all genes of the model; of one modality of a joint fit, from the loadings of its genes.
    """
    known = adata.uns.get(key, {})
    if "variance_explained" in known:
        return np.asarray(known["variance_explained"], dtype=float)
    variance = (loadings_of(adata, key)[1] ** 2).sum(0)
    return variance / variance.sum() if variance.sum() > 0 else variance


def component_names(adata: AnnData, key: str, numbers: Sequence[int]) -> list[str]:
    """Names of latent dimensions, with their share of the variance where the decoder is linear."""
    is_linear = f"{key}_loadings" in adata.varm
    shares = variance_shares(adata, key) if is_linear else None
    return [component_name(number, shares) for number in numbers]


def component_name(number: int, shares: NDArray[np.float64] | None) -> str:
    """Name of a latent dimension, numbered from 1, with its share of the variance where that is known.

    Examples
    --------
    >>> component_name(2, np.array([0.9, 0.072, 0.028]))
    'component 2 (7.2 %)'
    >>> component_name(1, None)
    'latent dimension 1'
    """
    if shares is None:
        return f"latent dimension {number}"
    percent = 100 * shares[number - 1]
    return f"component {number} ({percent:.{0 if percent >= 10 else 1}f} %)"


def check_components(components: Sequence[int] | int | None, n_latent: int) -> list[int]:
    """Numbers of the chosen components, which count from 1; None stands for all.

    Examples
    --------
    >>> check_components([1, 3], 3)
    [1, 3]
    >>> check_components(0, 3)
    Traceback (most recent call last):
        ...
    ValueError: components=0, but there are 3, numbered from 1: pass one of 1 to 3, or several.
    """
    if components is None:
        return list(range(1, n_latent + 1))
    asked: list[Any] = [components] if np.ndim(components) == 0 else list(components)  # type: ignore[arg-type]
    options = f"one of 1 to {n_latent}, or several" if n_latent > 1 else "1"
    msg = f"components={components!r}, but there are {n_latent}, numbered from 1: pass {options}."
    try:
        numbers = [operator.index(number) for number in asked]
    except TypeError:
        raise TypeError(msg) from None
    if not numbers or not all(1 <= number <= n_latent for number in numbers):
        raise ValueError(msg)
    return numbers


def check_pair(components: Sequence[int], n_latent: int, key: str) -> tuple[int, int]:
    """Numbers of two different components."""
    if n_latent < 2:
        msg = f"This figure has two axes, and {key!r} has one latent dimension: fit a model with n_latent=2 or more."
        raise ValueError(msg)
    numbers = check_components(components, n_latent)
    if len(numbers) != 2 or numbers[0] == numbers[1]:
        msg = f"components={components!r}, but this figure has two axes: pass two different numbers, as (1, 2)."
        raise ValueError(msg)
    return numbers[0], numbers[1]


def find_genes(genes: Sequence[str] | str, names: NDArray) -> NDArray[np.intp]:
    """Positions of genes among `names`, in the given order; of a name that repeats, all of them.

    Examples
    --------
    >>> find_genes(["b", "a"], np.array(["a", "b", "a"]))
    array([1, 0, 2])
    >>> find_genes("CD3", np.array(["CD3D", "CD4"]))
    Traceback (most recent call last):
        ...
    ValueError: 'CD3' is not among the 2 genes of these results. Did you mean 'CD3D' or 'CD4'?
    """
    asked = [genes] if isinstance(genes, str) else [str(gene) for gene in genes]
    if not asked:
        msg = "genes is empty. Pass names of genes, or None for those that vary most."
        raise ValueError(msg)
    found = [np.flatnonzero(names == gene) for gene in asked]
    for gene, positions in zip(asked, found, strict=True):
        if not len(positions):
            msg = f"{gene!r} is not among the {len(names):,} genes of these results.{suggestion(gene, names)}"
            raise ValueError(msg)
    return np.concatenate(found)


def suggestion(name: str, names: Sequence[str] | NDArray) -> str:
    """Names that are close to a wrong one, as a question; nothing if there are none."""
    by_lower = {str(known).lower(): str(known) for known in names}
    near = [by_lower[match] for match in get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def short(name: str) -> str:
    """A name that fits beside an axis: the middle of a long one is left out, since names tend to differ at their ends.

    Examples
    --------
    >>> short("CD3D"), short("chromosome_one_region_0000417")
    ('CD3D', 'chromosome_one_…n_0000417')
    """
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9]}…{name[-9:]}"
