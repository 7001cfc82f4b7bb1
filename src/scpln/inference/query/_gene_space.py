"""Coefficients of new columns of the design in gene space, with everything else as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace import PLNResult, infer_pln
from scpln.inference.genespace._infer import FAMILIES
from scpln.inference.genespace._maximize import Maximizer
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace._profile import Profile
from scpln.inference.genespace.terms import terms_of
from scpln.inference.newton._convergence import History, judged
from scpln.train import torch_threads

from ._prior import CoefficientPrior

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.inference.genespace import PosteriorName
    from scpln.module import Likelihood
    from scpln.module.covariances import Covariance

#: Rounds in which the prior of new coefficients is learned, and the relative change of its spread that ends them.
PRIOR_ROUNDS, PRIOR_CHANGE = 10, 1e-2


@dataclass
class ColumnsProfile(Profile):
    """The bound as a function of the coefficients of some columns alone, which have a normal prior.

    Attributes
    ----------
    new
        Which columns these are, (d,).
    prior
        Their prior.
    """

    new: NDArray[np.bool_]
    prior: CoefficientPrior

    @property
    def point(self) -> Array:
        """The new coefficients, in a row."""
        return self.coefficients[:, self.new].T.ravel()

    def move(self, point: Array) -> None:
        """Take them from a point."""
        self.coefficients = self.coefficients.copy()
        self.coefficients[:, self.new] = point.reshape(self.new.sum(), -1).T

    @property
    def log_prior(self) -> float:
        """Of the new coefficients."""
        return self.prior.log_density(self.coefficients[:, self.new])

    @property
    def slope(self) -> Array:
        """By the point."""
        off = self.coefficients[:, self.new] - self.prior.mean
        return (self.sums.design[self.new] - (self.prior.precision * off).T).ravel()

    def metric(self) -> ColumnsMetric:
        """The inverse Fisher information at the rates as they are, with the prior."""
        gram = self.gram[np.ix_(self.new, self.new)]
        return ColumnsMetric.of(gram, self.spread, self.prior.precision.mean(0))

    def learn_prior(self) -> float:
        """The prior under which what the cells say of the coefficients is most probable; the largest relative change of its spread."""
        inverse = np.linalg.pinv(self.gram[np.ix_(self.new, self.new)], hermitian=True)
        spread, before = self.spread, self.prior.spread
        estimates = self.coefficients[:, self.new] + (inverse @ self.sums.design[self.new] @ spread).T
        precision = 1 / np.outer(np.diagonal(spread), np.maximum(np.diagonal(inverse), 1e-300))
        self.prior = self.prior.empirical_bayes(estimates, precision)
        return float(np.abs(self.prior.spread / before - 1).max())


@dataclass(frozen=True)
class ColumnsMetric:
    r"""Inverse of :math:`X^T X \otimes P^{-1} + T \otimes I`, in the axes of P."""

    vectors: Array  # of P, (p, p)
    systems: Array  # XᵀX / λ + T for each eigenvalue λ of P, (p, k, k)

    @classmethod
    def of(cls, gram: Array, spread: Array, precision: Array) -> ColumnsMetric:
        """From XᵀX, P and the diagonal of T."""
        values, vectors = np.linalg.eigh(spread)
        return cls(vectors, gram / values[:, None, None] + np.diag(precision))

    def __call__(self, slope: Array) -> Array:
        """Times a slope."""
        turned = slope.reshape(self.systems.shape[1], -1) @ self.vectors
        solved = np.linalg.solve(self.systems, turned.T[:, :, None])[:, :, 0]
        return (solved.T @ self.vectors.T).ravel()


def fit_pln_columns(
    data: CountData,
    coefficients: Array,
    covariance: Covariance,
    new: NDArray[np.bool_],
    *,
    likelihood: Likelihood | None = None,
    inflation: Array | None = None,
    posterior: PosteriorName = "fullrank",
    max_iter: int = 1000,
    tol: float = 1e-5,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> PLNResult:
    r"""Coefficients of new columns of the design, with other coefficients and Σ fixed, and the posteriors of all cells.

    Maximises the bound of the cells that have entries in these columns plus the log-density of a normal prior of the coefficients,
    :math:`b_{ja} \sim N(c_{ja} + \mu_a, \tau_a^2)` around the given ones c, whose shift μ and spread τ are learned from all genes first
    (empirical Bayes), so that genes without counts keep finite coefficients, and those with few borrow from others.

    Parameters
    ----------
    data
        Counts, offsets and design of all cells.
    coefficients, covariance
        B (p, d), with c in the new columns, and Σ.
    new
        Which columns are new, (d,).
    likelihood
        Distribution of the counts, whose parameters are fixed too; Poisson if None.
    inflation
        Coefficients (p, d) of the logit of zero inflation, where it depends on the design; fixed too.
    posterior, max_iter, tol, n_threads, on_iteration
        As in `fit_pln`.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData, fit_pln_columns
    >>> from scpln.module.covariances import Spherical
    >>> random, truth = np.random.default_rng(0), np.linspace(-1, 1, 20)
    >>> counts = random.poisson(np.exp(2 + truth + random.normal(size=(500, 20))))
    >>> data, start = CountData(counts, np.zeros(500), np.ones((500, 2))), np.tile([2.0, 0.0], (20, 1))
    >>> result = fit_pln_columns(data, start, Spherical(20), np.array([False, True]))
    >>> result.converged, bool(abs(result.coefficients[:, 1] - truth).max() < 0.2)
    (True, True)
    """
    concerned = np.flatnonzero((data.design[:, new] != 0).any(1))
    observations = Observations.of(data).take(concerned)
    observations.check(covariance)
    history, values = History(), np.array(coefficients, np.float64)
    terms = terms_of(observations, likelihood, inflation=inflation)
    with threads(n_threads) as pool, torch_threads(1):
        prior = CoefficientPrior.with_unit_spread(values[:, new])
        profile = ColumnsProfile(values, covariance, FAMILIES[posterior](observations, terms), 0.0, pool, new, prior)
        for last in [False] * PRIOR_ROUNDS + [True]:
            maximizer = Maximizer(profile, history, max_iter, tol, on_iteration)
            maximizer.run(0)
            if last or "interrupted" in maximizer.reason or profile.learn_prior() < PRIOR_CHANGE:
                break
            history.reset()  # another prior is another objective
    with hold_interrupts() as held:
        options: dict[str, Any] = {"likelihood": likelihood, "inflation": inflation, "posterior": posterior}
        cells = infer_pln(data, profile.coefficients, covariance, n_threads=n_threads, **options)
    converged, reason = judged(maximizer.converged, held.after(maximizer.reason), cells.elbo)
    return PLNResult(
        **vars(cells),
        coefficients=profile.coefficients,
        covariance=covariance,
        likelihood=terms.likelihood,
        history=history.lists,
        converged=converged,
        reason=reason,
    )
