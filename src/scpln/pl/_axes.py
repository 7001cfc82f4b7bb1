"""What every figure does the same way: take axes or make them, read what was stored, show and save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes


def stored(adata: AnnData, key: str, name: str) -> Any:
    """``adata.uns[key][name]``, or an error that says how it gets there."""
    if key not in adata.uns or name not in adata.uns[key]:
        msg = (
            f"adata.uns[{key!r}] has no {name!r}. Run `model.annotate(key_added={key!r})` or "
            f"`scpln.tl.plnpca(adata, key_added={key!r})` first, or pass the key that was used as `key`."
        )
        raise KeyError(msg)
    return adata.uns[key][name]


def axes_or_new(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure."""
    return plt.subplots(figsize=(4.8, 3.4), layout="constrained")[1] if ax is None else ax


def finish(ax: Axes, *, show: bool | None, save: str | Path | None) -> Axes:
    """Save, show and return the axes.

    Parameters
    ----------
    ax
        What was drawn on.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write.
    """
    figure = ax.get_figure(root=True)
    if save is not None and figure is not None:
        figure.savefig(save, dpi=150, bbox_inches="tight")
    if plt.isinteractive() and save is None if show is None else show:
        plt.show()
    return ax
