"""Genes that make up the components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._axes import bare, finish, name_inches, name_rows, panels, side_for
from ._stored import check_components, component_names, contributions, loadings_of, short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ._stored import SortBy

#: Panels in a row of a new figure.
_COLUMNS = 5


def loadings(
    adata: AnnData,
    *,
    key: str = "plnpca",
    components: int | Sequence[int] | None = None,
    n_genes: int = 10,
    mask_var: str | NDArray[np.bool_] | None = None,
    sort_by: SortBy = "expression",
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | NDArray[np.object_]:
    """Draw the genes that rise most and fall most in expression along each component.

    Bars are changes of log(1 + rate) with the component, whose standard deviation is about 1, as loadings of a PCA of
    log-normalised counts are, or of the log-rate (`sort_by`). Each component has its own scale.

    Parameters
    ----------
    adata
        Annotated by a model with a linear decoder; of a joint model, one modality.
    key
        Name of the results.
    components
        Numbers of components, from 1; by default all. One panel each.
    n_genes
        Genes at either end: so many that rise most, and as many that fall most.
    mask_var
        Column of ``var`` that says which genes to choose from, or a mask over them.
    sort_by
        ``"expression"`` for what a gene contributes to the variance of expression along a component, its loading on the scale
        of log(1 + rate) (:meth:`scpln.model.PLNPCA.get_expression_loadings`), which is drawn. A gene that few cells
        have contributes little, however large its loading. ``"loading"`` for loadings on the scale of log-rates, which
        are large, and uncertain, for genes with few counts.
    ax
        Axes to draw on, instead of a new figure's: one for each panel.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"loadings.pdf"``.

    Returns
    -------
    An array of axes, one for each component; of one number, the axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
        >>> axes = scpln.pl.loadings(adata, components=[1, 2], n_genes=8, show=False)
        >>> [len(ax.patches) for ax in axes]
        [16, 16]
    """
    names, _ = loadings_of(adata, key, mask_var)
    values, what = contributions(adata, key, mask_var, sort_by=sort_by)
    numbers = check_components(components, values.shape[1])
    chosen = [extremes(values[:, number - 1], n_genes) for number in numbers]
    height = side_for(max(map(len, chosen)), each=0.13, margin=0.9)
    longest = name_inches([short(name) for genes in chosen for name in names[genes]])
    axes = panels(ax, len(numbers), columns=_COLUMNS, size=(1.8 + longest, height))
    titles = component_names(adata, key, numbers)
    for one, number, genes, title in zip(axes, numbers, chosen, titles, strict=True):
        value = values[genes, number - 1]
        one.barh(range(len(genes)), value, color=np.where(value > 0, "0.35", "0.65"), height=0.75)
        one.axvline(0, color="black", linewidth=0.8)
        one.set(title=title, xlabel=what, ylim=(len(genes) - 0.4, -0.6))
        one.title.set_fontsize("medium")
        one.locator_params(axis="x", nbins=3)
        name_rows(one, [short(name) for name in names[genes]], "genes")
        bare(one)
    one_panel = components is not None and np.ndim(components) == 0
    return finish(axes[0] if one_panel else axes, show=show, save=save)


def extremes(values: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Positions of up to `n` of the largest positive and `n` of the largest negative values, in falling order.

    Examples
    --------
    >>> extremes(np.array([0.1, -2.0, 3.0, 1.0, 0.0]), 2)
    array([2, 3, 1])
    """
    if n < 1:
        msg = f"n_genes={n}, but it must be at least 1."
        raise ValueError(msg)
    order = np.argsort(-values, kind="stable")
    positive, negative = order[values[order] > 0], order[values[order] < 0]
    return np.concatenate([positive[:n], negative[-n:]])
