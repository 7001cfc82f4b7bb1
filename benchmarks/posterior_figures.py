"""Figures of the posterior comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from posterior_bias import ERRORS
from posterior_fits import EXACT, FLOWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    Row = dict[str, Any]

#: Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = {
    "meanfield": "#999999",
    "meanfield, best axes": "#555555",
    "fullrank": "#000000",
    "iaf": "#0072B2",
    "sylvester": "#D55E00",
    "nsf": "#009E73",
    "realnvp": "#56B4E9",
    "maf": "#CC79A7",
    "planar": "#E69F00",
    "radial": "#F0E442",
    "iw8": "#CC79A7",
    "amortized": "#CC79A7",
    "amortized sylvester": "#E69F00",
    EXACT: "#56B4E9",
}
LABELS = {
    "meanfield": "mean-field",
    "meanfield, best axes": "mean-field, best axes",
    "fullrank": "full rank",
    "iw8": "importance-weighted (8)",
    EXACT: "maximum likelihood",
}
SETTINGS = {
    "n_samples": "draws of each cell in a step",
    "n_transforms": "transforms",
    "n_steps": "steps",
    "learning_rate": "learning rate",
}


def draw_figures(folder: Path, gaps: Sequence[Row], sweeps: dict[str, list[Row]], biases: Sequence[Row]) -> None:
    """Write `gap.png`, `settings.png` and `bias.png`, as far as there are results."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "savefig.dpi": 160}
    if gaps:
        _gap(folder / "gap.png", gaps)
    if any(len(rows) > 1 for rows in sweeps.values()):
        _settings(folder / "settings.png", sweeps)
    if biases:
        _bias(folder / "bias.png", biases)


def _gap(path: Path, rows: Sequence[Row]) -> None:
    """Gap by posterior, one line for each regime."""
    import matplotlib.pyplot as plt

    regimes = list(dict.fromkeys(row["regime"] for row in rows))
    methods = ["meanfield", "meanfield, best axes", "fullrank", *FLOWS, "amortized", "amortized sylvester"]
    figure, ax = plt.subplots(figsize=(8, 0.42 * len(regimes) + 1.6), layout="constrained")
    for method in methods:
        points = [(regimes.index(r["regime"]), r["gap"], r["gap_se"]) for r in rows if r["method"] == method]
        if points:
            where, gap, se = np.array(points).T
            is_flow = method in FLOWS
            ax.errorbar(
                np.maximum(gap, 1e-4),
                where + (0.12 if is_flow else -0.12 if "amortized" in method else 0.0),
                xerr=np.minimum(2 * se, 0.99 * np.maximum(gap, 1e-4)),
                fmt="o" if not is_flow else "D",
                color=COLOURS[method],
                markersize=4 if is_flow else 6,
                label=LABELS.get(method, method),
                linewidth=1,
            )
    ax.set(xscale="log", xlabel="gap to the log-likelihood, nats per cell", yticks=range(len(regimes)))
    ax.set_yticklabels(regimes)
    ax.invert_yaxis()
    ax.grid(axis="both", alpha=0.25)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path)
    plt.close(figure)


def _settings(path: Path, sweeps: dict[str, list[Row]]) -> None:
    """Gap against each setting, and against time."""
    import matplotlib.pyplot as plt

    shown = [name for name in SETTINGS if len(sweeps.get(name, [])) > 1]
    figure, axes = plt.subplots(
        1, len(shown) + 1, figsize=(2.7 * (len(shown) + 1), 2.7), layout="constrained", sharey=True
    )
    for ax, name in zip(axes, shown, strict=False):
        _lines(ax, sweeps[name], "value")
        ax.set(xscale="log" if name != "n_transforms" else "linear", xlabel=SETTINGS[name])
    for name, marker in zip(shown, "osD^", strict=False):
        for row in sweeps[name]:
            axes[-1].plot(row["cpu_seconds"], row["gap"], marker, color=COLOURS[row["method"]], markersize=4)
    axes[-1].set(xscale="log", xlabel="processor seconds of the fit")
    axes[0].set(ylabel="gap, nats per cell", yscale="log")
    axes[0].legend(frameon=False)
    for ax in axes:
        ax.grid(alpha=0.25)
    figure.savefig(path)
    plt.close(figure)


def _lines(ax: Axes, rows: Sequence[Row], x: str) -> None:
    for method in dict.fromkeys(row["method"] for row in rows):
        points = [(row[x], row["gap"], row["elbo_se"]) for row in rows if row["method"] == method]
        at, gap, se = np.array(points, dtype=float).T
        ax.errorbar(at, gap, yerr=2 * se, fmt="o-", color=COLOURS[method], markersize=4, label=method)


def _bias(path: Path, rows: Sequence[Row]) -> None:
    """Errors of the estimands under each posterior, with two standard errors."""
    import matplotlib.pyplot as plt

    regimes = list(dict.fromkeys(row["regime"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = plt.subplots(
        1, len(ERRORS), figsize=(3.1 * len(ERRORS), 0.5 * len(regimes) + 1.8), layout="constrained", sharey=True
    )
    for ax, (name, what) in zip(axes, ERRORS.items(), strict=True):
        for k, method in enumerate(methods):
            chosen = [r for r in rows if (r["estimand"], r["method"]) == (name, method)]
            where = np.array([regimes.index(r["regime"]) for r in chosen]) + 0.12 * (k - (len(methods) - 1) / 2)
            ax.errorbar(
                [r["bias"] for r in chosen],
                where,
                xerr=[2 * r["bias_se"] for r in chosen],
                fmt="o",
                color=COLOURS[method],
                markersize=4,
                linewidth=1,
                label=LABELS.get(method, method),
            )
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set(title=name, xlabel=what, yticks=range(len(regimes)))
        ax.xaxis.label.set_size(7)
        ax.set_yticklabels(regimes)
        ax.grid(axis="x", alpha=0.25)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(methods), frameon=False)
    figure.savefig(path)
    plt.close(figure)
