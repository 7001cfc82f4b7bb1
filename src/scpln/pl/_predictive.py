"""Posterior-predictive checks: observed counts against such as the model would draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from ._axes import bare, finish, legend_above, panels
from ._stored import stored_by

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Kind = Literal["mean_variance", "zero_fraction", "library_size"]

#: Styles of observed and of replicated counts.
_OBSERVED: dict[str, Any] = {"marker": "o", "s": 12, "facecolors": "none", "edgecolors": "0.55", "linewidths": 0.7}
_REPLICATED: dict[str, Any] = {"marker": ".", "s": 8, "color": "black", "linewidths": 0}

#: Observed over replicated variance of the median gene from which on the figure says so.
_FAR_ABOVE = 1.5


def posterior_predictive(
    adata: AnnData,
    *,
    key: str = "plnpca",
    kind: Kind | Sequence[Kind] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | NDArray[np.object_]:
    """Draw observed counts against replicated ones, which :func:`scpln.tl.posterior_predictive` has drawn from a model.

    Where a model fits, points are on the dashed lines and the two clouds lie on each other.

    Parameters
    ----------
    adata
        Annotated by :func:`scpln.tl.posterior_predictive`.
    key
        Name of the results.
    kind
        What to draw, one panel each; by default all of

        ``"mean_variance"``
            each gene's mean and variance over cells, of observed and of replicated counts, with the line on which those
            of a Poisson distribution would be;
        ``"zero_fraction"``
            each gene's share of cells without a count;
        ``"library_size"``
            each cell's total count over the model's genes.
    ax
        Axes to draw on, instead of a new figure's: one for each panel.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"checks.pdf"``.

    Returns
    -------
    An array of axes; of one kind, the axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.model.setup_anndata(adata, layer="counts", size_factor_key="n_counts")
        >>> model = scpln.model.PLNPCA(adata, n_latent=5)
        >>> model.train(progress=False)
        >>> scpln.tl.posterior_predictive(model)
        >>> axes = scpln.pl.posterior_predictive(adata, show=False)
        >>> axes[1].get_xlabel()
        'observed zero fraction'
    """
    kinds = get_args(Kind) if kind is None else (kind,) if isinstance(kind, str) else tuple(kind)
    unknown = [name for name in kinds if name not in _DRAW]
    if unknown or not kinds:
        msg = f"kind={kind!r} is not available; choose from {list(_DRAW)}, or None for all of them."
        raise ValueError(msg)
    axes = panels(ax, len(kinds), columns=3, size=(3.6, 3.6))
    for one, name in zip(axes, kinds, strict=True):
        _DRAW[name](one, adata, key)
        bare(one)
    return finish(axes[0] if isinstance(kind, str) else axes, show=show, save=save)


def _draw_mean_variance(ax: Axes, adata: AnnData, key: str) -> None:
    mean, variance = (_pair(adata, "var", key, name) for name in ("mean", "variance"))
    for number, (label, style) in enumerate({"observed": _OBSERVED, "replicated": _REPLICATED}.items()):
        shown = (mean[number] > 0) & (variance[number] > 0)
        ax.scatter(mean[number][shown], variance[number][shown], label=label, rasterized=True, **style)
    ax.set(xscale="log", yscale="log", xlabel="mean count of a gene", ylabel="variance over cells")
    ratio = np.median(variance[0][varies] / variance[1][varies]) if (varies := variance.min(0) > 0).any() else 1.0
    if ratio > _FAR_ABOVE:
        likelihood = dict(adata.uns[key].get("params", {})).get("likelihood", "")
        hint = ":\nthey vary more than Poisson counts; try likelihood='nb'" if likelihood == "poisson" else ""
        ax.text(
            0.03,
            0.97,
            f"observed variances are {ratio:.1f} times\nthe replicated ones (median gene){hint}",
            transform=ax.transAxes,
            va="top",
            fontsize="small",
        )
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends, color="0.3", linestyle="--", linewidth=1, label="Poisson", scalex=False, scaley=False)
    legend_above(ax)


def _draw_zero_fraction(ax: Axes, adata: AnnData, key: str) -> None:
    _scatter_pair(ax, *_pair(adata, "var", key, "zero_fraction"), name="zero fraction")


def _draw_library_size(ax: Axes, adata: AnnData, key: str) -> None:
    observed, replicated = _pair(adata, "obs", key, "library_size")
    _scatter_pair(
        ax, observed, replicated, name="library size", log=bool((observed > 0).all() and (replicated > 0).all())
    )


_DRAW = {
    "mean_variance": _draw_mean_variance,
    "zero_fraction": _draw_zero_fraction,
    "library_size": _draw_library_size,
}


def _pair(adata: AnnData, slot: Literal["obs", "var"], key: str, name: str) -> NDArray[np.float64]:
    """Observed and replicated values (2 × m) of the genes or cells that have them."""
    line = f"scpln.tl.posterior_predictive(model, adata, key_added={key!r})"
    pair = np.array(
        [
            stored_by(adata, slot, key, f"{key}_ppc_{name}_{kind}", line=line).astype(float)
            for kind in ("observed", "replicated")
        ]
    )
    return pair[:, np.isfinite(pair).all(0)]


def _scatter_pair(
    ax: Axes, observed: NDArray[np.float64], replicated: NDArray[np.float64], *, name: str, log: bool = False
) -> None:
    """Replicated against observed values, with the line on which both are the same."""
    size = float(np.clip(10_000 / max(len(observed), 1), 1, 12))
    ax.scatter(observed, replicated, marker="o", s=size, color="0.35", alpha=0.6, linewidths=0, rasterized=True)
    if log:
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:,g}")
            axis.set_minor_locator(NullLocator())
    ends = min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])
    ax.plot(ends, ends, color="black", linestyle="--", linewidth=1)
    ax.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"observed {name}", ylabel=f"replicated {name}")
