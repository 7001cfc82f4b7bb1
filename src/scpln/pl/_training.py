"""How training went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ._axes import axes_or_new, bare, finish, legend_above
from ._stored import stored

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes


#: Steps that one entry of a stochastic history averages over.
STEPS_PER_ENTRY = 10


def history(
    adata: AnnData,
    *,
    key: str = "plnpca",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    r"""Draw how training went.

    Of Newton's iterations, how far the bound was below its final value after each. Of stochastic training, the bound
    it maximises, averaged over ten steps each, with the bound of the Gaussian posteriors that it started from; of an
    autoencoder, the bounds of training and of validation cells after each epoch, and the epoch whose weights are kept.

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
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
        >>> ax = scpln.pl.history(adata, show=False)
        >>> ax.get_ylabel()
        'bound below its final value\n(nats per cell)'
    """
    history = dict(stored(adata, key, "history"))
    if "objective" not in adata.uns[key]:  # written by version 0.1.0, whose bounds of epochs were minus the bound
        history |= {name: -np.asarray(history[name]) for name in ("elbo_train", "elbo_validation") if name in history}
    ax = axes_or_new(ax)
    if "elbo_train" in history:
        _draw_epochs(ax, history, dict(adata.uns[key].get("training", {})).get("best_epoch"))
    elif "stochastic_bound" in history:
        _draw_stochastic(ax, history)
    else:
        _draw_newton(ax, history)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    bare(ax)
    return finish(ax, show=show, save=save)


def _draw_epochs(ax: Axes, history: dict[str, Any], kept: int | None) -> None:
    for name, label, color in (("train", "training cells", "0.6"), ("validation", "validation cells", "black")):
        if f"elbo_{name}" in history:
            bound = np.asarray(history[f"elbo_{name}"], dtype=float)
            marker = "." if len(bound) == 1 else ""  # one point makes no line
            ax.plot(np.arange(1, len(bound) + 1), bound, color=color, linewidth=1, label=label, marker=marker)
    if kept is not None and np.isfinite(kept):
        label = f"epoch {int(kept):,}, whose weights are kept"
        ax.axvline(int(kept), color="0.3", linestyle="--", linewidth=1, label=label)
    ax.set(xlabel="epoch", ylabel="bound (nats per cell)")
    ax.ticklabel_format(axis="y", useOffset=False)
    legend_above(ax)


def _draw_newton(ax: Axes, history: dict[str, Any]) -> None:
    bound = np.asarray(history["elbo"], dtype=float)
    below = bound.max() - bound
    iterations = np.arange(1, len(bound) + 1)
    ax.plot(iterations[below > 0], below[below > 0], color="black", marker=".", linewidth=1)
    ax.set_yscale("log")
    ax.set(
        xlabel="iteration",
        ylabel="bound below its final value\n(nats per cell)",
        title=f"final: {bound[-1]:.2f} nats per cell".replace("-", "−"),
    )


def _draw_stochastic(ax: Axes, history: dict[str, Any]) -> None:
    bound = np.asarray(history["stochastic_bound"], dtype=float)
    ax.plot(
        STEPS_PER_ENTRY * np.arange(1, len(bound) + 1), bound, color="black", linewidth=1, label="stochastic training"
    )
    ax.axhline(float(history["elbo"][-1]), color="0.5", linestyle="--", linewidth=1, label="Gaussian posteriors")
    ax.set(xlabel="step", ylabel="bound (nats per cell)")
    ax.ticklabel_format(axis="y", useOffset=False)
    legend_above(ax)
