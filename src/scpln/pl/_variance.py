"""How much of the latent variance each component explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import PercentFormatter

from ._axes import axes_or_new, bare, finish
from ._stored import variance_shares

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes


def variance_explained(
    adata: AnnData,
    *,
    key: str = "plnpca",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw each component's share of the variance of the log-rates that the latent state explains.

    Parameters
    ----------
    adata
        Annotated by a model with a linear decoder.
    key
        Name of the results.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"variance.pdf"``.

    Returns
    -------
    The axes.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
        >>> ax = scpln.pl.variance_explained(adata, show=False)
        >>> ax.get_xlabel()
        'component'
    """
    share = variance_shares(adata, key)
    ax = axes_or_new(ax)
    components = np.arange(1, len(share) + 1)
    ax.bar(components, share, color="0.6")
    ax.set(xlabel="component", ylabel="share of latent variance", xlim=(0.4, max(len(share), 4) + 0.6))
    ax.set_xticks(components if len(share) <= 15 else components[:: -(-len(share) // 10)])
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    bare(ax)
    return finish(ax, show=show, save=save)
