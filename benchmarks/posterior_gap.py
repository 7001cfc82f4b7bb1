"""Gaps between bounds and the log-likelihood, and which share of them a posterior closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from posterior_fits import MEAN_FIELDS
from posterior_jobs import SWEEP_METHODS, TRAINING
from posterior_regimes import SWEEP_REGIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]

GAUSSIANS = (*MEAN_FIELDS, "fullrank")


def gap_rows(results: Sequence[Row]) -> list[Row]:
    """Results with the gap to the regime's log-likelihood, and shares of others' gaps that are closed.

    The log-likelihood is the importance-weighted bound of the posterior with the largest effective sample size among
    those with the usual settings: quadrature in its place where there is one latent dimension. Standard errors are of
    the Monte-Carlo means, of the bound and of the reference.
    """
    rows: list[Row] = []
    for regime in dict.fromkeys(r["regime"] for r in results):
        found = [r for r in results if r["regime"] == regime]
        usual = {r["method"]: r for r in found if not is_varied(r)}
        best = max(usual.values(), key=lambda r: r["ess"])
        level, level_se = best["iw"], best["iw_se"]
        if "loglik" in best:
            level, level_se = best["loglik"], 0.0
        base = {name: level - usual[name]["elbo"] for name in GAUSSIANS if name in usual}
        for r in found:
            row = {k: v for k, v in r.items() if k not in ("key", "part", "data_set", "options")}
            row |= {"options": dict(r["options"]), "varied": is_varied(r), "reference": level, "by": best["method"]}
            row["gap"], row["gap_se"] = level - r["elbo"], float(np.hypot(r["elbo_se"], level_se))
            for name, gap in base.items():
                row[f"closes_{name}"] = 1 - row["gap"] / gap
                row[f"closes_{name}_se"] = float(
                    np.hypot(r["elbo_se"] / gap, level_se * (1 - row["gap"] / gap) / gap) if gap else np.nan
                )
            rows.append(row)
    return rows


def is_varied(result: Row) -> bool:
    """Whether a flow was trained with other settings than the usual ones."""
    return result["method"] in SWEEP_METHODS and {**TRAINING, **result["options"]} != TRAINING


def sweep_of(rows: Sequence[Row], name: str, usual: object) -> list[Row]:
    """Rows of the sweep's regime in which only the option `name` differs from the usual one, in its order."""
    chosen = []
    for row in rows:
        if row["regime"] != SWEEP_REGIME or row["method"] not in SWEEP_METHODS:
            continue
        options = dict(row["options"])
        value = options.pop(name, usual)
        if {**TRAINING, **options} == {**TRAINING, **{k: v for k, v in TRAINING.items() if k != name}}:
            chosen.append({**row, "value": value})
    unique = {(row["method"], str(row["value"])): row for row in chosen}
    return sorted(unique.values(), key=lambda row: (row["method"], row["value"]))


def below(rows: Sequence[Row]) -> list[str]:
    """Posteriors whose bound is below the one under them by more than twice the Monte-Carlo error."""
    found = []
    for row in rows:
        under = "fullrank"
        if row["method"] in GAUSSIANS or row["method"].startswith("amortized") or row["method"] == "iw8":
            continue
        other = next(r for r in rows if r["regime"] == row["regime"] and r["method"] == under)
        if row["elbo"] < other["elbo"] - 2 * row["elbo_se"]:
            found.append(f"{row['regime']}, {row['method']}: {row['elbo'] - other['elbo']:.4f} ± {row['elbo_se']:.4f}")
    return found
