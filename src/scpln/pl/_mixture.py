"""The components of a mixture in latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

from ._axes import finish
from ._labels import place_labels
from ._latent import latent
from ._stored import check_pair, latent_states, short, stored

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


#: Standard deviations and line styles of the ellipses; of many components, only the first one is drawn.
_ELLIPSES = ((1, "-"), (2, ":"))
_FEW = 20


def mixture_components(
    adata: AnnData,
    *,
    key: str = "countgmvae",
    components: tuple[int, int] = (1, 2),
    color: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw the components of a mixture over the cells in two latent dimensions.

    Each component has its name, its mean, and ellipses at one standard deviation (solid) and two (dotted; of up to 20
    components) of its marginal distribution in the two dimensions, which hold 39 and 86 % of it.

    Parameters
    ----------
    adata
        Annotated by a mixture model.
    key
        Name of the results.
    components
        The two latent dimensions, numbered from 1.
    color
        Column of ``obs`` or gene whose values colour the cells; by default, their most probable component, whose ellipse has its colour.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"components.pdf"``.
    **kwargs
        Passed to :func:`scanpy.pl.embedding`.

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
        >>> ax = scpln.pl.mixture_components(adata, show=False)
        >>> sorted(text.get_text() for text in ax.texts)
        ['0', '1', '2', '3', '4', '5']
    """
    mixture = stored(adata, key, "components", model="CountGMVAE")
    n_latent = latent_states(adata, key, model="CountGMVAE").shape[1]
    pair = [number - 1 for number in check_pair(components, n_latent, key)]
    means, covariances = mixture["means"][:, pair], mixture["covariances"][:, pair][:, :, pair]
    by_cluster = color in (None, f"{key}_cluster") and f"{key}_cluster" in adata.obs
    settings = {
        "na_color": "0.75",
        **({"legend_loc": "none", "title": "", "alpha": 0.5} if by_cluster else {}),
        **kwargs,
    }
    drawn = latent(adata, key=key, components=components, color=color, ax=ax, show=False, **settings)
    assert not isinstance(drawn, np.ndarray)
    own = adata.uns.get(f"{key}_cluster_colors", ()) if by_cluster else ()
    edges = list(own) if len(own) == len(means) else ["black"] * len(means)
    for mean, covariance, edge in zip(means, covariances, edges, strict=True):
        for sds, style in _ELLIPSES[: 2 if len(means) <= _FEW else 1]:
            drawn.add_patch(_ellipse(mean, covariance, sds, style, edge))
    drawn.plot(*means.T, linestyle="", marker="+", color="black", markersize=5)
    drawn.autoscale_view()
    order = np.argsort(-np.asarray(mixture["weights"]), kind="stable")
    names = [short(str(mixture["names"][number])) for number in order]
    centre = means.mean(0)
    place_labels(drawn, means[order], names, centre=(centre[0], centre[1]), fontsize=10)
    return finish(drawn, show=show, save=save)


def _ellipse(mean: NDArray[np.float64], covariance: NDArray[np.float64], sds: float, style: str, edge: str) -> Ellipse:
    """Where a bivariate Gaussian is so many standard deviations from its mean."""
    variance, axes = np.linalg.eigh(covariance)
    width, height = 2 * sds * np.sqrt(np.maximum(variance, 0))
    angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    return Ellipse(
        (mean[0], mean[1]),
        width,
        height,
        angle=angle,
        fill=False,
        edgecolor=edge,
        linestyle=style,
        linewidth=1.6,
        path_effects=[withStroke(linewidth=3.2, foreground="white", alpha=0.7)],
    )
