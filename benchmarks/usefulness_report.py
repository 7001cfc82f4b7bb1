"""Tables of the usefulness comparison, as Markdown, and which targets hold."""

from __future__ import annotations

import json
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from report import show_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Result = dict[str, Any]
    Measure = Callable[[Result], float | None]

#: Title → the part it is of, where a number is in a result of this part, and its decimals.
OF_SPACES: dict[str, tuple[Callable[[Result], float | None], int]] = {
    "Purity of 15 neighbours": (lambda s: s["purity"], 3),
    "Leiden, best resolution: ARI": (lambda s: s["leiden"]["ari"], 3),
    "Leiden, best resolution: NMI": (lambda s: s["leiden"]["nmi"], 3),
    "Leiden, resolution 1: ARI": (lambda s: s["leiden_1"]["ari"], 3),
    "Leiden, resolution 1: NMI": (lambda s: s["leiden_1"]["nmi"], 3),
    "k-means, K = number of labels: ARI": (lambda s: s["kmeans"]["ari"], 3),
}
OF_FITS: dict[str, tuple[str, Measure, int]] = {
    "Own clusters: ARI": ("spaces", lambda r: r.get("own", {}).get("ari"), 3),
    "Own clusters: NMI": ("spaces", lambda r: r.get("own", {}).get("nmi"), 3),
    "Components": ("spaces", lambda r: r.get("n_components"), 0),
    "Held-out cells: importance-weighted bound, nats per cell": ("cells", lambda r: r["held_out"]["iw"], 2),
    "Held-out cells: ELBO, nats per cell": ("cells", lambda r: r["held_out"]["elbo"], 2),
    "Held-out half of the counts: log-probability, nats per cell": ("counts", lambda r: r["predictive"], 2),
    "Processor seconds": ("spaces", lambda r: r["cpu_seconds"], 1),
    "Accepted iterations of the last stage": ("spaces", lambda r: r.get("iterations"), 0),
    "Dimensions kept": ("spaces", lambda r: r.get("kept"), 0),
    "Largest loading": ("spaces", lambda r: r.get("largest_loading"), 1),
}


def report(folder: Path, facts: dict[str, Any]) -> None:
    """Print a table of each measure: methods and dimensions in rows, data sets in columns, means over seeds."""
    show_facts(facts)
    lines = (folder / "results.jsonl").read_text().splitlines()
    newest = {one["key"]: one for one in map(json.loads, lines)}
    good = [one for one in newest.values() if "error" not in one]
    for limits in sorted({json.dumps(one["limits"]) for one in good}):
        results = [one for one in good if json.dumps(one["limits"]) == limits]
        asked = json.loads(limits)
        told = "told the batches" if asked["batches"] else "not told the batches"
        print(f"At most {asked['n_cells']:,} cells and {asked['n_genes']:,} genes; models are {told}.\n")
        _tables(results, folder / "loadings")
        print("\n".join(targets(results)), "\n")
    for one in newest.values():
        if "error" in one:
            print(f"failed: {one['key']}: {one['error'].strip().splitlines()[-1]}")


def _tables(results: Sequence[Result], loadings: Path) -> None:
    spaces = list(_spaces(results))
    for title, (get, digits) in OF_SPACES.items():
        _table(title, [(name, r, get(scores)) for name, r, scores in spaces], digits)
    for title, (part, get, digits) in OF_FITS.items():
        _table(title, [(r["method"], r, get(r)) for r in results if r["part"] == part], digits)
    cosines = [(pair[0]["method"], pair[0], smallest_cosine(*pair, loadings)) for pair in _pairs(results)]
    _table("Smallest cosine between the loadings' spaces of two seeds", cosines, 2)


def _spaces(results: Sequence[Result]) -> Iterator[tuple[str, Result, dict[str, Any]]]:
    """Each latent space with its name and the result that it belongs to."""
    for r in results:
        for name, scores in r.get("spaces", {}).items():
            yield f"{r['method']}: {name}" if name else r["method"], r, scores


def _table(title: str, values: Sequence[tuple[str, Result, float | None]], digits: int) -> None:
    """Print a table, unless nothing fills it."""
    cells: dict[tuple[str, int], dict[str, list[float]]] = {}
    for name, r, value in values:
        if value is not None:
            cells.setdefault((name, r["n_latent"]), {}).setdefault(r["data_set"], []).append(value)
    if not cells:
        return
    sets = list(dict.fromkeys(name for row in cells.values() for name in row))
    print(f"**{title}**\n\n| method | q | {' | '.join(sets)} |\n|---|---|{'---|' * len(sets)}")
    order = list(dict.fromkeys(name for name, _ in cells))
    for (method, q), row in sorted(cells.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        numbers = [f"{np.mean(row[name]):.{digits}f}" if name in row else "" for name in sets]
        print(f"| {method} | {q} | {' | '.join(numbers)} |")
    print()


def _pairs(results: Sequence[Result]) -> Iterator[tuple[Result, Result]]:
    """Fits of PLN-PCA that differ in the seed only."""
    of_kind: dict[tuple[Any, ...], list[Result]] = {}
    for r in results:
        if r["part"] == "spaces" and "kept" in r:
            of_kind.setdefault((r["data_set"], r["method"], r["n_latent"]), []).append(r)
    for group in of_kind.values():
        yield from combinations(group, 2)


def smallest_cosine(one: Result, other: Result, folder: Path) -> float | None:
    """Cosine of the largest principal angle between the spaces of the loadings that are not 0."""
    from scipy.linalg import subspace_angles

    files = [folder / f"{r['key'].replace('/', '-')}.npy" for r in (one, other)]
    if not all(file.exists() for file in files):
        return None
    both = [loadings[:, (loadings != 0).any(0)] for loadings in map(np.load, files)]
    return float(np.cos(subspace_angles(*both)[0])) if all(each.shape[1] for each in both) else None


def targets(results: Sequence[Result]) -> list[str]:
    """A line for each data set and target that there are results for: whether it holds, and by how much."""
    purity = _means((name, r, scores["purity"]) for name, r, scores in _spaces(results))
    best = _means((name, r, scores["leiden"]["ari"]) for name, r, scores in _spaces(results))
    own = _means((r["method"], r, r["own"]["ari"]) for r in results if "own" in r)
    seconds = _means((r["method"], r, r["cpu_seconds"]) for r in results if r["part"] == "spaces")
    lines = []
    for name in dict.fromkeys(r["data_set"] for r in results):
        for method in ("PLN-PCA, learned: expression", "PLN-PCA, learned, NB: expression"):
            here = {q: purity.get((name, method, q)) for q in (10, 30)}
            lines += _line(f"{name}: {method}: purity at q = 30 ≥ at q = 10 − .005", here[30], here[10], 0.005)
            lines += _line(
                f"{name}: {method}: purity at q = 30 ≥ PCA 30 − .01", here[30], purity.get((name, "PCA", 30)), 0.01
            )
        scvi = max((value for (s, m, _), value in best.items() if (s, m) == (name, "SCVI")), default=None)
        for (s, method, q), value in own.items():
            if s == name:
                lines += _line(f"{name}: own clusters of {method}, q = {q}, ≥ SCVI + best Leiden", value, scvi, 0)
    for (name, method, q), value in seconds.items():
        if name == "pbmc3k" and method == "PLN-PCA, learned" and (name, "PLN-PCA, none", q) in seconds:
            ratio = seconds[name, "PLN-PCA, none", q] / value
            lines += _line(f"pbmc3k: seconds without prior over those with it, q = {q}, ≥ 3", ratio, 3.0, 0)
    return lines


def _means(values: Any) -> dict[tuple[str, str, int], float]:
    found: dict[tuple[str, str, int], list[float]] = {}
    for name, r, value in values:
        found.setdefault((r["data_set"], name, r["n_latent"]), []).append(value)
    return {key: float(np.mean(each)) for key, each in found.items()}


def _line(what: str, value: float | None, least: float | None, slack: float) -> list[str]:
    if value is None or least is None:
        return []
    return [f"- {'holds' if value >= least - slack else 'MISSED'}: {what}: {value:.3f} and {least:.3f}"]
