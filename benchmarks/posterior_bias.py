"""Bias of estimates over data sets that share the truth, and how much of it the posterior is to blame for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from posterior_fits import EXACT
from posterior_regimes import truth
from scipy.linalg import subspace_angles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Genes count if they are seen in at least so many cells, on average over data sets.
SEEN_IN = 25
#: Estimands whose errors are averaged over genes or pairs of genes within a data set: label → what its error is.
ERRORS = {
    "intercept": "mean over genes of estimated - true, nats",
    "batch": "slope of estimated on true effects - 1",
    "variance": "mean estimated / mean true Σ_jj - 1",
    "covariance": "slope of estimated on true Σ_jk, j ≠ k, - 1",
}
#: An error counts as bias beyond so many standard errors, and should fall by so much.
DETECTED, WANTED_CUT = 2.0, 0.3


@dataclass(frozen=True)
class Estimates:
    """Estimates of one method from several data sets of a regime, at the genes that are seen often enough."""

    coefficients: Array  # (sets, genes, d)
    loadings: Array  # (sets, genes, q)
    sets: tuple[int, ...]


def load(regime: str, fits: Sequence[dict[str, Any]], folder: Path) -> tuple[dict[str, Estimates], NDArray[np.bool_]]:
    """Estimates of a regime by method, each from the data sets that it has, and which genes they are of."""
    files = {(fit["method"], fit["data_set"]): folder / fit["file"] for fit in fits if fit["regime"] == regime}
    methods = list(dict.fromkeys(method for method, _ in files))
    arrays = {key: dict(np.load(path)) for key, path in files.items()}
    if not arrays:
        return {}, np.zeros(0, dtype=bool)
    in_cells = {data_set: a["seen"] for (_, data_set), a in arrays.items()}
    seen = np.mean(list(in_cells.values()), 0) >= SEEN_IN
    found = {}
    for method in methods:
        sets = tuple(sorted(r for m, r in arrays if m == method))
        b, c = (np.stack([arrays[method, r][k][seen] for r in sets]) for k in ("coefficients", "loadings"))
        found[method] = Estimates(b, c, sets)
    return found, seen


def errors(estimates: Estimates, regime: str, seen: NDArray[np.bool_]) -> dict[str, Array]:
    """Each estimand's error in each data set, and the largest principal angle, in degrees."""
    true = truth(regime)
    b, c = true.coefficients[seen], true.loadings[seen]
    sigma, off = c @ c.T, ~np.eye(len(c), dtype=bool)
    rows: list[list[float]] = []
    for b_hat, c_hat in zip(estimates.coefficients, estimates.loadings, strict=True):
        sigma_hat = c_hat @ c_hat.T
        rows.append(
            [
                float((b_hat - b)[:, 0].mean()),
                float(b_hat[:, 1] @ b[:, 1] / (b[:, 1] @ b[:, 1]) - 1),
                float(np.trace(sigma_hat) / np.trace(sigma) - 1),
                float((sigma_hat * sigma)[off].sum() / np.square(sigma)[off].sum() - 1),
                float(np.degrees(subspace_angles(c_hat, c).max())),
            ]
        )
    return dict(zip((*ERRORS, "angle"), np.array(rows).T, strict=True))


def rms_bias(estimates: Estimates, regime: str, seen: NDArray[np.bool_]) -> dict[str, float]:
    """Root mean square over genes of the bias, less what its standard error adds: √max(0, mean_j (bias_j² − se_j²))."""
    true = truth(regime)
    sigma = np.square(true.loadings[seen]).sum(1)
    by_gene = {
        "intercept": estimates.coefficients[..., 0] - true.coefficients[seen, 0],
        "batch": estimates.coefficients[..., 1] - true.coefficients[seen, 1],
        "variance": np.square(estimates.loadings).sum(2) - sigma,
    }
    n = len(estimates.sets)
    return {
        name: float(np.sqrt(max(0.0, np.mean(error.mean(0) ** 2 - error.var(0, ddof=1) / n))))
        for name, error in by_gene.items()
    }


def summarize(regime: str, fits: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """One row for each method and estimand: bias with its standard error, and the same against exact inference.

    `bias` is against the truth, and contains what n cells do to a maximum-likelihood estimate, however exact.
    `excess` is the paired difference from the maximum of the likelihood in the same data sets: the posterior's part.
    """
    estimates, seen = load(regime, fits, folder)
    by_method = {method: errors(e, regime, seen) for method, e in estimates.items()}
    rows = []
    for method, found in by_method.items():
        rms = rms_bias(estimates[method], regime, seen) if len(estimates[method].sets) > 1 else {}
        for name, values in found.items():
            row: dict[str, Any] = {
                "regime": regime,
                "method": method,
                "estimand": name,
                "data_sets": len(values),
                "genes": int(seen.sum()),
                "rms_bias": rms.get(name),
            }
            by_set = {m: dict(zip(estimates[m].sets, by_method[m][name], strict=True)) for m in by_method}
            exact, base = by_set.get(EXACT, {}), by_set.get("meanfield", {})
            _compare(row, by_set[method], exact, base)
            rows.append(row)
    return rows


def _compare(row: dict[str, Any], mine: dict[int, float], exact: dict[int, float], base: dict[int, float]) -> None:
    """Difference from exact inference, and the cut of mean-field's bias in the data sets that both have.

    Where mean-field's bias is beyond two standard errors it should fall by 30 %, and elsewhere not grow beyond them.
    """
    truth_only = dict.fromkeys(mine, 0.0)
    for label, verdict, other in (("bias", "met", truth_only), ("excess", "excess_met", exact)):
        common = [r for r in mine if r in other]
        if not common:
            continue
        row[label], row[f"{label}_se"] = _mean(np.array([mine[r] - other[r] for r in common]))
        shared = [r for r in common if r in base]
        if not shared or row["estimand"] == "angle":
            continue
        value, se = _mean(np.array([mine[r] - other[r] for r in shared]))
        level, level_se = _mean(np.array([base[r] - other[r] for r in shared]))
        row[f"{label}_cut"] = 1 - abs(value) / max(abs(level), 1e-12)
        grows = abs(value) - abs(level) > DETECTED * se
        row[verdict] = row[f"{label}_cut"] >= WANTED_CUT if abs(level) > DETECTED * level_se else not grows


def _mean(values: Array) -> tuple[float, float]:
    n = len(values)
    if n < 2:
        return float(values.mean()) if n else float("nan"), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
