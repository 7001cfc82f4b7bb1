"""Tests of a condition by cell type: the Poisson log-normal model, and t tests of centred log-ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import t

import scpln
from scpln.inference.comparison import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Callable

    import anndata as ad

#: Share of false ones among what is called that is asked for.
FALSE_DISCOVERY = 0.05
EFFECT = "condition[T.case]"


def case_truth(counts: ad.AnnData, changed: np.ndarray, *, centred: bool) -> np.ndarray:
    """How log-shares differ where some types were halved: to all cells, or to the mean of log-shares."""
    effect = np.where(changed, np.log(0.5), 0.0)
    if centred:
        return effect - effect.mean()
    controls = counts.X[(counts.obs["condition"] == "control").to_numpy()]
    share = controls[:, changed].sum() / controls.sum()
    return effect - np.log1p(-share / 2)


def pln(counts: ad.AnnData, reference: list[str] | None = None) -> pd.DataFrame:
    """Changes of shares of all cells, or against the mean change of some types."""
    counts = counts.copy()
    scpln.model.setup_anndata(counts, design="~ condition", size_factor_key="n_cells")
    model = scpln.model.PLN(counts)
    model.train(progress=False)
    found = model.test_covariates(EFFECT, reference=reference).set_index("names").loc[counts.var_names]
    natural = found[["logfoldchanges", "logfoldchanges_se"]] * np.log(2)
    half = t.ppf(0.975, counts.n_obs - 2) * natural["logfoldchanges_se"]
    columns = {
        "effect": natural["logfoldchanges"],
        "half_width": half,
        "p": found["pvals"],
        "p_adjusted": found["pvals_adj"],
    }
    return pd.DataFrame(columns)


def pln_centred(counts: ad.AnnData) -> pd.DataFrame:
    """Against the mean change of all types, with its error."""
    return pln(counts, list(counts.var_names))


def log_ratios(counts: ad.AnnData) -> pd.DataFrame:
    """Student's t test of centred log-ratios of counts + 0.5."""
    logs = np.log(np.asarray(counts.X) + 0.5)
    logs -= logs.mean(1, keepdims=True)
    is_case = (counts.obs["condition"] == "case").to_numpy()
    groups = logs[is_case], logs[~is_case]
    freedom = counts.n_obs - 2
    pooled = sum(((group - group.mean(0)) ** 2).sum(0) for group in groups) / freedom
    se = np.sqrt(pooled * sum(1 / len(group) for group in groups))
    effect = groups[0].mean(0) - groups[1].mean(0)
    p = 2 * t.sf(np.abs(effect) / se, freedom)
    adjusted = benjamini_hochberg(p, np.ones(len(p), dtype=bool))
    columns = {"effect": effect, "half_width": t.ppf(0.975, freedom) * se, "p": p, "p_adjusted": adjusted}
    return pd.DataFrame(columns, index=counts.var_names)


METHODS: dict[str, Callable[[ad.AnnData], pd.DataFrame]] = {
    "PLN": pln,
    "PLN, centred": pln_centred,
    "log-ratios, t test": log_ratios,
}
