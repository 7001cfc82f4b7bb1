"""Importance-weighted expectation maximisation in gene space."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace import fit_pln, infer_pln
from scpln.inference.genespace._maximize import CLOSED_STEPS, Maximizer
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace._profile import Profile
from scpln.inference.newton._convergence import History

from ._estimate import Search
from ._proposals import draw_points, importance_bounds, independent_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import CountData, Threads
    from scpln.inference.genespace import PLNResult
    from scpln.module.covariances import Covariance

    from ._estimate import Estimate
    from ._points import WeightedPoints

#: Draws of all cells together unless the user says otherwise, and fewest and most of a cell.
ALL_DRAWS, FEWEST, MOST = 200_000, 100, 5000
#: What a round of draws may change when it has converged, as a share of the bound's Monte-Carlo standard error.
NEGLIGIBLE = 0.2
#: Most times that draws are made anew, and most iterations between.
ROUNDS, ITERATIONS = 20, 50
#: Effective sample size, as a number of draws, below which a cell's weights say little.
LEAST_EFFECTIVE = 10.0


def fit_importance(
    data: CountData,
    covariance: Covariance,
    *,
    n_samples: int | None = None,
    prior_precision: float = 1e-2,
    start: PLNResult | None = None,
    seed: int = 0,
    max_iter: int = 1000,
    tol: float = 1e-5,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Estimate:
    r"""Maximise the importance-weighted bound [1]_ of the Poisson log-normal model over B and Σ.

    .. math:: \sum_i \log \frac1K \sum_{k=1}^K \frac{p(y_i, z_{ik})}{q_i(z_{ik})}, \qquad z_{ik} \sim q_i

    which on average is below the log-likelihood by half the variance of the weights over K, where the bound that a variational fit maximises is
    below it by a divergence. Draws are made around the Gaussian posteriors at the present B and Σ. Given those, B and Σ take closed
    steps of expectation maximisation, with the weighted first and second moments in place of the posterior's, and quasi-Newton steps with the same
    moments as slopes; then draws are made anew, with the same random numbers, until that changes nothing.

    Weights degenerate as genes become more: watch `summary["low_ess"]`, the share of cells with fewer than 10 effective draws.

    Parameters
    ----------
    data, covariance, prior_precision, start, tol, n_threads, on_iteration
        As in `fit_pln`. `start` is a variational fit, which is made if there is none.
    n_samples
        Draws K of every cell, 2 or more; all are in memory, n × K × p numbers. By default 200,000 of all cells together, but 100 to 5,000 of
        each: where cells are few, the noise of their draws is not averaged out.
    seed
        Of the draws. Each cell's depend on this and its position.
    max_iter
        Most iterations, of the variational fit and of this one.

    Returns
    -------
    Estimate
        Its `elbo` is the bound under draws that are independent of those of the fit.

    Raises
    ------
    ValueError
        As `fit_pln`, or `n_samples` is less than 2.

    References
    ----------
    .. [1] Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, ICLR. Stoehr and Robin (2024), Composite likelihood inference
       for the Poisson log-normal model, arXiv 2402.14390.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.estimators import fit_importance
    >>> from scpln.module.covariances import Full
    >>> random = np.random.default_rng(0)
    >>> log_rates = random.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=500)
    >>> data = CountData(random.poisson(np.exp(log_rates)), np.zeros(500), np.ones((500, 1)))
    >>> result = fit_importance(data, Full(2))
    >>> result.converged, result.covariance.dense.round(1).shape
    (True, (2, 2))
    """
    n_samples = default_draws(data.n_cells) if n_samples is None else n_samples
    if n_samples < 2:
        msg = f"n_samples={n_samples!r}, but weights need two draws or more."
        raise ValueError(msg)
    if start is None:
        start = fit_pln(
            data, covariance, prior_precision=prior_precision, max_iter=max_iter, tol=tol, n_threads=n_threads
        )
    observations = Observations.of(data)
    search = Search(data, start.coefficients, start.covariance, History())
    with threads(n_threads) as pool:
        rounds = Rounds(search, observations, pool, prior_precision, max_iter, tol, on_iteration)

        def points() -> WeightedPoints:
            cells = infer_pln(data, search.coefficients, search.covariance, n_threads=1)
            where = search.coefficients, search.covariance, cells, pool
            return draw_points(observations, *where, n_samples=n_samples, seed=seed)

        if not start.interrupted:
            rounds.run(points)
        else:
            search.reason = start.reason
        with hold_interrupts() as held:
            cells = search.posteriors(n_threads=n_threads)
            where = search.coefficients, search.covariance, cells, pool
            bounds, ess = importance_bounds(observations, *where, n_samples=n_samples, seed=independent_seed(seed))
    low = float((ess * n_samples < LEAST_EFFECTIVE).mean())
    summary = {"ess": float(ess.mean()), "low_ess": low, "bound_samples": n_samples}
    return search.estimate(cells, bounds, held.after(search.reason), summary)


def default_draws(n_cells: int) -> int:
    """Draws of every cell unless the user says otherwise.

    Examples
    --------
    >>> default_draws(50), default_draws(1000), default_draws(10**6)
    (4000, 200, 100)
    """
    return min(max(ALL_DRAWS // n_cells, FEWEST), MOST)


class Rounds:
    """Maximise over B and Σ with points as they are, make these anew, and so on until that changes nothing."""

    def __init__(
        self,
        search: Search,
        observations: Observations,
        pool: Threads,
        prior_precision: float,
        max_iter: int,
        tol: float,
        on_iteration: Callable[[int, float], None] | None,
    ) -> None:
        self.search, self.observations, self.pool = search, observations, pool
        self.prior_precision, self.max_iter, self.tol, self.on_iteration = prior_precision, max_iter, tol, on_iteration

    def profile(self, points: WeightedPoints) -> Profile:
        """The sum over cells as a function of B and Σ, starting at the best."""
        where = self.search.coefficients, copy.deepcopy(self.search.covariance)
        return Profile(*where, points, self.prior_precision, self.pool)  # type: ignore[arg-type]

    def run(self, make_points: Callable[[], WeightedPoints]) -> None:
        """All rounds; an interrupt (Ctrl-C) ends them, at the best B and Σ so far."""
        search = self.search
        before: float | None = None
        kept = search.coefficients, search.covariance
        try:
            for _ in range(ROUNDS):
                try:
                    now, enough, profile = self._judge(make_points)
                except np.linalg.LinAlgError:  # Σ has run away with the points as they were
                    if before is None:
                        raise
                    search.take(*kept)
                    search.reason = "ended: estimates ran away from the draws; those of the round before are kept"
                    return
                if before is not None and now < before - enough:
                    search.take(*kept)
                    search.converged = True
                    search.reason = f"converged: new draws find no more, to {enough:.2g} nats per cell"
                    return
                if before is not None and now - before < enough:
                    search.converged = True
                    search.reason = f"converged: new draws change the bound by less than {enough:.2g} nats per cell"
                    return
                before, kept = now, (search.coefficients, search.covariance)
                self.maximize(profile, closed_steps=CLOSED_STEPS)
                if search.reason:
                    return
            search.reason = f"{ROUNDS} rounds of draws, the maximum"
        except KeyboardInterrupt:
            search.interrupted()

    def _judge(self, make_points: Callable[[], WeightedPoints]) -> tuple[float, float, Profile]:
        """What new draws say of B and Σ per cell, up to how much, and the sum over cells."""
        points = make_points()
        profile = self.profile(points)
        profile.settle(max_steps=0, tol=self.tol)
        return profile.objective / len(points.bound), max(self.tol, NEGLIGIBLE * points.standard_error), profile

    def maximize(self, profile: Profile, *, closed_steps: int, iterations: int = ITERATIONS) -> float:
        """Iterate with points as they are; what is maximised, per cell, where that ends."""
        history = History()
        before = len(self.search.history.elbo)
        left = self.max_iter - before
        maximizer = Maximizer(profile, history, min(iterations, left), self.tol, self._report)
        maximizer.run(closed_steps)
        self.search.take(profile.coefficients, profile.covariance)
        for elbo, objective in zip(history.elbo, history.objective, strict=True):
            self.search.history.add(elbo, objective)
        if "interrupted" in maximizer.reason:
            raise KeyboardInterrupt
        if left <= iterations and not maximizer.converged:
            self.search.reason = f"{self.max_iter} iterations, the maximum"
        return profile.objective / len(profile.posteriors.bound)

    def _report(self, iteration: int, elbo: float) -> None:
        if self.on_iteration is not None:
            self.on_iteration(len(self.search.history.elbo) + iteration, elbo)
