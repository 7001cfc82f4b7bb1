"""Correlations of genes' log-rates with each other, and with the components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Circle
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from ._axes import SIGNED, axes_or_new, finish, name_inches, name_rows, side_for
from ._labels import place_labels
from ._stored import check_pair, component_names, contributions, find_genes, loadings_of, short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ._stored import SortBy

#: Genes up to which leaves of the clustering are ordered exactly; the time grows with the cube.
_MOST_TO_ORDER = 300
#: Inches of the circle's figure, and of its radius.
_SIDE, _UNIT = 5.2, 1.85
#: Shape of arrows, in units of the figure's height.
_ARROW: dict[str, Any] = {
    "units": "height",
    "width": 0.003,
    "headwidth": 5.5,
    "headlength": 7,
    "headaxislength": 6.5,
    "zorder": 2,
}


def correlation_circle(
    adata: AnnData,
    *,
    key: str = "plnpca",
    components: tuple[int, int] = (1, 2),
    genes: Sequence[str] | str | None = None,
    n_genes: int = 20,
    mask_var: str | NDArray[np.bool_] | None = None,
    sort_by: SortBy = "expression",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    r"""Draw the correlations of genes' log-rates with two components.

    .. math:: \text{corr}(\eta_j, z_k) = C_{jk} / \lVert C_j \rVert

    of the part of the log-rates that the latent state explains. A gene whose arrow reaches the circle varies with these
    two components only.

    Parameters
    ----------
    adata
        Annotated by a model with a linear decoder; of a joint model, one modality.
    key
        Name of the results.
    components
        The two components, numbered from 1.
    genes
        Names of genes; by default those that vary most along the two components (`sort_by`).
    n_genes
        How many these are.
    mask_var
        Column of ``var`` that says which genes to choose from, or a mask over them.
    sort_by
        Which genes vary most: ``"expression"`` by log(1 + rate), in which genes that few cells have hardly vary,
        ``"loading"`` by log-rate.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"circle.pdf"``.

    Returns
    -------
    The axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
        >>> ax = scpln.pl.correlation_circle(adata, n_genes=12, show=False)
        >>> ax.get_xlabel()
        'correlation with component 1 (... %)'
    """
    names, loadings = loadings_of(adata, key, mask_var)
    pair = check_pair(components, loadings.shape[1], key)
    columns = [number - 1 for number in pair]
    plane = loadings[:, columns]
    importance = np.linalg.norm(contributions(adata, key, mask_var, sort_by=sort_by)[0][:, columns], axis=1)
    chosen = _most(importance, n_genes) if genes is None else find_genes(genes, names)
    chosen = chosen[np.argsort(-importance[chosen], kind="stable")]
    size = np.linalg.norm(loadings[chosen], axis=1, keepdims=True)
    tips = np.divide(plane[chosen], size, out=np.zeros((len(chosen), 2)), where=size > 0)

    shown = [short(name) for name in names[chosen]]
    aside = name_inches(shown) / 2  # names lie outside the circle, at its sides more than above and below
    ax = axes_or_new(ax, size=(_SIDE + 2 * aside, _SIDE))
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.5", linewidth=1))
    origin = np.zeros(len(tips))
    ax.quiver(origin, origin, *tips.T, angles="xy", scale_units="xy", scale=1, color="0.35", **_ARROW)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    across, up = component_names(adata, key, pair)
    ax.set(
        xlim=(-1.25 - aside / _UNIT, 1.25 + aside / _UNIT),
        ylim=(-1.25, 1.25),
        aspect="equal",
        xticks=[-1, 0, 1],
        yticks=[-1, 0, 1],
    )
    ax.set(xlabel=f"correlation with {across}", ylabel=f"correlation with {up}")
    along = (tips[:, None] * np.linspace(0.1, 1, 12)[:, None]).reshape(-1, 2)
    place_labels(ax, tips, shown, avoid=along)
    return finish(ax, show=show, save=save)


def gene_correlation(
    adata: AnnData,
    *,
    key: str = "plnpca",
    genes: Sequence[str] | str | None = None,
    n_genes: int = 30,
    mask_var: str | NDArray[np.bool_] | None = None,
    sort_by: SortBy = "expression",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    r"""Draw the correlations between genes' log-rates as a heatmap, with similar genes side by side.

    .. math:: \text{corr}(\eta_j, \eta_l) = C_j \cdot C_l / (\lVert C_j \rVert \lVert C_l \rVert)

    of the part of the log-rates that the latent state explains. Rows are ordered by hierarchical clustering with average
    linkage. Darker is more positive, in grey too.

    Parameters
    ----------
    adata
        Annotated by a model with a linear decoder; of a joint model, one modality.
    key
        Name of the results.
    genes
        Names of genes; by default those that vary most with the latent state (`sort_by`).
    n_genes
        How many these are.
    mask_var
        Column of ``var`` that says which genes to choose from, or a mask over them.
    sort_by
        Which genes vary most: ``"expression"`` by log(1 + rate), in which genes that few cells have hardly vary,
        ``"loading"`` by log-rate.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"correlation.pdf"``.

    Returns
    -------
    The axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
        >>> ax = scpln.pl.gene_correlation(adata, n_genes=25, show=False)
        >>> ax.images[0].get_array().shape
        (25, 25)
    """
    names, loadings = loadings_of(adata, key, mask_var)
    importance = np.linalg.norm(contributions(adata, key, mask_var, sort_by=sort_by)[0], axis=1)
    chosen = _most(importance, n_genes) if genes is None else find_genes(genes, names)
    correlation = _correlations(loadings[chosen])
    order = _similar_together(correlation)
    correlation, chosen = correlation[np.ix_(order, order)], chosen[order]

    side = side_for(len(chosen), most=10)
    ax = axes_or_new(ax, size=(side + 1, side))
    image = ax.imshow(correlation, cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
    shown = [short(name) for name in names[chosen]]
    name_rows(ax, shown, "genes")
    name_rows(ax, shown, "genes", columns=True)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label="correlation of log-rates", shrink=0.6, ticks=[-1, -0.5, 0, 0.5, 1])
    return finish(ax, show=show, save=save)


def _most(importance: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Positions of the `n` most important genes."""
    if n < 1:
        msg = f"n_genes={n}, but it must be at least 1."
        raise ValueError(msg)
    return np.argsort(-importance, kind="stable")[:n]


def _correlations(loadings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations of log-rates (genes × genes); 0 with a gene whose log-rate does not vary."""
    size = np.linalg.norm(loadings, axis=1, keepdims=True)
    unit = np.divide(loadings, size, out=np.zeros_like(loadings), where=size > 0)
    correlation = np.clip(unit @ unit.T, -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


def _similar_together(correlation: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order of the rows in which similar ones are neighbours."""
    if len(correlation) < 3:
        return np.arange(len(correlation))
    distances = squareform(1 - correlation, checks=False)
    tree = linkage(distances, method="average", optimal_ordering=len(correlation) <= _MOST_TO_ORDER)
    return leaves_list(tree)
