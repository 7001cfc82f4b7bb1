"""Posteriors of series under given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import threads
from scpln.inference.genespace._infer import MAX_STEPS, TOLERANCE
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace.terms import terms_of
from scpln.train import torch_threads

from ._posteriors import SeriesStates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.module import Likelihood

    from ._order import Order
    from ._process import Process


@dataclass(frozen=True)
class SeriesPosteriors:
    """Posteriors of the log-rates of samples of series.

    Attributes
    ----------
    mean, covariance
        Means (n, p) of the log-rates without offsets, which include Bx, and the covariances of each sample, (n, p, p).
    elbo
        Shares of the samples in the bounds of their series, which add up to these, nats, (n,).
    stuck
        Positions of samples whose series did not converge.
    """

    mean: Array
    covariance: Array
    elbo: Array
    stuck: NDArray[np.intp]

    @classmethod
    def of(cls, states: SeriesStates) -> SeriesPosteriors:
        """What is known of the samples."""
        return cls(states.mean, states.covariance(), states.bound, states.stuck)


def infer_pln_series(
    data: CountData,
    order: Order,
    coefficients: Array,
    process: Process,
    *,
    likelihood: Likelihood | None = None,
    n_threads: int | None = None,
) -> SeriesPosteriors:
    r"""Optimal Gaussian posteriors of whole series, with B, Σ and Φ fixed.

    Parameters
    ----------
    data
        Counts, offsets and design of the samples.
    order
        Which follow each other.
    coefficients, process
        B (p, d), and Σ with Φ.
    likelihood
        Distribution of the counts given their log-rates, with its parameters; Poisson if None.
    n_threads
        Threads; all available ones when None.

    Raises
    ------
    ValueError
        Sizes do not match, or offsets are not finite.

    Examples
    --------
    What was not observed is known by what was before and after:

    >>> import numpy as np
    >>> from scpln.inference import CountData, Entries
    >>> from scpln.inference.genespace.series import Order, Process, infer_pln_series
    >>> from scpln.module.covariances import Fixed
    >>> process = Process(Fixed(1, np.eye(1)))
    >>> process.set_phi(np.array([0.9]))
    >>> data = CountData(
    ...     np.array([[100], [0], [100]]),
    ...     np.zeros(3),
    ...     np.ones((3, 1)),
    ...     entries=Entries(observed=np.array([[True], [False], [True]])),
    ... )
    >>> given = infer_pln_series(data, Order.of(np.zeros(3), np.arange(3)), np.full((1, 1), 3.0), process)
    >>> given.mean.ravel().round(2), given.covariance.ravel().round(2)
    (array([4.59, 4.58, 4.59]), array([0.01, 0.11, 0.01]))
    """
    observations = Observations.of(data)
    observations.check(process.family)
    states = SeriesStates(observations, terms_of(observations, likelihood), order)
    with threads(n_threads) as pool, torch_threads(1):
        states.settle(np.asarray(coefficients, np.float64), process, pool, max_steps=MAX_STEPS, tol=TOLERANCE)
    return SeriesPosteriors.of(states)
