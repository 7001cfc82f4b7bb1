"""Fit the Poisson log-normal model of series: coefficients, covariance, autoregression and posteriors."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace._fit import fit_pln
from scpln.inference.genespace._infer import MAX_STEPS, TOLERANCE
from scpln.inference.genespace._maximize import Maximizer
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace.terms import terms_of
from scpln.inference.newton._convergence import History, finite_mean, judged
from scpln.train import torch_threads

from ._infer import SeriesPosteriors
from ._posteriors import SeriesStates
from ._process import Process
from ._profile import SeriesProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData
    from scpln.inference.genespace import PLNResult
    from scpln.module import Likelihood
    from scpln.module.covariances import Covariance

    from ._order import Order
    from ._process import AutoregressionName

#: Tolerance and most iterations of the fits that this one starts from: without autoregression, and with one φ before there are many. The
#: least and largest correlation of a start: at the ends of its range φ hardly moves with its angle.
START_TOLERANCE, START_ITERATIONS, START_PHI = 1e-3, 30, (0.2, 0.9)


@dataclass(frozen=True)
class SeriesResult(SeriesPosteriors):
    """A fitted model of series, with the posteriors of its samples.

    Attributes
    ----------
    coefficients, process, likelihood
        B (p, d), Σ with Φ, and the distribution of the counts.
    history, converged, reason
        As of `PLNResult`.
    """

    coefficients: Array
    process: Process
    likelihood: Likelihood
    history: dict[str, list[float]]
    converged: bool
    reason: str


def fit_pln_series(
    data: CountData,
    order: Order,
    covariance: Covariance,
    autoregression: AutoregressionName = "scalar",
    *,
    likelihood: Likelihood | None = None,
    prior_precision: float = 1e-2,
    max_iter: int = 1000,
    tol: float = 1e-5,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> SeriesResult:
    r"""Fit the Poisson log-normal model in gene space to series of samples, whose latent states are autoregressive of order 1.

    .. math:: z_t - B x_t = \Phi (z_{t-1} - B x_{t-1}) + \epsilon_t, \qquad y_{tj} \sim \text{Poisson}(\exp(o_{tj} + z_{tj}))

    with series that start from the stationary distribution (`Process`). What is maximised is the evidence lower bound over Gaussians of whole series, of any covariance, plus
    the log-prior of the coefficients; the best of these has a block-tridiagonal precision, and all is computed by the recursions of the Kalman filter
    and smoother.

    Parameters
    ----------
    data
        Counts, offsets and design. Entries that were not observed have no part in anything, whatever counts stand there.
    order
        Which samples follow each other, and after how long.
    covariance
        Family of Σ, or of Q for ``"diagonal"``. It is not changed itself.
    autoregression
        ``"scalar"``, :math:`\Phi = \phi I`, or ``"diagonal"``, with a φ of each gene.
    likelihood
        Distribution of the counts given their log-rates, log-concave in these; Poisson if None.
    prior_precision, max_iter, tol, n_threads, on_iteration
        As in `fit_pln`. An interrupt (Ctrl-C) ends the iterations and keeps what they reached.

    Raises
    ------
    ValueError
        No sample follows another, the lags of ``"diagonal"`` are not whole numbers, sizes do not match, or offsets are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace.series import Order, fit_pln_series
    >>> from scpln.module.covariances import Spherical
    >>> random, states = np.random.default_rng(0), np.zeros((300, 2))
    >>> for t in range(1, 300):
    ...     states[t] = 0.8 * states[t - 1] + 0.6 * random.standard_normal(2)
    >>> data = CountData(random.poisson(np.exp(3 + states)), np.zeros(300), np.ones((300, 1)))
    >>> result = fit_pln_series(data, Order.of(np.zeros(300), np.arange(300)), Spherical(2))
    >>> result.converged, result.process.phi.round(1)
    (True, array([0.8, 0.8]))
    """
    if not order.n_steps:
        msg = f"none of the {data.n_cells:,} samples follows another: every series has one sample, which has no autoregression. Take PLN."
        raise ValueError(msg)
    process = Process(copy.deepcopy(covariance), signed=order.is_whole)
    check_order(order, process, autoregression)
    common: dict[str, Any] = {"likelihood": likelihood, "prior_precision": prior_precision, "n_threads": n_threads}
    first = fit_pln(data, covariance, **common, max_iter=min(max_iter, START_ITERATIONS), tol=START_TOLERANCE)
    process.family = first.covariance
    _start(process, first, data, order)
    observations, history = Observations.of(data), History()
    with threads(n_threads) as pool, torch_threads(1):
        states = SeriesStates(observations, terms_of(observations, first.likelihood), order)
        profile = SeriesProfile(first.coefficients, process, states, prior_precision, pool)
        maximizer = Maximizer(cast("Any", profile), history, max_iter, tol, on_iteration)
        maximizer.reason = first.reason if first.interrupted else ""
        if autoregression == "diagonal":
            maximizer.reason = maximizer.reason or _roughly(profile, max_iter)
            profile.process = process = process.by_gene()
        maximizer.run(0)
        with hold_interrupts() as held:
            profile.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
            found = SeriesPosteriors.of(states)
    if not history.elbo:
        history.add(finite_mean(found.elbo), profile.objective / len(found.elbo))
    converged, reason = judged(maximizer.converged, held.after(maximizer.reason), found.elbo)
    return SeriesResult(
        **vars(found),
        coefficients=profile.coefficients,
        process=process,
        likelihood=states.terms.likelihood,
        history=history.lists,
        converged=converged,
        reason=reason,
    )


def check_order(order: Order, process: Process, kind: AutoregressionName) -> None:
    """Raise an error unless φ has the powers that the lags ask for."""
    if order.is_whole:
        return
    if kind == "diagonal":
        msg = (
            "autoregression='diagonal' takes times that are whole multiples of a step, and these are not. Round them, or take "
            "autoregression='scalar'."
        )
        raise ValueError(msg)
    if (process.phi < 0).any():
        msg = (
            f"times are not whole multiples of {order.unit:g}, the time step that the autoregression {process.phi[0]:.3g} is of, and a negative number has no "
            "other powers. Round them."
        )
        raise ValueError(msg)


def _roughly(profile: SeriesProfile, max_iter: int) -> str:
    """Maximise a little. If that was interrupted, the reason why it ended."""
    rough = Maximizer(cast("Any", profile), History(), min(max_iter, START_ITERATIONS), START_TOLERANCE)
    rough.run(0)
    return rough.reason if "interrupted" in rough.reason else ""


def _start(process: Process, first: PLNResult, data: CountData, order: Order) -> None:
    """φ of the correlation of posterior means of independent samples with those before."""
    residual = first.mean - data.design @ first.coefficients.T
    products = squares = 0.0
    for before, place in zip(order.places[:-1], order.places[1:], strict=True):
        earlier = residual[before[: len(place)]]
        products += float((residual[place] * earlier).sum())
        squares += float((earlier**2 + residual[place] ** 2).sum()) / 2
    lag = float(np.median(order.lags[np.isfinite(order.lags)]))
    correlation = np.clip(products / max(squares, 1e-300), *START_PHI)
    process.set_phi(np.array([correlation ** (1 / lag)]))
