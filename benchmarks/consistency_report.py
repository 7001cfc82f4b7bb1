"""Tables and the figure of the consistency study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from consistency_methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from resume import Job

#: Estimands: what their error is, in words.
ERRORS = {
    "variance": "Σ_jj, relative",
    "covariance": "Σ_jk, slope − 1",
    "intercept": "intercepts, nats",
    "effect": "effects, slope − 1",
}
NAMES = {"n": "cells", "p": "genes", "q": "dimensions", "level": "zeros"}
COLOURS = ("#999999", "#000000", "#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#009E73", "#F0E442")


def report(results: Sequence[dict[str, Any]], out: Path, centre: Job, varied: Mapping[str, Iterable[float]]) -> None:
    """Print a table for each estimand, and draw the figure."""
    good = [result for result in results if "variance" in result]
    for name, words in ERRORS.items():
        print(f"\n{words}: mean error over sets ± standard error\n")
        print("| setting | zeros | " + " | ".join(METHODS) + " |")
        print("|" + "---|" * (len(METHODS) + 2))
        for setting in _settings(centre, varied):
            some = _of(good, setting)
            if some:
                zeros = np.mean([result["zeros"] for result in some])
                cells = [_cell([r[name] for r in some if r["job"]["method"] == method]) for method in METHODS]
                shown = f"{setting['n']:,} × {setting['p']}, q = {setting['q']}"
                print(f"| {shown} | {zeros:.0%} | " + " | ".join(cells) + " |")
    _draw(good, out / "consistency.png", centre, varied)


def _settings(centre: Job, varied: Mapping[str, Iterable[float]]) -> list[Job]:
    found = [centre | {name: value} for name, values in varied.items() for value in values]
    return [job for i, job in enumerate(found) if job not in found[:i]]


def _of(results: Sequence[dict[str, Any]], setting: Job) -> list[dict[str, Any]]:
    return [r for r in results if all(r["job"][name] == value for name, value in setting.items())]


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):+.3f} ± {error:.3f}"


def _draw(results: Sequence[dict[str, Any]], path: Path, centre: Job, varied: Mapping[str, Iterable[float]]) -> None:
    """Errors by what is varied."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "savefig.dpi": 130}
    rows = ("variance", "covariance", "intercept")
    figure, axes = plt.subplots(
        len(rows), len(varied), figsize=(3 * len(varied), 2.5 * len(rows)), sharey="row", layout="constrained"
    )
    for column, (name, values) in zip(axes.T, varied.items(), strict=True):
        for axis, estimand in zip(column, rows, strict=True):
            for method, colour in zip(METHODS, COLOURS, strict=True):
                points = []
                for value in values:
                    some = [r for r in _of(results, centre | {name: value}) if r["job"]["method"] == method]
                    if some:
                        at = np.mean([r["zeros"] for r in some]) if name == "level" else value
                        points.append((at, np.mean([r[estimand] for r in some])))
                if points:
                    axis.plot(
                        *zip(*points, strict=True), "o-", color=colour, label=method, markersize=3.5, linewidth=1.2
                    )
            axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
            axis.set_xlabel(NAMES[name])
            if name != "level":
                axis.set_xscale("log")
                axis.set_xticks(list(values), [f"{value:,}" for value in values], minor=False)
                axis.minorticks_off()
    for axis, estimand in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(f"error of {ERRORS[estimand]}")
    axes[0, 0].set_yscale("symlog", linthresh=0.2)
    axes[0, 0].set_yticks([-0.2, 0, 0.2, 1, 5], ["-0.2", "0", "0.2", "1", "5"])
    axes[0, 0].minorticks_off()
    figure.legend(
        *axes[0, 2].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside upper center", ncols=5
    )
    figure.savefig(path)
