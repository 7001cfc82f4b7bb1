"""What a test of all genes says of one comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri_exp
from scipy.stats import t as student

from ._adjust import benjamini_hochberg
from ._shrinkage import shrink

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Below this a statistic says nothing of how its reference distribution differs from a normal one.
_TINY = 1e-3


@dataclass(frozen=True)
class GeneTests:
    """Tests of p genes, (p,) each. Effects are natural logarithms of ratios, or differences of real values.

    Parameters
    ----------
    scores
        Signed statistics, on the scale of a standard normal distribution.
    p_values, adjusted
        Two-sided, and by Benjamini and Hochberg.
    effects, errors
        Estimates, and their standard errors.
    shrunken, shrunken_sd, s_values
        Posterior means and standard deviations under a prior of all genes' effects, and s values.
    shifts
        What was taken off the effects, since most genes have it.
    """

    scores: Array
    p_values: Array
    adjusted: Array
    effects: Array
    errors: Array
    shrunken: Array
    shrunken_sd: Array
    s_values: Array
    shifts: Array

    @classmethod
    def of(
        cls,
        statistics: Array,
        df: Array,
        effects: Array,
        errors: Array,
        tested: NDArray[np.bool_],
        shifts: Array | None = None,
    ) -> GeneTests:
        """From statistics with Student's t distributions; genes that were not `tested` have p values of 1."""
        statistics = np.where(tested, statistics, 0.0)
        log_tail = np.where(tested, student.logsf(np.abs(statistics), df), np.log(0.5))
        p_values = np.minimum(2 * np.exp(log_tail), 1.0)
        size = -ndtri_exp(np.minimum(log_tail, np.log(0.5)))
        scores = np.sign(statistics) * np.maximum(size, 0.0)
        # A normal error that makes the effect as significant as the test does.
        wider = np.where(np.abs(statistics) > _TINY, np.abs(statistics) / np.maximum(size, _TINY / 2), 1.0)
        mean, sd, s_values = np.zeros_like(effects), np.zeros_like(effects), np.ones_like(effects)
        if tested.any():
            posterior = shrink(effects[tested], np.maximum(errors * wider, 1e-12)[tested])
            mean[tested], sd[tested], s_values[tested] = posterior.mean, posterior.sd, posterior.s_values
        adjusted = benjamini_hochberg(p_values, tested)
        shifts = np.zeros_like(effects) if shifts is None else shifts
        return cls(scores, p_values, adjusted, effects, errors, mean, sd, s_values, shifts)
