"""How many latent dimensions there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ._axes import axes_or_new, bare, finish, legend_above

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

#: Criteria that can be drawn: what they are called, and their line.
_LINES = {
    "held_out": ("held-out log-likelihood", "black", "-"),
    "bic": ("BIC", "0.45", "--"),
    "icl": ("ICL", "0.45", ":"),
}


def rank_selection(
    selection: AnnData | Any,
    *,
    key: str = "rank_selection",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    r"""Draw what speaks for each rank: how far each criterion is below its best, nats per cell, and the rank that was chosen.

    Parameters
    ----------
    selection
        What :func:`scpln.tl.select_rank` returned, or the data that it annotated.
    key
        Name of the results.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"ranks.pdf"``.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        There is no selection of this name.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=60, n_latent=3, density=0.5)
        >>> found = scpln.tl.select_rank(adata, range(1, 6), size_factor_key="size_factor", progress=False)
        >>> ax = scpln.pl.rank_selection(adata, show=False)
        >>> ax.get_xlabel()
        'rank'
    """
    table, best, n_cells = _found(selection, key)
    ranks = np.asarray(table["rank"], dtype=int)
    ax = axes_or_new(ax)
    for name, (label, color, style) in _LINES.items():
        values = np.asarray(table[name], dtype=float) / (1 if name == "held_out" else n_cells)
        if np.isfinite(values).any():
            below = np.nanmax(values) - values
            ax.plot(ranks, below, color=color, linestyle=style, marker=".", linewidth=1, label=label)
            if name == "held_out":
                error = np.asarray(table["held_out_se"], dtype=float)
                ax.fill_between(ranks, below - error, below + error, color="0.85", linewidth=0, zorder=0)
    ax.axvline(best, color="0.3", linewidth=1, linestyle=(0, (1, 2)), label=f"chosen: {best}")
    ax.set(xlabel="rank", ylabel="below the best\n(nats per cell)")
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(bottom=-0.2)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    legend_above(ax)
    bare(ax)
    return finish(ax, show=show, save=save)


def _found(selection: Any, key: str) -> tuple[dict[str, Any], int, int]:
    """The table by column, the rank that was chosen, and the number of cells."""
    if hasattr(selection, "table"):
        table = {"rank": selection.table.index, **{name: selection.table[name] for name in selection.table.columns}}
        return table, int(selection.best), int(selection.model.adata.n_obs)
    if key not in selection.uns:
        msg = f"adata.uns has no {key!r}. Call scpln.tl.select_rank(adata, key_added={key!r}) first."
        raise KeyError(msg)
    found = selection.uns[key]
    return dict(found["table"]), int(found["best"]), int(selection.n_obs)
