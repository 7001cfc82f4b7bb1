"""How surely cells belong to the clusters of a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._axes import SEQUENTIAL, axes_or_new, finish, inches, name_rows, side_for
from ._stored import short, stored, stored_by, suggestion

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Columns of a heatmap of cells: of more cells, neighbours are averaged.
_MOST_COLUMNS = 1000
#: Groups that cells may be averaged in, and rows and columns up to which a table says its numbers.
_MOST_GROUPS, _MOST_WRITTEN = 200, 15
#: Width of a column that a number fits into.
_WRITTEN_INCHES = 0.4
#: Name of the group of cells that have none.
_MISSING = "missing"


def cluster_probabilities(
    adata: AnnData,
    *,
    key: str = "countgmvae",
    groupby: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the probabilities q(k | y) that cells belong to the components of a mixture.

    Of all cells, ordered by their most probable component, or the mean over the cells of each group.

    Parameters
    ----------
    adata
        Annotated by a mixture model.
    key
        Name of the results.
    groupby
        Column of ``obs`` with groups of cells, for instance known labels: one row for each. Components are then ordered
        by the group that they have the most of. By default there is a column for each cell; of more than 1,000 cells,
        for the mean over some neighbours in their order.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"clusters.pdf"``.

    Returns
    -------
    The axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.count_gmvae(
        ...     adata, layer="counts", n_components=6, n_latent=5, n_hidden=32, max_epochs=20, progress=False
        ... )
        >>> ax = scpln.pl.cluster_probabilities(adata, groupby="bulk_labels", show=False)
        >>> ax.images[0].get_array().shape
        (10, 6)
    """
    probabilities = stored_by(adata, "obsm", key, f"{key}_cluster_probs", model="CountGMVAE").astype(float)
    names = [short(str(name)) for name in stored(adata, key, "components", model="CountGMVAE")["names"]]
    if groupby is None:
        ax = axes_or_new(ax, size=(6.4, side_for(len(names), each=0.16, margin=1.6)))
        _draw_cells(ax, probabilities, names)
    else:
        groups = groups_of(adata, groupby)
        n_groups = len(groups.cat.categories)
        is_small = max(n_groups, len(names)) <= _MOST_WRITTEN
        size = (
            side_for(len(names), each=0.36 if is_small else 0.16, margin=2.8),
            side_for(n_groups, each=0.2, margin=1.6),
        )
        ax = axes_or_new(ax, size=size)
        _draw_groups(ax, probabilities, names, groups)
    ax.spines[:].set_visible(False)
    return finish(ax, show=show, save=save)


def _draw_cells(ax: Axes, probabilities: NDArray[np.float64], names: list[str]) -> None:
    cluster = probabilities.argmax(1)
    order = np.lexsort((-probabilities.max(1), cluster))
    n_cells = len(order)
    columns = np.array_split(order, min(n_cells, _MOST_COLUMNS))
    shown = np.column_stack([probabilities[cells].mean(0) for cells in columns])
    image = ax.imshow(
        shown,
        cmap=SEQUENTIAL,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(0, n_cells, len(names) - 0.5, -0.5),
    )
    name_rows(ax, names, "components")
    ax.set_xlabel(f"{n_cells:,} cells, by their most probable component")
    ax.set_ylabel(ax.get_ylabel() or "component")
    ax.set_xticks(np.cumsum(np.bincount(cluster, minlength=len(names))), labels=[])  # where components end
    ax.figure.colorbar(image, ax=ax, label="q(k | y)", shrink=0.8)


def _draw_groups(ax: Axes, probabilities: NDArray[np.float64], names: list[str], groups: pd.Series) -> None:
    codes = groups.cat.codes.to_numpy()
    sizes = np.bincount(codes, minlength=len(groups.cat.categories))
    means = np.array([probabilities[codes == code].mean(0) for code in range(len(sizes))])
    share = (sizes[:, None] * means)[groups.cat.categories != _MISSING]
    order = np.lexsort((-share.max(0), share.argmax(0)))
    means = means[:, order]
    image = ax.imshow(means, cmap=SEQUENTIAL, vmin=0, aspect="auto", interpolation="nearest")
    name_rows(
        ax, [f"{short(str(name))} ({n:,})" for name, n in zip(groups.cat.categories, sizes, strict=True)], "groups"
    )
    name_rows(ax, [names[number] for number in order], "components", columns=True)
    ax.set(xlabel=ax.get_xlabel() or "component", ylabel=ax.get_ylabel() or str(groups.name))
    if max(means.shape) <= _MOST_WRITTEN and inches(ax)[0] / means.shape[1] > _WRITTEN_INCHES:
        for (row, column), value in np.ndenumerate(means):
            if value >= 0.005:
                color = "white" if value > 0.5 * means.max() else "black"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    ax.figure.colorbar(image, ax=ax, label="mean q(k | y)", shrink=0.8)


def groups_of(adata: AnnData, groupby: str) -> pd.Series:
    """Groups of the cells, as categories that cells have; a last one for cells without."""
    if groupby not in adata.obs:
        msg = f"adata.obs has no {groupby!r} (groupby).{suggestion(groupby, list(adata.obs))}"
        raise KeyError(msg)
    groups = adata.obs[groupby].astype("category").cat.remove_unused_categories()
    if len(groups.cat.categories) > _MOST_GROUPS:
        msg = f"adata.obs[{groupby!r}] (groupby) has {len(groups.cat.categories):,} values: pass a column of labels."
        raise ValueError(msg)
    named = groups.cat.categories.difference([_MISSING], sort=False)
    if not len(named):
        msg = f"adata.obs[{groupby!r}] (groupby) has no values: pass a column of labels."
        raise ValueError(msg)
    return groups.cat.set_categories([*named, _MISSING]).fillna(_MISSING).cat.remove_unused_categories()
