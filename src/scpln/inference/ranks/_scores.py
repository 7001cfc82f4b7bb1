"""What is said of a fit of some rank: parameters, information criteria, and which one is best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.core import Array
    from scpln.inference.newton import FitResult

    from ._path import RankFit

#: Column of the table that a criterion looks at: the largest is the best.
COLUMNS = {"thinning": "held_out", "cells": "held_out", "bic": "bic", "icl": "icl", "bound": "bound"}


def n_parameters(n_genes: int, n_covariates: int, rank: int) -> int:
    """Free parameters of B (p, d) and of C (p, q) up to its rotation: pd + pq − q(q − 1)/2.

    Examples
    --------
    >>> n_parameters(100, 2, 3)
    497
    """
    return n_genes * (n_covariates + rank) - rank * (rank - 1) // 2


def entropies(fit: FitResult) -> Array:
    """Entropy of each cell's posterior, ½ log det(2πe V_i), nats, (n,)."""
    q = fit.mean.shape[1]
    return 0.5 * (q * (1 + np.log(2 * np.pi)) + _log_dets(fit))


def divergences(fit: FitResult) -> Array:
    """KL(N(m_i, V_i) ‖ N(0, I)) of each cell, nats, (n,)."""
    mean, q = fit.mean.astype(np.float64), fit.mean.shape[1]
    rows, columns = linalg.tril_indices(q)
    trace = fit.covariance[:, rows == columns].astype(np.float64).sum(1)
    return 0.5 * ((mean**2).sum(1) + trace - _log_dets(fit) - q)


def _log_dets(fit: FitResult) -> Array:
    full = linalg.unpack(fit.covariance.astype(np.float64), fit.mean.shape[1])
    return np.linalg.slogdet(full.transpose(2, 0, 1))[1]


def table_of(path: Sequence[RankFit], n_covariates: int) -> pd.DataFrame:
    r"""A row for each rank, in nats; of every criterion, more is better.

    .. math:: \text{BIC} = J - \tfrac12 k \log n, \qquad \text{ICL} = \text{BIC} - \sum_i \tfrac12 \log\det(2 \pi e V_i)

    with the bound J of all n cells and k parameters. ``held_out`` is the mean per cell, and ``held_out_se`` the standard error of its
    difference to the best rank's, over cells.
    """
    rows = [_row(each, n_covariates) for each in path]
    table = pd.DataFrame(rows).set_index("rank")
    scores = {each.rank: each.held_out for each in path if each.held_out is not None}
    if scores:
        best = max(scores, key=lambda rank: float(scores[rank].mean()))
        for rank, score in scores.items():
            table.loc[rank, "held_out_se"] = (score - scores[best]).std(ddof=1) / np.sqrt(len(score))
    return table


def _row(each: RankFit, n_covariates: int) -> dict[str, object]:
    row: dict[str, object] = {"rank": each.rank}
    if each.fit is None:
        missing = dict.fromkeys(("n_parameters", "bound", "bic", "icl", "held_out", "held_out_se"), np.nan)
        return {**row, **missing, "seconds": each.seconds, "converged": False, "reason": each.reason}
    n, p = len(each.fit.elbo), len(each.fit.loadings)
    k, bound = n_parameters(p, n_covariates, each.rank) + each.n_likelihood, float(each.fit.elbo.sum())
    bic = bound - 0.5 * k * np.log(n)
    return {
        **row,
        "n_parameters": k,
        "bound": bound,
        "bic": bic,
        "icl": bic - float(entropies(each.fit).sum()),
        "held_out": np.nan if each.held_out is None else float(each.held_out.mean()),
        "held_out_se": np.nan,
        "seconds": each.seconds,
        "converged": each.fit.converged,
        "reason": each.reason,
    }


def choose(table: pd.DataFrame, criterion: str, *, one_se: bool = False) -> int:
    """The rank whose criterion is largest; with `one_se`, the least whose held-out score is within one standard error of that.

    Examples
    --------
    >>> table = pd.DataFrame({"held_out": [-3.0, -1.02, -1.0], "held_out_se": [0.1, 0.05, 0.0]}, index=[1, 2, 3])
    >>> choose(table, "thinning"), choose(table, "thinning", one_se=True)
    (3, 2)
    """
    values = table[COLUMNS[criterion]].dropna()
    values = values[np.isfinite(values)]
    best = values.idxmax()
    if one_se and COLUMNS[criterion] == "held_out":
        near = values.index[(values.max() - values <= table.loc[values.index, "held_out_se"]) | (values.index == best)]
        best = min(near)
    return int(best)
