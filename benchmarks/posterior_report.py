"""Tables of the posterior comparison, and every number of it as CSV and JSON."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from posterior_bias import ERRORS, SEEN_IN, summarize
from posterior_figures import draw_figures
from posterior_fits import EXACT, FLOWS
from posterior_gap import below, gap_rows, sweep_of
from posterior_jobs import SWEEPS, USUAL
from posterior_regimes import REGIMES, SWEEP_REGIME
from report import show_facts, show_table, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Row = dict[str, Any]


def report(folder: Path, facts: Row) -> None:
    """Print tables; write `gap.csv`, `bias.csv`, `fits.csv`, `posteriors.json` and figures."""
    results = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    failed = [r for r in results if "error" in r]
    results = [r for r in results if "error" not in r]
    show_facts(facts)
    gaps = gap_rows([r for r in results if r["part"] == "gap"])
    usual = [row for row in gaps if not row["varied"]]
    sweeps = {name: sweep_of(gaps, name, USUAL[name]) for name in SWEEPS}
    fits = [r for r in results if r["part"] == "bias"]
    biases = [row for name in REGIMES for row in summarize(name, fits, folder / "fits")]
    if usual:
        show_gaps(usual)
        show_flows(usual)
    show_sweeps({name: rows for name, rows in sweeps.items() if len(rows) > 1})
    if biases:
        show_biases(biases)
        show_verdicts(biases)
        show_times(fits)
    for row in failed:
        print(f"failed: {row['part']} {row['regime']}, {row['method']}, data set {row['data_set']}: {row['error']}")
    for name, rows in (("gap", gaps), ("bias", biases), ("fits", fits)):
        _write_csv(folder / f"{name}.csv", rows)
    write_json(folder / "posteriors.json", {"machine": facts, "gap": gaps, "bias": biases, "failed": failed})
    draw_figures(folder, usual, sweeps, biases)


def show_gaps(rows: Sequence[Row]) -> None:
    """Gaps of Gaussians, of the best flow, and of what an encoder gives."""
    table = []
    for regime, by in _by_regime(rows).items():
        full = by["fullrank"]
        flows = [by[name] for name in FLOWS if name in by]
        best = min(flows, key=lambda r: r["gap"], default=None)
        table.append(
            [
                regime,
                f"{100 * full['zeros']:.0f} %",
                f"{full['reference']:.3f}",
                *(_gap(by.get(name)) for name in ("meanfield", "meanfield, best axes", "fullrank")),
                _percent(full.get("closes_meanfield")),
                _percent(full.get("closes_meanfield, best axes")),
                _gap(best),
                best["method"] if best else None,
                _percent(best["closes_fullrank"], best["closes_fullrank_se"]) if best else None,
                *(_gap(by.get(name)) for name in ("amortized", "amortized sylvester")),
            ]
        )
    columns = (
        *("regime", "zeros", "log-lik.", "mean-field", "best axes", "full rank", "closes", "of best axes"),
        *("best flow", "", "closes", "amortized", "and sylvester"),
    )
    show_table("Gap to the log-likelihood at the same B and C, nats per cell (± Monte-Carlo s.e.)", columns, table)


def show_flows(rows: Sequence[Row]) -> None:
    """What each flow closes of full rank's gap, and what it costs."""
    regimes = _by_regime(rows)
    methods = [name for name in FLOWS if any(name in by for by in regimes.values())]
    table = []
    for regime, by in regimes.items():
        shares = (by.get(m, None) for m in methods)
        table.append(
            [regime, *(_percent(r["closes_fullrank"], r["closes_fullrank_se"]) if r else None for r in shares)]
        )
    show_table("Share of full rank's gap that a flow closes", ("regime", *methods), table)
    every = ["meanfield", "fullrank", "iw8", *methods, "amortized", "amortized sylvester"]
    table = [[k, *(f"{by[m]['cpu_seconds']:.1f}" if m in by else None for m in every)] for k, by in regimes.items()]
    show_table("Processor seconds of a fit", ("regime", *every), table)
    table = [[k, *(f"{by[m]['khat']:.2f}" if m in by else None for m in every)] for k, by in regimes.items()]
    show_table("Mean Pareto k̂", ("regime", *every), table)
    table = [
        [k, *(f"{by[m]['reference'] - by[m]['iw8']:.4f}" if m in by else None for m in every)]
        for k, by in regimes.items()
    ]
    show_table("Gap of the importance-weighted bound with 8 draws", ("regime", *every), table)
    exact = [
        [
            k,
            by[m]["method"],
            by[m]["loglik"],
            by[m]["iw"] - by[m]["loglik"],
            by[m]["iw_se"],
            by[m]["elbo"] - by[m]["loglik"],
        ]
        for k, by in regimes.items()
        for m in by
        if "loglik" in by[m]
    ]
    if exact:
        table = [[k, m, f"{level:.5f}", *(f"{x:.5f}" for x in rest)] for k, m, level, *rest in exact]
        show_table("Against quadrature", ("regime", "posterior", "log-lik.", "IW - it", "s.e.", "ELBO - it"), table)
    lower = below(rows)
    print("Flows below full rank by more than twice the Monte-Carlo error:", "; ".join(lower) or "none", "\n")


def show_sweeps(sweeps: dict[str, list[Row]]) -> None:
    """What each setting of a flow does, the others being as usual."""
    table = [
        [
            name,
            row["method"],
            row["value"],
            f"{row['gap']:.4f}",
            f"{row['elbo_se']:.4f}",
            _percent(row["closes_fullrank"]),
            f"{row['cpu_seconds']:.1f}",
        ]
        for name, rows in sweeps.items()
        for row in rows
    ]
    if table:
        columns = ("setting", "flow", "value", "gap", "s.e.", "closes", "cpu s")
        show_table(f"Settings of a flow, {SWEEP_REGIME}", columns, table)


def show_biases(rows: Sequence[Row]) -> None:
    """Bias of each estimand under each posterior, against the truth and against exact inference."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for name in (*ERRORS, "angle"):
        chosen = {(r["regime"], r["method"]): r for r in rows if r["estimand"] == name}
        regimes = list(dict.fromkeys(regime for regime, _ in chosen))
        scale, unit = (1.0, "degrees") if name == "angle" else (100.0, "%, or nats / 100")
        for key, against in (("bias", "the truth"), ("excess", "exact inference in the same data sets")):
            table = []
            for regime in regimes:
                first = next(chosen[regime, m] for m in methods if (regime, m) in chosen)
                cells = [_value(chosen.get((regime, m)), key, scale) for m in methods]
                if any(cells):
                    sets = [chosen[regime, m]["data_sets"] for m in methods if (regime, m) in chosen]
                    n_sets = str(max(sets)) if min(sets) == max(sets) else f"{min(sets)}-{max(sets)}"
                    table.append([regime, first["genes"], n_sets, *cells])
            if table:
                what = f"{name} ({ERRORS.get(name, 'largest principal angle to the true column space')})"
                title = f"Error of {what} against {against}, {unit}; genes in ≥ {SEEN_IN} cells"
                show_table(title, ("regime", "genes", "sets", *methods), table)


def show_verdicts(rows: Sequence[Row]) -> None:
    """Where mean-field is biased beyond two standard errors, the cut of its bias; elsewhere, whether it grows."""
    methods = [m for m in dict.fromkeys(r["method"] for r in rows) if m not in ("meanfield", EXACT)]
    for key, verdict, against in (("bias", "met", "the truth"), ("excess", "excess_met", "exact inference")):
        table = []
        for row in rows:
            if row["method"] != "meanfield" or row["estimand"] not in ERRORS or row.get(key) is None:
                continue
            others = {r["method"]: r for r in rows if (r["regime"], r["estimand"]) == (row["regime"], row["estimand"])}
            z = row[key] / row[f"{key}_se"]
            cells = [_cut(others.get(m), key, verdict) for m in methods]
            table.append([row["regime"], row["estimand"], f"{z:+.1f}", "yes" if abs(z) > 2 else "", *cells])
        if table:
            title = f"Cut of mean-field's bias against {against}: ✓ by 30 % or more, or not worse where there is none"
            show_table(title, ("regime", "estimand", "bias / s.e.", "biased", *methods), table)


def show_times(fits: Sequence[Row]) -> None:
    """Mean processor seconds of a fit that estimates B and C."""
    methods = list(dict.fromkeys(fit["method"] for fit in fits))
    table = []
    for regime in REGIMES:
        times = [[f["cpu_seconds"] for f in fits if (f["regime"], f["method"]) == (regime, m)] for m in methods]
        if any(times):
            table.append([regime, *(f"{np.mean(t):.1f}" if t else None for t in times)])
    show_table("Processor seconds of a fit that estimates B and C", ("regime", *methods), table)


def _by_regime(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    regimes: dict[str, dict[str, Row]] = {}
    for row in rows:
        regimes.setdefault(row["regime"], {})[row["method"]] = row
    return {name: by for name, by in regimes.items() if "fullrank" in by}


def _gap(row: Row | None) -> str | None:
    if row is None:
        return None
    return f"{row['gap']:.4f}" + (
        f" ±{row['gap_se']:.4f}" if row["method"] not in ("meanfield", "meanfield, best axes") else ""
    )


def _percent(share: float | None, se: float | None = None) -> str | None:
    if share is None:
        return None
    return f"{100 * share:.0f} %" if se is None else f"{100 * share:.0f} ±{100 * se:.0f} %"


def _value(row: Row | None, key: str, scale: float) -> str | None:
    if row is None or row.get(key) is None:
        return None
    return f"{scale * row[key]:+.2f} ±{scale * row[f'{key}_se']:.2f}"


def _cut(row: Row | None, key: str, verdict: str) -> str | None:
    if row is None or f"{key}_cut" not in row:
        return None
    return f"{100 * row[f'{key}_cut']:.0f} % {'✓' if row[verdict] else '✗'}"


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
