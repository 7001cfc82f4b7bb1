"""Posteriors of cells under given parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from scpln.core import ranges, threads
from scpln.train import torch_threads

from ._fullrank import FullRank
from ._meanfield import MeanField
from ._observations import Observations
from ._result import GenePosteriors
from .terms import terms_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.module import Likelihood
    from scpln.module.covariances import Covariance

    from ._posteriors import Posteriors
    from .terms import Terms

PosteriorName: TypeAlias = Literal["fullrank", "meanfield"]
FAMILIES: dict[str, type[Posteriors]] = {"fullrank": FullRank, "meanfield": MeanField}
#: Most steps of a cell, a dozen is usual, and the predicted gain at which it has converged, nats.
MAX_STEPS, TOLERANCE = 200, 1e-13


def posteriors_of(posteriors: Posteriors) -> GenePosteriors:
    """What is known of the cells."""
    kept = posteriors.mean, posteriors.variance, posteriors.weight
    return GenePosteriors(*kept, posteriors.log_det, posteriors.bound, posteriors.stuck)


def infer_pln(
    data: CountData,
    coefficients: Array,
    covariance: Covariance,
    *,
    likelihood: Likelihood | None = None,
    inflation: Array | None = None,
    posterior: PosteriorName = "fullrank",
    n_threads: int | None = None,
) -> GenePosteriors:
    r"""Optimal Gaussian posteriors of cells, with B and Σ fixed.

    Under a log-concave likelihood, which all are but zero-inflated ones, the bound is concave in the mean and a root of the covariance of each cell,
    so that the optimum does not depend on where it is searched from: cells that were fitted get the same again. Where some entries were not observed (`Entries`), it is the posterior of all genes given the counts of the others, by which these are predicted.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    coefficients
        B (p, d).
    covariance
        Σ.
    likelihood
        Distribution of the counts given their log-rates, with its parameters; Poisson if None.
    inflation
        Coefficients (p, d) of the logit of zero inflation, where it depends on the design.
    posterior
        `"fullrank"` or `"meanfield"`.
    n_threads
        Threads; all available ones when None.

    Raises
    ------
    ValueError
        Sizes do not match, or offsets are not finite.

    Examples
    --------
    The count of one gene says something about another:

    >>> import numpy as np
    >>> from scpln.inference import CountData, Entries
    >>> from scpln.inference.genespace import infer_pln
    >>> from scpln.module.covariances import Fixed
    >>> covariance = Fixed(2, np.array([[1.0, 0.9], [0.9, 1.0]]))
    >>> first = Entries(observed=np.array([[True, False]]))
    >>> data = CountData(np.array([[100, 0]]), np.zeros(1), np.ones((1, 1)), entries=first)
    >>> given = infer_pln(data, np.full((2, 1), 2.0), covariance)
    >>> given.mean.round(2), given.variance.round(2)
    (array([[4.57, 4.32]]), array([[0.01, 0.2 ]]))
    """
    observations = Observations.of(data)
    observations.check(covariance)
    posteriors = FAMILIES[posterior](observations, terms_of(observations, likelihood, inflation=inflation))
    with threads(n_threads) as pool, torch_threads(1):
        posteriors.settle(np.asarray(coefficients, np.float64), covariance, pool, max_steps=MAX_STEPS, tol=TOLERANCE)
    return posteriors_of(posteriors)


def pln_elbo(
    data: CountData,
    coefficients: Array,
    covariance: Covariance,
    mean: Array,
    variance: Array,
    *,
    likelihood: Likelihood | None = None,
    inflation: Array | None = None,
    posterior: PosteriorName = "fullrank",
) -> Array:
    r"""Bound of each cell at given posteriors, in nats, (n,).

    Of a posterior of full rank, mean and diag V are enough: its covariance is :math:`V = (\Omega + \text{diag}\, A)^{-1}` with the curvatures A
    of the expected log-likelihood under those, which is the only form that an optimum has. The bound is that of this V, whatever the variances are.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    coefficients, covariance
        B (p, d) and Σ.
    mean, variance
        m and diag V, (n, p).
    likelihood, inflation, posterior
        As in `infer_pln`.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace import infer_pln, pln_elbo
    >>> from scpln.module.covariances import Full
    >>> data, coefficients = CountData(np.array([[3, 1]]), np.zeros(1), np.ones((1, 1))), np.zeros((2, 1))
    >>> cells = infer_pln(data, coefficients, Full(2))
    >>> np.allclose(pln_elbo(data, coefficients, Full(2), cells.mean, cells.variance), cells.elbo)
    True
    >>> bool(pln_elbo(data, coefficients, Full(2), cells.mean + 0.1, cells.variance)[0] < cells.elbo[0])
    True
    """
    observations = Observations.of(data)
    terms = terms_of(observations, likelihood, inflation=inflation)
    posteriors = _at(observations, terms, coefficients, covariance, mean, variance, posterior)
    return posteriors.bound


def posterior_covariance(
    data: CountData,
    coefficients: Array,
    covariance: Covariance,
    mean: Array,
    variance: Array,
    *,
    cells: NDArray[np.intp] | None = None,
    likelihood: Likelihood | None = None,
    inflation: Array | None = None,
    posterior: PosteriorName = "fullrank",
) -> Array:
    """Covariances V of the posteriors of chosen cells, (k, p, p), from the means and variances of all.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    coefficients, covariance
        B (p, d) and Σ.
    mean, variance
        m and diag V, (n, p), as `fit_pln` and `infer_pln` give them.
    cells
        Positions of the cells; all when None.
    likelihood, inflation, posterior
        As in `infer_pln`.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace import infer_pln, posterior_covariance
    >>> from scpln.module.covariances import Fixed
    >>> covariance = Fixed(2, np.array([[1.0, 0.9], [0.9, 1.0]]))
    >>> data = CountData(np.array([[3, 1]]), np.zeros(1), np.ones((1, 1)))
    >>> cells = infer_pln(data, np.zeros((2, 1)), covariance)
    >>> posterior_covariance(data, np.zeros((2, 1)), covariance, cells.mean, cells.variance).round(2)
    array([[[0.26, 0.18],
            [0.18, 0.27]]])
    """
    chosen = np.arange(data.n_cells) if cells is None else np.asarray(cells)
    observations = Observations.of(data).take(chosen)
    at = coefficients, covariance, mean[chosen], variance[chosen]
    return _at(observations, terms_of(observations, likelihood, inflation=inflation), *at, posterior).covariance()


def _at(
    observations: Observations,
    terms: Terms,
    coefficients: Array,
    covariance: Covariance,
    mean: Array,
    variance: Array,
    name: str,
) -> Posteriors:
    observations.check(covariance)
    posteriors = FAMILIES[name](observations, terms)
    posteriors.prepare(covariance)
    prior_mean, size = observations.design @ np.asarray(coefficients, np.float64).T, posteriors.block_size()
    for start, stop in ranges(0, len(mean), size):
        block = slice(start, stop)
        posteriors.place(block, prior_mean[block], mean[block], variance[block])
    return posteriors
