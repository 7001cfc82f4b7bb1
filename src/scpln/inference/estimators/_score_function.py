"""Black-box variational inference in gene space, for a likelihood that is known by its log-density alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace import GenePosteriors
from scpln.inference.genespace._factors import inverse_factors
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace._posteriors import Sums
from scpln.inference.genespace._profile import Profile
from scpln.inference.genespace.terms import PoissonTerms
from scpln.inference.newton._convergence import History
from scpln.module import LogDensityLikelihood

from ._estimate import Search
from ._proposals import independent_seed
from ._score import check_log_density, score_gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData
    from scpln.inference.genespace import PosteriorName
    from scpln.module.covariances import Covariance

    from ._estimate import Estimate
    from ._score import LogDensity

#: Draws of every entry in an iteration unless the user says otherwise, and of those that the reported bound is made of.
N_SAMPLES, BOUND_SAMPLES = 16, 256
#: Iterations at full length, the power at which steps then shrink, and the shortest step.
FULL_STEPS, POWER, SHORTEST = 20, 0.7, 0.02
#: Iterations whose mean bounds are compared, and that posteriors of given B and Σ take.
WINDOW, INFERENCE_STEPS = 50, 200
#: Largest change of a log-rate in a step.
REACH = 1.0
#: Least and largest weight of an entry, relative to its prior precision.
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-6, 1e8


def fit_score_function(
    data: CountData,
    covariance: Covariance,
    log_density: LogDensity,
    *,
    posterior: PosteriorName = "fullrank",
    n_samples: int = N_SAMPLES,
    prior_precision: float = 1e-2,
    seed: int = 0,
    max_iter: int = 1000,
    tol: float = 1e-5,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Estimate:
    r"""Fit B and Σ under any likelihood whose log-density can be evaluated, differentiable or not.

    .. math:: z_i \sim N(B x_i, \Sigma), \qquad \log p(y_i \mid z_i) = \sum_j \ell(o_{ij} + z_{ij}, y_{ij})

    Posteriors are Gaussian. Each iteration estimates the slopes of E[ℓ] by the mean and variance of every log-rate with the score function
    (`score_gradient`), takes a natural-gradient step in the posteriors [1]_, which is Newton's with noise, and closed steps in B and Σ. Steps
    shrink, and what they reached in the second half of them is averaged [2]_.

    Parameters
    ----------
    data, covariance, posterior, prior_precision, on_iteration
        As in `fit_pln`. Searches start at Poisson rates: η is to be on the scale of a log-rate, roughly.
    log_density
        From log-rates with offsets η (K, n, p) and counts y (n, p), float64 tensors, to log-probabilities (K, n, p).
    n_samples
        Draws K of every entry in an iteration, 2 or more.
    seed
        Of the draws.
    max_iter
        Most iterations.
    tol
        Converged when the mean bound of 50 iterations is above that of the 50 before by less than this, nats per cell, or by less than its standard error.

    Returns
    -------
    Estimate
        Its `elbo` is the mean over 256 draws that are independent of those of the fit.

    Raises
    ------
    ValueError
        As `fit_pln`; or entries were not observed; or the log-density gives no finite number for every entry.

    References
    ----------
    .. [1] Khan and Lin (2017), Conjugate-computation variational inference, AISTATS.
    .. [2] Polyak and Juditsky (1992), Acceleration of stochastic approximation by averaging. SIAM J. Control Optim. 30, 838-855.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from scpln.inference import CountData
    >>> from scpln.inference.estimators import fit_score_function
    >>> from scpln.module.covariances import Full
    >>> random = np.random.default_rng(0)
    >>> log_rates = 1 + random.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=200)
    >>> data = CountData(random.poisson(np.exp(log_rates)), np.zeros(200), np.ones((200, 1)))
    >>> result = fit_score_function(
    ...     data, Full(2), lambda eta, y: y * eta - eta.exp() - torch.lgamma(y + 1), max_iter=300
    ... )
    >>> result.covariance.dense.shape
    (2, 2)
    """
    if n_samples < 2:
        msg = f"n_samples={n_samples!r}, but the control variate needs two draws or more."
        raise ValueError(msg)
    observations = Observations.of(data)
    observations.check(covariance)
    _check_observed(observations)
    check_log_density(log_density, observations.counts)
    search = Search(data, observations.regress(), copy.deepcopy(covariance), History())
    residuals = observations.residuals(search.coefficients)
    start = residuals.T @ residuals / len(residuals) + 0.1 * np.eye(residuals.shape[1])
    search.covariance.update(start)
    state = BlackBox(observations, log_density, posterior == "meanfield", np.random.default_rng(seed), n_samples)
    with threads(1) as pool:
        profile = Profile(search.coefficients, search.covariance, state, prior_precision, pool)  # type: ignore[arg-type]
        average = Average()
        try:
            _iterate(profile, state, search, average, max_iter, tol, on_iteration)
        except KeyboardInterrupt:
            search.interrupted()
        average.apply(search, state)
        with hold_interrupts() as held:
            cells = state.finish(search.coefficients, search.covariance, independent_seed(seed))
    likelihood = LogDensityLikelihood(len(search.coefficients), log_density)
    return search.estimate(cells, cells.elbo, held.after(search.reason), {}, likelihood)


def infer_score_function(
    data: CountData,
    coefficients: Array,
    covariance: Covariance,
    log_density: LogDensity,
    *,
    posterior: PosteriorName = "fullrank",
    n_samples: int = N_SAMPLES,
    seed: int = 0,
) -> GenePosteriors:
    """Posteriors of cells with B and Σ fixed, by 200 iterations of `fit_score_function`."""
    observations = Observations.of(data)
    _check_observed(observations)
    check_log_density(log_density, observations.counts)
    state = BlackBox(observations, log_density, posterior == "meanfield", np.random.default_rng(seed), n_samples)
    average = Average()
    for iteration in range(INFERENCE_STEPS):
        state.step(coefficients, covariance, _length(iteration))
        if iteration >= INFERENCE_STEPS // 2:
            average.add(state.mean, state.weight)
    state.mean, state.weight = average.values
    return state.finish(coefficients, covariance, independent_seed(seed))


def _check_observed(observations: Observations) -> None:
    if observations.observed is not None:
        msg = "Entries that were not observed are not for inference='score_function'. Leave mask_key out, or take a likelihood by name."
        raise ValueError(msg)


def _length(iteration: int) -> float:
    """Length of a step."""
    return max(min(1.0, (FULL_STEPS / (iteration + 1)) ** POWER), SHORTEST)


def _iterate(
    profile: Profile,
    state: BlackBox,
    search: Search,
    average: Average,
    max_iter: int,
    tol: float,
    on_iteration: Callable[[int, float], None] | None,
) -> None:
    """Steps in posteriors, B and Σ, until the bound has stopped rising."""
    n, bounds = len(state.mean), search.history.elbo
    for iteration in range(max_iter):
        profile.sums = state.step(profile.coefficients, profile.covariance, _length(iteration))
        search.history.add(profile.sums.bound / n, profile.objective / n)
        profile.maximize_given_posteriors()
        search.take(profile.coefficients, profile.covariance)
        average.add(state.mean, state.weight, profile.coefficients, profile.covariance.dense)
        if on_iteration is not None:
            on_iteration(iteration + 1, bounds[-1])
        if (iteration + 1) % WINDOW == 0 and iteration + 1 >= 4 * WINDOW:
            now, before = np.array(bounds[-WINDOW:]), np.array(bounds[-2 * WINDOW : -WINDOW])
            error = float(np.sqrt((now.var() + before.var()) / WINDOW))
            gain = float(now.mean() - before.mean())
            if gain < max(tol, error):
                search.converged = True
                search.reason = f"converged: {WINDOW} iterations gained {gain:.2g} nats per cell, with a standard error of {error:.2g}"
                return
    search.reason = f"{max_iter} iterations, the maximum"


class Average:
    """Means of arrays over the later half of iterations."""

    def __init__(self) -> None:
        self._sums: list[tuple[Array, ...]] = []
        self._counts: list[int] = []

    def add(self, *values: Array) -> None:
        """Take note of an iteration; those of a window are added up."""
        if not self._counts or self._counts[-1] == WINDOW:
            self._sums.append(tuple(np.zeros_like(value) for value in values))
            self._counts.append(0)
        self._sums[-1] = tuple(total + value for total, value in zip(self._sums[-1], values, strict=True))
        self._counts[-1] += 1

    @property
    def values(self) -> list[Array]:
        """The means."""
        first = len(self._counts) // 2
        n = sum(self._counts[first:])
        return [sum(parts[1:], parts[0]) / n for parts in zip(*self._sums[first:], strict=True)]

    def apply(self, search: Search, state: BlackBox) -> None:
        """Put a search and the posteriors at the means."""
        if not self._counts:
            return
        state.mean, state.weight, coefficients, dense = self.values
        search.covariance.update(0.5 * (dense + dense.T))
        search.coefficients = coefficients


@dataclass
class BlackBox:
    """Gaussian posteriors of all cells, V = (Ω + diag w)⁻¹ or the inverse of its diagonal, that move by noisy natural gradients."""

    observations: Observations
    log_density: LogDensity
    diagonal: bool
    random: np.random.Generator
    n_samples: int

    def __post_init__(self) -> None:
        seen = self.observations
        residuals = seen.residuals(seen.regress())
        self.residual = residuals  # m − Bx
        self.weight = np.maximum(seen.counts, 0.5)
        self.mean = np.full(seen.shape, np.nan)
        self.terms = PoissonTerms(seen)  # without parameters, as a log-density is

    def step(self, coefficients: Array, covariance: Covariance, length: float) -> Sums:
        """One step, and what posteriors say of B and Σ after it."""
        seen = self.observations
        prior, precision, prior_mean = covariance.dense, covariance.precision, seen.design @ coefficients.T
        if np.isnan(self.mean).any():
            self.mean = prior_mean + self.residual
        diagonal = np.diagonal(precision)
        factors, variance, _ = self._posterior(prior, precision)
        noise = self.random.standard_normal((self.n_samples, *seen.shape))
        found = score_gradient(self.log_density, seen.counts, seen.offsets + self.mean, variance, noise)
        slope = np.where(np.isfinite(found.slope), found.slope, 0) - (self.mean - prior_mean) @ precision
        whole = slope @ prior
        direction = whole - _quadratic(factors, whole) @ prior
        self.mean = self.mean + length * np.clip(direction, -REACH, REACH)
        least, most = LEAST_WEIGHT / np.diagonal(prior), LARGEST_WEIGHT * diagonal
        weight = np.clip(np.where(np.isfinite(found.weight), found.weight, self.weight), least, most)
        self.weight = self.weight * (1 - 0.5 * length) + 0.5 * length * weight
        return self.sums(coefficients, covariance, found.value.sum(1))

    def sums(self, coefficients: Array, covariance: Covariance, likelihood: Array) -> Sums:
        """What posteriors as they are say of B and Σ."""
        prior, precision = covariance.dense, covariance.precision
        residual = self.mean - self.observations.design @ coefficients.T
        shift = residual @ precision
        factors, variance, log_det = self._posterior(prior, precision)
        self.bound = likelihood - self._divergence(covariance, variance, log_det, shift, residual)
        if self.diagonal:
            spread = (precision * variance.sum(0)) @ precision - len(residual) * precision
        else:
            rows = factors.reshape(-1, factors.shape[2])
            spread = -(rows.T @ rows)
        return Sums(float(self.bound.sum()), self.observations.design.T @ shift, shift.T @ shift + spread, np.zeros(0))

    def finish(self, coefficients: Array, covariance: Covariance, seed: int) -> GenePosteriors:
        """Posteriors as they are, and their bounds by draws of their own, (n,)."""
        seen, random = self.observations, np.random.default_rng(seed)
        _, variance, log_det = self._posterior(covariance.dense, covariance.precision)
        values = np.zeros(len(self.mean))
        rounds = BOUND_SAMPLES // self.n_samples + 1
        for _ in range(rounds):
            noise = random.standard_normal((self.n_samples, *seen.shape))
            found = score_gradient(self.log_density, seen.counts, seen.offsets + self.mean, variance, noise)
            values += found.value.sum(1) / rounds
        self.sums(coefficients, covariance, values)
        wrong = np.flatnonzero(~np.isfinite(self.bound))
        return GenePosteriors(self.mean, variance, self.weight, log_det, self.bound, wrong)

    def _posterior(self, prior: Array, precision: Array) -> tuple[Array, Array, Array]:
        """T with K = TᵀT = (Σ + diag 1/w)⁻¹, diag V and log det V."""
        root = np.sqrt(self.weight)
        matrices = np.eye(len(prior)) + root[:, :, None] * prior * root[:, None, :]
        factors, log_det = inverse_factors(matrices)
        if self.diagonal:
            variance = 1 / (np.diagonal(precision) + self.weight)
            return factors * root[:, None, :], variance, np.log(variance).sum(1)
        variance = np.maximum(1 - np.einsum("nkj,nkj->nj", factors, factors), 1e-12) / self.weight
        return factors * root[:, None, :], variance, np.linalg.slogdet(prior)[1] - log_det

    def _divergence(
        self, covariance: Covariance, variance: Array, log_det: Array, shift: Array, residual: Array
    ) -> Array:
        """KL of posteriors from the prior, (n,)."""
        if self.diagonal:
            trace = variance @ np.diagonal(covariance.precision)
        else:
            trace = len(covariance.dense) - (self.weight * variance).sum(1)
        distance = np.einsum("np,np->n", shift, residual)
        divergence: Array = 0.5 * (covariance.log_det - log_det + trace - len(covariance.dense) + distance)
        return divergence


def _quadratic(factors: Array, vectors: Array) -> Array:
    """K v of every cell."""
    product: Array = np.matmul(factors.transpose(0, 2, 1), np.matmul(factors, vectors[:, :, None]))[:, :, 0]
    return product
