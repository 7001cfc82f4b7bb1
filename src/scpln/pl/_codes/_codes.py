"""What codes cells have: how evenly codes are used, and by which cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scpln.pl._axes import SEQUENTIAL, axes_or_new, finish, name_rows, side_for
from scpln.pl._clusters import groups_of
from scpln.pl._stored import short, stored, stored_by

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Inches of a code and of a row, and of what is around them.
_EACH, _ROW, _MARGINS = 0.16, 0.24, (2.8, 1.4)


def code_usage(
    adata: AnnData,
    *,
    key: str = "countvqvae",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the share of cells that have each code, at each position; codes are in falling order.

    Rows say the perplexity of their shares: the number of codes where all are used alike.

    Parameters
    ----------
    adata
        Annotated by a `CountVQVAE`.
    key
        Name of the results.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"usage.pdf"``.

    Returns
    -------
    The axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.count_vqvae(adata, layer="counts", n_hidden=32, max_epochs=10, progress=False)
        >>> ax = scpln.pl.code_usage(adata, show=False)
        >>> ax.images[0].get_array().shape  # positions and codes
        (4, 16)
    """
    codes, size = _codes(adata, key)
    shares = np.array([np.sort(np.bincount(own, minlength=size))[::-1] / len(own) for own in codes.T])
    ax = _heatmap(ax, shares, "share of cells")
    with np.errstate(divide="ignore", invalid="ignore"):
        entropies = -np.nansum(shares * np.log(shares), axis=1)
    name_rows(ax, [f"{m} (perplexity {np.exp(h):.1f})" for m, h in enumerate(entropies)], "positions")
    ax.set(xlabel="codes, by how many cells have them", ylabel=ax.get_ylabel() or "position")
    return finish(ax, show=show, save=save)


def code_labels(
    adata: AnnData,
    *,
    key: str = "countvqvae",
    groupby: str | None = None,
    position: int = 0,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the shares of codes of a position in the cells of each group.

    Codes are ordered by the group that they have the largest share of; those that no cell has are left out.

    Parameters
    ----------
    adata
        Annotated by a `CountVQVAE`.
    key
        Name of the results.
    groupby
        Column of ``obs`` with groups of cells, for instance known labels: one row for each. By default one row of all cells.
    position
        Position of the codes, from 0.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"codes.pdf"``.

    Returns
    -------
    The axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.count_vqvae(adata, layer="counts", n_codes=1, n_hidden=32, max_epochs=10, progress=False)
        >>> ax = scpln.pl.code_labels(adata, groupby="bulk_labels", show=False)
        >>> bool((abs(ax.images[0].get_array().sum(1) - 1) < 1e-9).all())
        True
    """
    codes, size = _codes(adata, key)
    if not isinstance(position, int | np.integer) or not 0 <= position < codes.shape[1]:
        msg = f"position={position!r}, but there are positions 0 to {codes.shape[1] - 1}."
        raise ValueError(msg)
    groups = pd.Series(["all cells"] * len(codes), dtype="category") if groupby is None else groups_of(adata, groupby)
    rows = groups.cat.codes.to_numpy()
    counts = np.zeros((len(groups.cat.categories), size))
    np.add.at(counts, (rows, codes[:, position]), 1)
    used = np.flatnonzero(counts.sum(0))
    shares = counts[:, used] / counts.sum(1, keepdims=True)
    order = np.lexsort((-shares.max(0), shares.argmax(0)))
    ax = _heatmap(ax, shares[:, order], "share of the cells of a row")
    names = [f"{short(str(name))} ({n:,.0f})" for name, n in zip(groups.cat.categories, counts.sum(1), strict=True)]
    name_rows(ax, names, "groups")
    name_rows(ax, [str(code) for code in used[order]], "codes", columns=True)
    ax.set(xlabel=ax.get_xlabel() or f"code at position {position}", ylabel=ax.get_ylabel() or (groupby or ""))
    return finish(ax, show=show, save=save)


def _codes(adata: AnnData, key: str) -> tuple[NDArray[np.int64], int]:
    """Codes (n, M), and how many there can be."""
    codes = stored_by(adata, "obsm", key, f"{key}_codes", model="CountVQVAE").astype(np.int64)
    return codes, int(stored(adata, key, "codebook_size", model="CountVQVAE"))


def _heatmap(ax: Axes | None, values: NDArray[np.float64], what: str) -> Axes:
    size = (
        side_for(values.shape[1], each=_EACH, margin=_MARGINS[0]),
        side_for(len(values), each=_ROW, margin=_MARGINS[1]),
    )
    ax = axes_or_new(ax, size=size)
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, aspect="auto", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=what, shrink=0.8)
    ax.spines[:].set_visible(False)
    return ax
