"""Whether the mean of each gene's counts differs between two sides of a comparison, at equal size factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ._dispersion import common_dispersion
from ._glm import LEAST_DISPERSION, deviances, fit_regression
from ._moderation import Spread, contrast_scale
from ._result import GeneTests
from ._shrinkage import shrink
from ._unit_deviance import deviance_moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ._glm import Regression

    Array = NDArray[np.float64]

#: Genes of about the same mean that share a dispersion: bins at most, genes of one at least, units × genes at most.
_BINS, _LEAST_GENES, _MOST_ENTRIES = 12, 20, 2**22
#: Rounds of dispersion and coefficients, which depend on each other.
_ROUNDS = 2
#: Standard deviations of weak priors of the tested coefficient (a factor of e³ either way) and of the other ones.
_TESTED_SD, _OTHER_SD = 3.0, 10.0
#: Least number of genes from which the shift that most of them have is estimated.
FEWEST_FOR_SHIFT = 50


def compare_counts(
    counts: sp.spmatrix | NDArray,
    side: NDArray[np.bool_],
    offsets: Array,
    covariates: Array | None = None,
    *,
    states: Array | None = None,
    composition: bool = True,
) -> GeneTests:
    r"""Test of :math:`b_j = 0` in :math:`E\,y_{ij} = \exp(o_i + a_j + b_j g_i + x_i \cdot c_j)`, for each gene j.

    The variance is :math:`\phi_{js} (\mu_{ij} + \alpha_j \mu_{ij}^2)`: dispersions α are those of genes of about the same
    mean, and the scale φ is a gene's own on each side s of the comparison, moderated by all genes. The statistic is the
    signed root of the likelihood ratio at α, divided by the scale of the estimate's variance, and is referred to Student's t
    distribution. It is a test of means, whatever the counts' distribution: only the fitted means have to be right.

    Parameters
    ----------
    counts
        Y (n × p), of cells, or sums over cells of a sample.
    side
        g (n,), whether a unit is on the first side.
    offsets
        Log size factors o (n,).
    covariates
        Further columns x (n × d), centred or not, of full rank with `side` and an intercept.
    states
        Latent states z (n × q) to hold. They enter less their means on each side, and take the variation within sides out. By how
        much the sides' states differ on average, by chance or not, is then estimated as the shift Δ that most genes have along
        their coefficients on z, and b is tested beyond :math:`\gamma_j \cdot \Delta`. If the states entered as they are, the
        genes that change, which have moved them, would make all genes with a coefficient look changed.
    composition
        Whether to take out the shift of b that most genes have, which the totals of other genes make: as trimmed means
        of log ratios do. It takes 50 genes or more.

    References
    ----------
    S. P. Lund, D. Nettleton, D. J. McCarthy and G. K. Smyth (2012), Detecting differential expression in RNA-sequence data using
    quasi-likelihood with shrunken dispersion estimates, Statistical Applications in Genetics and Molecular Biology 11(5).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> side = np.arange(40) < 20
    >>> counts = rng.poisson(np.where(side[:, None], [4.0] + [1.0] * 29, 1.0))
    >>> tests = compare_counts(counts, side, np.zeros(40))
    >>> int(tests.p_values.argmin()), bool(tests.effects[0] > 1)
    (0, True)
    """
    data = _Units.of(counts, side, offsets, covariates, states)
    n_genes = data.counts.shape[1]
    fits = {name: np.zeros(n_genes) for name in ("effect", "deviance", "first", "second", "alpha")}
    coefficients = np.zeros((n_genes, data.design.shape[1]))
    spreads, squares = ([Spread(*np.zeros((4, n_genes))) for _ in range(2)] for _ in range(2))
    tested = np.asarray((data.counts > 0).sum(0)).ravel() > 0
    for genes, block in data.bins(tested):
        fitted, alpha = _fit(block, data)
        coefficients[genes] = fitted.coefficients
        fits["alpha"][genes] = alpha
        unit = deviances(block, fitted.means, alpha)
        fits["deviance"][genes] = unit.sum(0)
        influence = (data.design @ fitted.inverse[:, 1].T) ** 2 * fitted.weights
        for name, cells in zip(("first", "second"), data.sides, strict=True):
            fits[name][genes] = influence[cells].sum(0)
        _add(spreads, genes, data.sides, unit, *deviance_moments(fitted.means, alpha), fitted.leverages)
        variance = fitted.means + alpha * fitted.means**2
        moments = np.ones_like(variance), 2 + 6 * alpha + 1 / variance
        _add(squares, genes, data.sides, (block - fitted.means) ** 2 / variance, *moments, fitted.leverages)
    shares = fits["first"][tested], fits["second"][tested]
    scale, df = np.ones(n_genes), np.ones(n_genes)
    if tested.any():
        scale[tested], df[tested] = contrast_scale((spreads[0].of(tested), spreads[1].of(tested)), shares)
        # Deviances grow slowly with outlying counts, and hardly see a gene whose dispersion is many times the common one.
        wide, wide_df = contrast_scale((squares[0].of(tested), squares[1].of(tested)), shares)
        larger = wide > scale[tested]
        scale[tested] = np.where(larger, wide, scale[tested])
        df[tested] = np.where(larger, wide_df, df[tested])
    effects = coefficients[:, 1]
    errors = np.sqrt((fits["first"] + fits["second"]) * scale)
    shifts = np.zeros(n_genes)
    features = data.features(coefficients[tested], composition=composition)
    if features.shape[1]:
        shifts[tested] = shrink(effects[tested], errors[tested], features).center
    lost = data.null_deviances(coefficients, fits["alpha"], shifts, tested) - fits["deviance"]
    statistics = np.sign(effects - shifts) * np.sqrt(np.maximum(lost, 0.0) / scale)
    effects = np.where(tested, effects - shifts, 0.0)
    return GeneTests.of(statistics, df, effects, np.where(tested, errors, np.inf), tested, shifts)


@dataclass(frozen=True)
class _Units:
    """Counts by column, the design (intercept, side, covariates), offsets, and the precisions of coefficients."""

    counts: sp.csc_matrix
    design: Array
    offsets: Array
    penalty: Array
    n_states: int

    @classmethod
    def of(
        cls,
        counts: sp.spmatrix | NDArray,
        side: NDArray[np.bool_],
        offsets: Array,
        covariates: Array | None,
        states: Array | None,
    ) -> _Units:
        columns = [np.ones(len(side)), side.astype(float)]
        if covariates is not None:
            columns.append(covariates)
        if states is not None:
            columns.append(states - np.where(side[:, None], states[side].mean(0), states[~side].mean(0)))
        design = np.column_stack(columns)
        penalty = np.full(design.shape[1], _OTHER_SD**-2)
        penalty[:2] = 0.0, _TESTED_SD**-2
        return cls(
            sp.csc_matrix(counts), design, np.asarray(offsets, float), penalty, 0 if states is None else states.shape[1]
        )

    @property
    def sides(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Units of the first side, and of the second."""
        first = self.design[:, 1] > 0
        return first, ~first

    def bins(self, tested: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], Array]]:
        """Genes of about the same mean, with their counts (n × bin)."""
        squares = np.asarray(self.counts.multiply(self.counts).sum(0)).ravel()
        # By means; where these are the same, by what does not depend on the order that the genes come in.
        order = np.lexsort((self.counts.T @ self.offsets, squares, np.asarray(self.counts.sum(0)).ravel()))
        order = order[tested[order]]
        wanted = np.clip(len(order) // _LEAST_GENES, 1, _BINS)
        n_bins = max(wanted, -(-len(order) * len(self.offsets) // _MOST_ENTRIES))
        for genes in np.array_split(order, min(n_bins, max(len(order), 1))):
            if len(genes):
                yield genes, self.counts[:, genes].toarray().astype(float)

    def features(self, coefficients: Array, *, composition: bool) -> Array:
        """What most genes shift by (p × r): all alike, and along their coefficients on the states."""
        n_genes, d = coefficients.shape
        alike = [np.ones(n_genes)] if composition and n_genes >= FEWEST_FOR_SHIFT else []
        return np.column_stack([*alike, coefficients[:, d - self.n_states :], np.zeros((n_genes, 0))])

    def null_deviances(self, start: Array, alpha: Array, shifts: Array, tested: NDArray[np.bool_]) -> Array:
        """Deviance of each gene (p,) where the sides differ by its shift alone."""
        others = np.delete(np.arange(self.design.shape[1]), 1)
        result = np.zeros(self.counts.shape[1])
        for genes, block in self.bins(tested):
            begin = start[genes]
            begin[:, 0] += begin[:, 1] * self.design[:, 1].mean()
            offsets = self.offsets[:, None] + np.outer(self.design[:, 1], shifts[genes])
            fitted = fit_regression(
                block, self.design[:, others], offsets, alpha[genes], self.penalty[others], begin[:, others]
            )
            result[genes] = deviances(block, fitted.means, alpha[genes]).sum(0)
        return result


def _fit(block: Array, data: _Units) -> tuple[Regression, float]:
    """Regression of the genes of a bin, and their dispersion."""
    alpha = LEAST_DISPERSION
    fitted = fit_regression(block, data.design, data.offsets, alpha, data.penalty)
    for _ in range(_ROUNDS):
        alpha = common_dispersion(block, fitted.means, fitted.leverages)
        fitted = fit_regression(block, data.design, data.offsets, alpha, data.penalty, fitted.coefficients)
    return fitted, alpha


def _add(
    spreads: list[Spread],
    genes: NDArray[np.intp],
    sides: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    found: Array,
    mean: Array,
    variance: Array,
    leverages: Array,
) -> None:
    """Put what was found of a bin's genes, and what is expected, into the sums of each side."""
    free = 1 - leverages
    for spread, cells in zip(spreads, sides, strict=True):
        spread.found[genes] = found[cells].sum(0)
        spread.expected[genes] = (mean * free)[cells].sum(0)
        spread.variance[genes] = (variance * free)[cells].sum(0)
        spread.n_free[genes] = free[cells].sum(0)
