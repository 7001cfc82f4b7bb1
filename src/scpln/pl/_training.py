"""How training went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from ._axes import axes_or_new, finish, stored

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes


def history(
    adata: AnnData,
    *,
    key: str = "plnpca",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    r"""Draw how far the bound was below its final value, after each iteration.

    Parameters
    ----------
    adata
        Annotated by a model.
    key
        Name of the results.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"history.pdf"``.

    Returns
    -------
    The axes.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=2, progress=False)
    >>> scpln.pl.history(adata, show=False).get_ylabel()
    'bound below its final value\n(nats per cell)'
    """
    bound = np.asarray(stored(adata, key, "history")["elbo"], dtype=float)
    ax = axes_or_new(ax)
    below = bound.max() - bound
    iterations = np.arange(1, len(bound) + 1)
    ax.plot(iterations[below > 0], below[below > 0], color="black", marker=".", linewidth=1)
    ax.set_yscale("log")
    ax.set(
        xlabel="iteration",
        ylabel="bound below its final value\n(nats per cell)",
        title=f"final: {bound[-1]:.2f} nats per cell",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    return finish(ax, show=show, save=save)
