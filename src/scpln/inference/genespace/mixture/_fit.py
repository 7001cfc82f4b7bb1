"""Fit a mixture of Poisson log-normal models in gene space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace._fit import fit_pln
from scpln.inference.genespace._infer import FAMILIES, MAX_STEPS, TOLERANCE
from scpln.inference.genespace._observations import Observations
from scpln.inference.newton._convergence import finite_mean, judged
from scpln.train import torch_threads

from ._criteria import criteria_of
from ._parameters import MixtureParameters
from ._posteriors import ComponentPosteriors
from ._result import MixtureCells, PLNMixtureResult
from ._run import Runner
from ._search import Search, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scpln.core import CountData
    from scpln.inference.genespace import PosteriorName
    from scpln.module.covariances import Covariance


def fit_pln_mixture(
    data: CountData,
    covariance: Covariance,
    n_components: int | Sequence[int] | None = None,
    *,
    posterior: PosteriorName = "fullrank",
    prior_precision: float = 1e-2,
    seed: int = 0,
    max_iter: int = 1000,
    tol: float = 1e-5,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> PLNMixtureResult:
    r"""Fit a mixture of Poisson log-normal models in gene space [1]_.

    .. math:: k_i \sim \pi, \qquad z_i \mid k \sim N(\mu_k + B x_i, \Sigma_k), \qquad y_{ij} \sim \text{Poisson}(\exp(o_{ij} + z_{ij}))

    with coefficients B of the design's columns but the intercept, which all components share. Each cell has a Gaussian posterior
    under each component, at which its bound is :math:`L_{ik}`. What is maximised, over all parameters together, is

    .. math:: \sum_i \log \sum_k \pi_k e^{L_{ik}} \le \sum_i \log p(y_i),

    plus the log-prior of B. Probabilities of the components are exact given these bounds, :math:`\tau_{ik} \propto \pi_k e^{L_{ik}}`.

    A search starts at groups of cells, of log-rates of the fit with one component, and where there is one with a component less at
    that with one of its components in two; the best after some steps goes on to its maximum. Then two components that overlap
    become one and a third two, while that raises the bound.

    Parameters
    ----------
    data
        Counts, offsets and design. Entries that were not observed have no part in anything.
    covariance
        Family of the Σ_k. It is not changed itself.
    n_components
        Components K; or numbers to choose from, or None for those from 1 on: the one with the highest ICL is taken.
    posterior, prior_precision, max_iter, tol, n_threads
        As in `fit_pln`.
    seed
        Of the starts.
    on_iteration
        Called with the number of iterations of one search and the mean bound per cell. An interrupt (Ctrl-C) ends all searches and keeps the
        best that they reached.

    Raises
    ------
    ValueError
        Sizes do not match, offsets are not finite, or there are fewer cells than components.

    References
    ----------
    .. [1] Chiquet, Mariadassou and Robin (2021), The Poisson-lognormal model as a versatile framework for the joint analysis of
       species abundances. Frontiers in Ecology and Evolution 9, 588292.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace.mixture import fit_pln_mixture
    >>> from scpln.module.covariances import Spherical
    >>> random = np.random.default_rng(0)
    >>> log_rates = 2 + 0.3 * random.standard_normal((60, 3)) + np.repeat([[0, 0, 0], [2, -2, 0]], 30, axis=0)
    >>> data = CountData(random.poisson(np.exp(log_rates)), np.zeros(60), np.ones((60, 1)))
    >>> result = fit_pln_mixture(data, Spherical(3), [1, 2, 3])
    >>> result.parameters.n_components, np.bincount(result.responsibilities.argmax(1))
    (2, array([30, 30]))
    """
    numbers = [n_components] if isinstance(n_components, int) else n_components
    if numbers is not None and max(numbers) > data.n_cells:
        msg = f"n_components={max(numbers):,}, but there are {data.n_cells:,} cells."
        raise ValueError(msg)
    if covariance.is_diagonal:
        posterior = "meanfield"  # which is the same then
    common: dict[str, Any] = {"posterior": posterior, "prior_precision": prior_precision, "n_threads": n_threads}
    first = fit_pln(data, covariance, **common, max_iter=max_iter, tol=tol, on_iteration=on_iteration)
    one = MixtureParameters(
        np.ones(1), first.coefficients[:, 0][None].copy(), first.coefficients[:, 1:].copy(), [first.covariance]
    )
    observations = Observations.of(data)
    with threads(n_threads) as pool, torch_threads(1):
        runner = Runner(observations, FAMILIES[posterior], prior_precision, max_iter, tol, pool, on_iteration)
        search = Search(runner, one, seed, interrupted=first.interrupted)
        best = search.fit(n_components)
        with hold_interrupts() as held:
            parameters = in_order(best.profile.parameters)
            posteriors = ComponentPosteriors(FAMILIES[posterior], observations, parameters.n_components)
            posteriors.settle(parameters, pool, max_steps=MAX_STEPS, tol=TOLERANCE)
    cells, history = MixtureCells.of(posteriors), best.history
    if not history.elbo:
        history.add(finite_mean(cells.elbo), best.objective / data.n_cells)
    reason = held.after(search.reason or best.reason)
    converged, reason = judged(best.converged and not search.reason, reason, cells.elbo)
    criteria = [criteria_of(search.runs[number]) for number in sorted(search.runs)]
    return PLNMixtureResult(**vars(cells), parameters=parameters, criteria=criteria, history=history.lists, converged=converged, reason=reason)  # fmt: skip


def infer_pln_mixture(
    data: CountData,
    parameters: MixtureParameters,
    *,
    posterior: PosteriorName = "fullrank",
    n_threads: int | None = None,
) -> MixtureCells:
    """Optimal posteriors and responsibilities of cells, with all parameters fixed.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    parameters
        Of a mixture.
    posterior, n_threads
        As in `infer_pln`.
    """
    observations = Observations.of(data)
    for covariance in parameters.covariances:
        observations.check(covariance)
    posteriors = ComponentPosteriors(FAMILIES[posterior], observations, parameters.n_components)
    with threads(n_threads) as pool, torch_threads(1):
        posteriors.settle(parameters, pool, max_steps=MAX_STEPS, tol=TOLERANCE)
    return MixtureCells.of(posteriors)
