"""How close posteriors are to the exact ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._axes import bare, finish, panels
from ._latent import draw_embedding
from ._stored import component_names, stored_by

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Pareto k̂ above which importance sampling, and with it the posterior, cannot be trusted (Vehtari et al., 2024).
UNRELIABLE = 0.7
#: What is drawn of each cell: name of the column, and its label.
_COLUMNS = {
    "pareto_k": "Pareto k̂",
    "gap": "IW bound − ELBO (nats)",
    "ess": "effective sample size (share of draws)",
}
_BINS = 40
#: k̂ above which its size no longer matters, and which may be ∞.
_LARGEST_K = 1.5


def posterior_diagnostics(
    adata: AnnData,
    *,
    key: str = "plnpca",
    basis: str | None = None,
    ax: Sequence[Axes] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    **kwargs: Any,
) -> NDArray[np.object_]:
    """Draw how close each cell's posterior is to the exact one.

    Three panels: the shape k̂ of the tail of importance weights, above 0.7 of which a cell's bounds and expectations are
    unreliable; how much importance sampling gains over the ELBO, on a scale of counts that shows few cells too; and the
    effective sample size of the weights.

    Parameters
    ----------
    adata
        Annotated by a model, with ``diagnostics=True``.
    key
        Name of the results.
    basis
        Draw the cells in this embedding, for instance ``"umap"`` or ``"X_plnpca"``, in place of histograms.
    ax
        Three axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"posteriors.pdf"``.
    **kwargs
        Passed to :func:`scanpy.pl.embedding`, if there is a `basis`.

    Returns
    -------
    An array of three axes.

    References
    ----------
    A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.plnpca(
        ...     adata, layer="counts", size_factor_key="n_counts", n_latent=5, diagnostics=True, progress=False
        ... )
        >>> axes = scpln.pl.posterior_diagnostics(adata, show=False)
        >>> axes[0].get_title()
        '... % of 700 cells above 0.7'
    """
    line = f"model.annotate(key_added={key!r}, diagnostics=True)"
    found = {name: stored_by(adata, "obs", key, f"{key}_{name}", line=line).astype(float) for name in _COLUMNS}
    axes = panels(ax, len(_COLUMNS), columns=3, size=(3.6, 3.2) if basis is None else (4.2, 3.8))
    for one, (name, values) in zip(axes, found.items(), strict=True):
        if basis is None:
            _histogram(one, values, _COLUMNS[name], _LARGEST_K if name == "pareto_k" else np.inf)
        else:
            limits = {"vmin": 0, "vmax": 1} if name != "gap" else {"vmax": _upper(values)}
            settings = {"title": _COLUMNS[name], **limits, **kwargs}
            draw_embedding(adata, one, basis=basis, color=f"{key}_{name}", **settings)
            if basis.removeprefix("X_") == key:
                across, up = component_names(adata, key, (1, 2))
                one.set(xlabel=across, ylabel=up)
    known = found["pareto_k"][~np.isnan(found["pareto_k"])]
    if basis is None and len(known):
        axes[0].axvline(UNRELIABLE, color="black", linestyle="--", linewidth=1)
        axes[0].set_title(f"{100 * (known > UNRELIABLE).mean():.1f} % of {len(known):,} cells above {UNRELIABLE}")
        axes[0].title.set_fontsize("medium")
    if basis is None:
        axes[1].set_yscale("log")
    return finish(axes, show=show, save=save)


def _histogram(ax: Axes, values: NDArray[np.float64], label: str, most: float) -> None:
    """Histogram of the values; the last bar has those above `most` too, and the label says so."""
    n_above = int((values > most).sum())
    n_below = int((values < 0).sum())
    if n_below:
        label += f"\n({n_below:,} below 0: less than the noise of the draws)"
    ax.hist(np.minimum(values[~np.isnan(values)], most), bins=_BINS, color="0.6")
    ax.set(xlabel=f"{label}\n(last bar: {n_above:,} above {most:g})" if n_above else label, ylabel="cells")
    bare(ax)


def _upper(values: NDArray[np.float64]) -> float:
    """End of a colour scale that a few extreme cells do not use up."""
    known = values[np.isfinite(values)]
    return float(np.percentile(known, 99)) if len(known) else 1.0
