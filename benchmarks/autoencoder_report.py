"""Tables of the autoencoder comparison, as Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from report import show_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Result = dict[str, Any]

#: Column → where its number is in a result, and its decimals.
COLUMNS: dict[str, tuple[Callable[[Result], float | None], int]] = {
    "ARI, best Leiden": (lambda r: r["leiden"]["ari"], 3),
    "NMI, best Leiden": (lambda r: r["leiden"]["nmi"], 3),
    "ARI, k-means": (lambda r: r["kmeans"]["ari"], 3),
    "NMI, k-means": (lambda r: r["kmeans"]["nmi"], 3),
    "ARI, own": (lambda r: r.get("own", {}).get("ari"), 3),
    "NMI, own": (lambda r: r.get("own", {}).get("nmi"), 3),
    "silhouette": (lambda r: r["silhouette"], 3),
    "mixing": (lambda r: r["mixing"], 3),
    "held-out bound": (lambda r: r.get("held_out", {}).get("iw"), 2),
    "over SCVI": (lambda r: r.get("over"), 2),
    "held-out ELBO": (lambda r: r.get("held_out", {}).get("elbo"), 2),
    "epochs": (lambda r: r.get("epochs"), 0),
    "cpu s": (lambda r: r["cpu_seconds"], 0),
}
#: What held-out bounds are compared with, split by split: they vary more between splits than between methods.
REFERENCE = "scvi_warm"


def report(path: Path, facts: dict[str, Any]) -> None:
    """Print a table for each data set: mean ± standard deviation over seeds."""
    show_facts(facts)
    newest = {one["key"]: one for one in map(json.loads, path.read_text().splitlines())}
    results = [one for one in newest.values() if "error" not in one]
    _compare(results)
    for data_set in dict.fromkeys(r["data_set"] for r in results):
        print(table(data_set, [r for r in results if r["data_set"] == data_set]), "\n")
    for one in newest.values():
        if "error" in one:
            print(f"failed: {one['key']}: {one['error'].strip().splitlines()[-1]}")


def _compare(results: Sequence[Result]) -> None:
    """Add to each result its held-out bound less the reference's with the same cells held out."""
    level = {(r["data_set"], r["seed"]): r["held_out"]["iw"] for r in results if r["method"] == REFERENCE}
    for r in results:
        if "held_out" in r and (r["data_set"], r["seed"]) in level:
            r["over"] = r["held_out"]["iw"] - level[r["data_set"], r["seed"]]


def table(data_set: str, results: Sequence[Result]) -> str:
    """A Markdown table of one data set, a row for each method; columns that nothing fills are left out."""
    methods = list(dict.fromkeys(r["method"] for r in results))
    filled = [name for name, (get, _) in COLUMNS.items() if any(get(r) is not None for r in results)]
    first = results[0]
    lines = [
        f"{data_set}: {first['n_cells']:,} cells, {first['n_genes']:,} genes, {first['n_labels']} labels",
        "",
        f"| method | seeds | {' | '.join(filled)} |",
        f"|---|---|{'---|' * len(filled)}",
    ]
    for method in methods:
        own = [r for r in results if r["method"] == method]
        lines.append(f"| {method} | {len(own)} | {' | '.join(_cell(own, *COLUMNS[name]) for name in filled)} |")
    return "\n".join(lines)


def _cell(results: Sequence[Result], get: Callable[[Result], float | None], digits: int) -> str:
    values = [value for value in map(get, results) if value is not None]
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
