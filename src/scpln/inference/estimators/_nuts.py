"""Monte-Carlo expectation maximisation with the no-U-turn sampler."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace import fit_pln, infer_pln
from scpln.inference.genespace._observations import Observations
from scpln.inference.newton._convergence import History

from ._estimate import Search
from ._importance import LEAST_EFFECTIVE, Rounds, default_draws
from ._joint_chain import JointChain
from ._points import WeightedPoints, normal_log_density
from ._proposals import importance_bounds, independent_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData
    from scpln.inference.genespace import PLNResult
    from scpln.inference.genespace._profile import Profile
    from scpln.module.covariances import Covariance

    from ._estimate import Estimate
    from ._joint_chain import Draws

#: Most genes, and most cells × genes × draws, whose numbers are all in memory.
MOST_GENES, MOST_NUMBERS = 50, 2e8
#: Draws of a round at last unless the user says otherwise, and of the first.
N_SAMPLES, FIRST_SAMPLES = 400, 100
#: Most rounds, and closed and quasi-Newton steps in each.
ROUNDS, CLOSED_STEPS, ITERATIONS = 30, 5, 15
#: One-sided 95 % quantile of a normal distribution, with which a gain is told from the draws' noise.
QUANTILE = 1.645
#: Largest R̂ of a sound chain.
LARGEST_R_HAT = 1.05


def fit_nuts(
    data: CountData,
    covariance: Covariance,
    *,
    n_samples: int = N_SAMPLES,
    prior_precision: float = 1e-2,
    start: PLNResult | None = None,
    seed: int = 0,
    max_iter: int = 1000,
    tol: float = 1e-5,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Estimate:
    r"""Monte-Carlo expectation maximisation [1]_ of the Poisson log-normal model, with draws by the no-U-turn sampler.

    Each round draws the log-rates of all cells from their exact posteriors at the present B and Σ (`JointChain`), and maximises what the draws say
    of the log-likelihood's rise [2]_,

    .. math:: \sum_i \log \frac1S \sum_s \frac{N(z_{is}; B x_i, \Sigma)}{N(z_{is}; B^\text{old} x_i, \Sigma^\text{old})},

    whose first step is the closed one of EM, as far as the draws can be trusted. Half of the draws are trained with; the other half says what was gained. Where that is not above its
    Monte-Carlo error, draws are doubled [3]_; at `n_samples` of them the fit has converged, and is maximised once more over all of these.

    Parameters
    ----------
    data, covariance, prior_precision, start, tol, n_threads, on_iteration
        As in `fit_pln`. `start` is a variational fit, which is made if there is none.
    n_samples
        Draws of the last rounds, 100 or more; the first have 100.
    seed
        Of the draws. A cell's depend on all cells.
    max_iter
        Most iterations, of the variational fit and of this one.

    Returns
    -------
    Estimate
        Its `elbo` is the importance-weighted bound at the estimates, under draws of their own; its `summary` has the largest split R̂ (`"r_hat"`) and the
        smallest effective number of draws (`"ess"`, as a share) of the last round.

    Raises
    ------
    ValueError
        As `fit_pln`, `n_samples` is below 100, or there are too many genes, or draws for the memory.

    References
    ----------
    .. [1] Wei and Tanner (1990), A Monte Carlo implementation of the EM algorithm. JASA 85, 699-704.
    .. [2] Geyer and Thompson (1992), Constrained Monte Carlo maximum likelihood for dependent data. JRSS B 54, 657-699.
    .. [3] Caffo, Jank and Jones (2005), Ascent-based Monte Carlo expectation-maximization. JRSS B 67, 235-251.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.estimators import fit_nuts
    >>> from scpln.module.covariances import Full
    >>> random = np.random.default_rng(0)
    >>> log_rates = random.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=100)
    >>> data = CountData(random.poisson(np.exp(log_rates)), np.zeros(100), np.ones((100, 1)))
    >>> result = fit_nuts(data, Full(2), n_samples=100)
    >>> result.converged, result.covariance.dense.shape
    (True, (2, 2))
    """
    check_size(data, n_samples)
    if start is None:
        start = fit_pln(
            data, covariance, prior_precision=prior_precision, max_iter=max_iter, tol=tol, n_threads=n_threads
        )
    observations = Observations.of(data)
    search = Search(data, start.coefficients, start.covariance, History())
    with threads(n_threads) as pool:
        rounds = Rounds(search, observations, pool, prior_precision, max_iter, tol, on_iteration)
        chains = Chains(rounds, JointChain(observations, seed), n_samples, float(start.elbo.mean()))
        if start.interrupted:
            search.reason = start.reason
        else:
            chains.run()
        n_draws = default_draws(data.n_cells)
        with hold_interrupts() as held:
            cells = search.posteriors(n_threads=n_threads)
            bounds, ess = importance_bounds(
                observations,
                search.coefficients,
                search.covariance,
                cells,
                pool,
                n_samples=n_draws,
                seed=independent_seed(seed),
            )
    low = float((ess * n_draws < LEAST_EFFECTIVE).mean())
    return search.estimate(
        cells, bounds, held.after(search.reason), {**chains.summary, "low_ess": low, "bound_samples": n_draws}
    )


def check_size(data: CountData, n_samples: int) -> None:
    """Raise an error where there are too few draws, or too many numbers."""
    if n_samples < FIRST_SAMPLES:
        msg = f"n_samples={n_samples!r}, but inference='nuts' needs {FIRST_SAMPLES} draws or more."
        raise ValueError(msg)
    if data.n_genes > MOST_GENES or data.n_cells * data.n_genes * n_samples > MOST_NUMBERS:
        msg = (
            f"inference='nuts' is for up to {MOST_GENES} genes and {MOST_NUMBERS:.0e} cells × genes × draws, and these are "
            f"{data.n_cells:,} × {data.n_genes} × {n_samples}. Take fewer draws with n_samples, or inference='importance'."
        )
        raise ValueError(msg)


@dataclass
class Chains:
    """Rounds of draws by a chain, more and more, until what they gain is not above their noise."""

    rounds: Rounds
    chain: JointChain
    n_samples: int
    level: float  # mean bound per cell that gains are added to

    def __post_init__(self) -> None:
        self.summary: dict[str, float] = {}
        self.points: WeightedPoints

    def run(self) -> None:
        """All rounds; an interrupt (Ctrl-C) ends them, at the best B and Σ so far."""
        search, n_draws = self.rounds.search, FIRST_SAMPLES
        try:
            for _ in range(ROUNDS):
                gain, error = self._round(n_draws)
                if gain > QUANTILE * error:
                    continue
                if n_draws >= self.n_samples:
                    self._maximize(self.points)
                    search.converged = True
                    search.reason = (
                        f"converged: the gain of a round, {gain:.2g} nats, is within its Monte-Carlo error, {error:.2g}, "
                        f"with {n_draws} draws"
                    )
                    return
                n_draws = min(2 * n_draws, self.n_samples)
            search.reason = f"{ROUNDS} rounds of draws, the maximum"
        except KeyboardInterrupt:
            search.interrupted()

    def _round(self, n_draws: int) -> tuple[float, float]:
        """Draw and maximise; what was gained, nats, and its standard error. A step that loses is not taken."""
        search, rounds = self.rounds.search, self.rounds
        cells = infer_pln(search.data, search.coefficients, search.covariance, n_threads=1)
        drawn = self.chain.draw(search.coefficients, search.covariance, cells, n_draws)
        self._note(drawn)
        self.points = weighted(rounds, cells, drawn)
        train, test = self.points.split()
        before = search.coefficients, copy.deepcopy(search.covariance)
        self._maximize(train)
        held_out = rounds.profile(test)
        held_out.settle(max_steps=0, tol=rounds.tol)
        gain, error = float(test.bound.sum()), len(test.bound) * test.standard_error
        search.reason = ""
        if gain < 0:
            search.take(*before)
        else:
            self.level += gain / len(test.bound)
        return gain, error

    def _maximize(self, points: WeightedPoints) -> None:
        """Over B and Σ, as far as points say; the history has levels, and not gains."""
        rounds, history = self.rounds, self.rounds.search.history
        profile: Profile = rounds.profile(points)
        profile.settle(max_steps=0, tol=rounds.tol)
        first = len(history.elbo)
        rounds.maximize(profile, closed_steps=CLOSED_STEPS, iterations=ITERATIONS)
        for values in (history.elbo, history.objective):
            values[first:] = [self.level + value for value in values[first:]]

    def _note(self, drawn: Draws) -> None:
        self.summary = {
            "r_hat": float(np.nanmax(drawn.r_hat)),
            "ess": float(np.clip(np.nanmin(drawn.ess) / len(drawn.z), 0, 1)),
            "n_draws": float(len(drawn.z)),
        }


def weighted(rounds: Rounds, cells: object, drawn: Draws) -> WeightedPoints:
    """Draws from the posteriors at the present B and Σ: relative to these, each weighs the same there."""
    search, observations = rounds.search, rounds.observations
    points: Array = np.ascontiguousarray(drawn.z.transpose(1, 0, 2))
    residual = points - (observations.design @ search.coefficients.T)[:, None]
    log_prior = normal_log_density(residual, np.linalg.cholesky(search.covariance.dense))
    return WeightedPoints(observations, cells, points, -log_prior - np.log(points.shape[1]))  # type: ignore[arg-type]
