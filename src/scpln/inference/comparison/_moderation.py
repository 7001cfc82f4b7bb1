"""Scales of variances: each gene's own, moderated by those of all genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Most degrees of freedom that all genes together lend to one: genes are not independent, and one outlying cell is to count.
MOST_PRIOR = 40.0
#: And most for each degree of freedom that the gene has itself: one or two say little of whether it is like the others.
_MOST_RATIO = 10.0
#: From so many on, scales do not differ.
_EQUAL = 1e5
#: Fewest degrees of freedom of a gene's own scale.
_FEWEST = 0.2
#: So few genes tell nothing of how scales vary among genes.
_FEW_GENES = 3


@dataclass(frozen=True)
class Prior:
    """Scaled inverse χ² distribution of the genes' scales: its centre, and the degrees of freedom that it is worth."""

    scale: float
    df: float

    @classmethod
    def of(cls, scales: Array, df: Array) -> Prior:
        """By moments of the logarithms of scales (p,) that have `df` (p,) degrees of freedom each.

        Genes are weighted by what they tell, as studies are in a meta-analysis.

        References
        ----------
        G. Smyth (2004), Linear models and empirical Bayes methods for assessing differential expression in microarray
        experiments, Statistical Applications in Genetics and Molecular Biology 3: 3.
        """
        seen = scales > 0
        if seen.sum() < _FEW_GENES:
            return cls(float(np.average(scales, weights=df)) or 1.0, 0.0)
        df = np.maximum(df[seen], _FEWEST)
        logs = np.log(np.maximum(scales[seen], 1e-5 * np.median(scales[seen]))) - digamma(df / 2) + np.log(df / 2)
        weight = 1 / polygamma(1, df / 2)
        center = float(np.average(logs, weights=weight))
        excess = float((weight * (logs - center) ** 2).sum()) - (len(logs) - 1)
        between = excess / float(weight.sum() - (weight**2).sum() / weight.sum())
        half = 1e6 if between <= polygamma(1, 1e6) else brentq(lambda x: polygamma(1, x) - between, 1e-3, 1e6)
        return cls(float(np.exp(center + digamma(half) - np.log(half))), 2 * half)

    def moderated(self, scales: Array, df: Array) -> tuple[Array, Array]:
        """Scales drawn towards the centre, and their degrees of freedom, at most those of all genes together."""
        prior = np.minimum(min(self.df, MOST_PRIOR), _MOST_RATIO * df)
        total = prior + df
        return (prior * self.scale + df * scales) / total, np.minimum(total, max(df.sum(), 1.0))


@dataclass(frozen=True)
class Spread:
    """Sums over units of how far counts or values are from their means, gene by gene (p,).

    Parameters
    ----------
    found
        Sum of deviances, or of squares.
    expected
        What it is expected to be at scale 1.
    variance
        Its variance there.
    n_free
        Units less what the fit took.
    """

    found: Array
    expected: Array
    variance: Array
    n_free: Array

    def __add__(self, other: Spread) -> Spread:
        return Spread(
            self.found + other.found,
            self.expected + other.expected,
            self.variance + other.variance,
            self.n_free + other.n_free,
        )

    def of(self, genes: NDArray[np.bool_]) -> Spread:
        """The same of some genes."""
        return Spread(self.found[genes], self.expected[genes], self.variance[genes], self.n_free[genes])

    @property
    def scale(self) -> Array:
        """Found over expected."""
        return self.found / np.maximum(self.expected, 1e-12)

    @property
    def df(self) -> Array:
        """Degrees of freedom of a χ² distribution that varies as much, at most those of Gaussian values."""
        df = 2 * self.expected**2 / np.maximum(self.variance, 1e-300)
        return np.maximum(np.minimum(df, self.n_free), _FEWEST)


def contrast_scale(sides: tuple[Spread, Spread], shares: tuple[Array, Array]) -> tuple[Array, Array]:
    """Scale (p,) of a contrast whose variance has `shares` (p,) from each side, and its degrees of freedom (p,).

    The sides share a gene's scale, moderated by all genes, up to a factor that all genes of a side have. As far as the
    genes' own ratios of sides vary by more than chance, they are taken for what they are: with many units on a side this
    becomes a scale of its own, as in Welch's test, and with few nothing is lost.
    """
    both = sides[0] + sides[1]
    scale, df = Prior.of(both.scale, both.df).moderated(both.scale, both.df)
    parts, rates = [], []
    for side, share in zip(sides, shares, strict=True):
        own, own_df = _side_scale(side, scale, df)
        parts.append(share * own)
        rates.append((share * own) ** 2 / own_df)
    total = parts[0] + parts[1]
    # Satterthwaite's, as if the sides were independent: at most what they have together.
    return total / (shares[0] + shares[1]), np.minimum(total**2 / (rates[0] + rates[1]), df)


def _side_scale(side: Spread, scale: Array, df: Array) -> tuple[Array, Array]:
    """Scale of a side, with its degrees of freedom, from those of both sides together."""
    relative = side.scale / scale
    prior = Prior.of(relative, side.df)
    if prior.df >= _EQUAL:
        common = float((side.found / scale).sum() / max(side.expected.sum(), 1e-12))
        return common * scale, df
    share = prior.df / (prior.df + side.df)
    own = 1 / (share**2 / df + (1 - share) ** 2 / side.df)
    return scale * (share * prior.scale + (1 - share) * relative), np.minimum(own, prior.df + side.df)
