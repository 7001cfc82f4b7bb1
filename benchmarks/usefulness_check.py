"""The judge of held-out counts against scipy; run with `pytest --import-mode=prepend benchmarks/usefulness_check.py`."""

from __future__ import annotations

import numpy as np
from scipy import stats
from usefulness_scores import log_probability


def test_halves_of_counts() -> None:
    """The second half given the first: that of the whole count, times the coin's, over that of the first."""
    random = np.random.default_rng(0)
    y1, y2 = random.poisson(3, (2, 4, 5)).astype(float)
    mu, theta = random.gamma(2, 2, (3, 4, 5)), random.gamma(2, 1, 5)

    def pmf(y, mean):
        return stats.nbinom.logpmf(y, theta, theta / (theta + mean))

    expected = pmf(y1 + y2, 2 * mu) + stats.binom.logpmf(y1, y1 + y2, 0.5) - pmf(y1, mu)
    np.testing.assert_allclose(log_probability(y1, y2, mu, theta), expected.sum(-1), rtol=1e-10)
    poisson = stats.poisson.logpmf(y2, mu).sum(-1)
    np.testing.assert_allclose(log_probability(y1, y2, mu, None), poisson, rtol=1e-10)
    nearly_poisson = log_probability(y1, y2, mu, np.full(5, 1e7))
    np.testing.assert_allclose(nearly_poisson, poisson, rtol=1e-4)
