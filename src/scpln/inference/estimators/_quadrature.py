"""Exact maximum likelihood by quadrature: gene by gene where these are independent, on a grid of one or two genes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.core import hold_interrupts, ranges, threads
from scpln.inference.genespace import fit_pln
from scpln.inference.genespace._fit import START_VARIANCE
from scpln.inference.genespace._observations import Observations
from scpln.inference.newton._convergence import History
from scpln.module.covariances import Diagonal, Fixed, Spherical
from scpln.module.likelihoods._laplace import REACH

from ._estimate import Search, take_cells
from ._genewise import Genewise, search_genewise
from ._importance import Rounds
from ._points import WeightedPoints, log_likelihood
from ._proposals import whitened_factors

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData, Threads
    from scpln.inference.genespace import GenePosteriors, PLNResult, PosteriorName
    from scpln.module.covariances import Covariance

    from ._estimate import Estimate

#: Most genes of a grid, and its nodes along each.
MOST_GENES, N_NODES = 2, 48
#: A gene has converged when a step is expected to gain less than this share of the tolerance, of all cells.
NEWTON_SHARE = 1e-4
#: Cells × nodes that are computed together.
BLOCK_POINTS = 256 * 1024


def has_quadrature(covariance: Covariance) -> bool:
    """Whether integrals over the log-rates of a cell are sums here: genes are independent, or no more than two.

    Examples
    --------
    >>> from scpln.module.covariances import Full
    >>> has_quadrature(Diagonal(100)), has_quadrature(Full(2)), has_quadrature(Full(3))
    (True, True, False)
    """
    return isinstance(covariance, Diagonal | Spherical) or covariance.n_genes <= MOST_GENES


def fit_quadrature(
    data: CountData,
    covariance: Covariance,
    *,
    posterior: PosteriorName = "fullrank",
    prior_precision: float = 1e-2,
    start: PLNResult | None = None,
    max_iter: int = 1000,
    tol: float = 1e-5,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Estimate:
    r"""Maximum likelihood of the Poisson log-normal model, with integrals by quadrature: no bound, and no bias of one.

    With a `Diagonal` or `Spherical` covariance, genes are independent given the latter's σ, and each cell's likelihood is a product of
    integrals over one log-rate (`count_moments`), which Newton's method maximises in each gene's coefficients and σ. With
    one or two genes and any other covariance, it is an integral over a grid that is placed anew as B and Σ move.

    Parameters
    ----------
    data, covariance, prior_precision, start, max_iter, tol, n_threads, on_iteration
        As in `fit_pln`. Gene by gene, `start` is not used.
    posterior
        Family of the Gaussian posteriors that cells get at the estimates; the estimates do not depend on it.

    Returns
    -------
    Estimate
        Its `elbo` is the log-likelihood of each cell.

    Raises
    ------
    ValueError
        As `fit_pln`, or there are more than two genes that are not independent.

    References
    ----------
    Aitchison and Ho (1989), The multivariate Poisson-log normal distribution. Biometrika 76, 643-653.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.estimators import fit_quadrature
    >>> random = np.random.default_rng(0)
    >>> counts = random.poisson(np.exp(-2 + random.standard_normal((20_000, 1))))
    >>> round(float((counts == 0).mean()), 2)
    0.82
    >>> result = fit_quadrature(CountData(counts, np.zeros(20_000), np.ones((20_000, 1))), Diagonal(1))
    >>> result.converged, bool(abs(result.covariance.dense[0, 0] - 1) < 0.1)
    (True, True)
    """
    if not has_quadrature(covariance):
        msg = (
            f"inference='quadrature' is for independent genes (covariance='diagonal' or 'spherical') or up to {MOST_GENES}, and these are "
            f"{covariance.n_genes} with {type(covariance).__name__}. Take inference='importance'."
        )
        raise ValueError(msg)
    observations = Observations.of(data)
    observations.check(covariance)
    search = Search(data, observations.regress(), copy.deepcopy(covariance), History())
    with threads(n_threads) as pool:
        if isinstance(covariance, Diagonal | Spherical):
            _by_gene(search, observations, prior_precision, max_iter, tol, pool, on_iteration)
        else:
            first = start or fit_pln(data, covariance, prior_precision=prior_precision, tol=tol, n_threads=n_threads)
            search.take(first.coefficients, first.covariance)
            rounds = Rounds(search, observations, pool, prior_precision, max_iter, tol, on_iteration)
            if first.interrupted:
                search.reason = first.reason
            else:
                rounds.run(lambda: grid(observations, search.coefficients, search.covariance, search.posteriors()))
        with hold_interrupts() as held:
            cells = search.posteriors(posterior, n_threads)
            values = exact_log_likelihood(data, search.coefficients, search.covariance, cells, pool)
    return search.estimate(cells, values, held.after(search.reason), {})


def _by_gene(
    search: Search,
    observations: Observations,
    prior_precision: float,
    max_iter: int,
    tol: float,
    pool: Threads,
    on_iteration: Callable[[int, float], None] | None,
) -> None:
    n, d = len(observations.counts), observations.design.shape[1]
    ridge = np.full(d, prior_precision)
    ridge[0] = 0
    coefficients, shared = search.coefficients.copy(), isinstance(search.covariance, Spherical)
    residuals = observations.residuals(coefficients)
    variance = np.square(residuals).mean(0) + START_VARIANCE
    sd = np.full(len(variance), np.sqrt(variance.mean())) if shared else np.sqrt(variance)
    problem = Genewise(observations, coefficients, sd, ridge, shared, pool)
    constant = float(observations.log_factorial.sum())

    def note(objective: float) -> None:
        search.coefficients = problem.coefficients
        search.covariance.move(problem.sd[:1] if shared else problem.sd)
        log_prior = -0.5 * float((ridge * problem.coefficients**2).sum())
        search.history.add((objective - log_prior - constant) / n, (objective - constant) / n)
        if on_iteration is not None:
            on_iteration(len(search.history.elbo), search.history.elbo[-1])

    try:
        search.converged, search.reason = search_genewise(problem, NEWTON_SHARE * tol * n, max_iter, note)
    except KeyboardInterrupt:
        search.interrupted()


def exact_log_likelihood(
    data: CountData, coefficients: Array, covariance: Covariance, cells: GenePosteriors, pool: Threads
) -> Array:
    """Log-likelihood of each cell by quadrature, (n,), nats; `covariance` is one that `has_quadrature`."""
    observations = Observations.of(data)
    if _is_diagonal(covariance):
        sd = np.sqrt(np.diagonal(covariance.dense))
        problem = Genewise(observations, coefficients, sd, np.zeros(coefficients.shape[1]), False, pool)
        return problem.cell_values() - observations.log_factorial
    values = np.empty(data.n_cells)
    for start, stop in ranges(0, data.n_cells, max(1, BLOCK_POINTS // N_NODES**MOST_GENES)):
        here = np.arange(start, stop)
        some = take_cells(cells, here)
        points = grid(observations.take(here), coefficients, covariance, some)
        points.settle(coefficients, covariance, pool)
        values[here] = points.bound
    return values


def _is_diagonal(covariance: Covariance) -> bool:
    if isinstance(covariance, Fixed):
        return bool((covariance.dense == np.diag(np.diagonal(covariance.dense))).all())
    return isinstance(covariance, Diagonal | Spherical)


def grid(
    observations: Observations, coefficients: Array, covariance: Covariance, cells: GenePosteriors
) -> WeightedPoints:
    r"""Nodes of a product rule, z = m + F u, with F Fᵀ = V of the Gaussian posterior, and their weights.

    The trapezoidal rule in :math:`\sinh^{-1}(u / 2)` along each axis, from −15 to 9 of the posterior's standard deviations.
    """
    n, p = observations.shape
    left, right = np.arcsinh(np.array(REACH) / 2)
    places = np.linspace(left, right, N_NODES)
    axis, log_axis = 2 * np.sinh(places), np.log(2 * np.cosh(places) * (places[1] - places[0]))
    nodes = np.stack(np.meshgrid(*[axis] * p, indexing="ij"), -1).reshape(-1, p)
    log_weights = np.stack(np.meshgrid(*[log_axis] * p, indexing="ij"), -1).reshape(-1, p).sum(1)
    weight = observations.rates(slice(None), observations.offsets + cells.mean + 0.5 * cells.variance)
    factor = np.linalg.cholesky(covariance.dense)
    whitened, log_det = whitened_factors(factor, weight)
    spread = torch.from_numpy(nodes.T).expand(n, -1, -1)
    from_mean = torch.linalg.solve_triangular(whitened.mT, spread, upper=True).mT.numpy() @ factor.T
    points, log_terms = cells.mean[:, None] + from_mean, np.empty((n, len(nodes)))
    for start, stop in ranges(0, n, max(1, BLOCK_POINTS // len(nodes))):
        here = slice(start, stop)
        log_terms[here] = log_likelihood(observations, here, points[here]) + log_weights + 0.5 * log_det[here, None]
    return WeightedPoints(observations, cells, points, log_terms, drawn=False)
