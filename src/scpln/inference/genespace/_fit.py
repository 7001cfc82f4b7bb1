"""Fit the Poisson log-normal model: coefficients, covariance and the posterior of every cell."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.newton._convergence import History, finite_mean, judged
from scpln.train import torch_threads

from ._infer import FAMILIES, MAX_STEPS, TOLERANCE, posteriors_of
from ._maximize import CLOSED_STEPS, Maximizer
from ._observations import Observations
from ._profile import Profile
from ._result import PLNResult
from .terms import terms_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData
    from scpln.module import Likelihood
    from scpln.module.covariances import Covariance

    from ._infer import PosteriorName
    from .terms import ZeroInflation

#: Variance added to every gene's residuals where the fit starts.
START_VARIANCE = 0.1


def fit_pln(
    data: CountData,
    covariance: Covariance,
    *,
    likelihood: Likelihood | None = None,
    zero_inflation: ZeroInflation = "gene",
    posterior: PosteriorName = "fullrank",
    prior_precision: float = 1e-2,
    start: PLNResult | None = None,
    max_iter: int = 1000,
    tol: float = 1e-5,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> PLNResult:
    r"""Fit the Poisson log-normal model [1]_ in gene space, with any covariance of genes, or another likelihood of the counts.

    .. math:: z_i \sim N(B x_i, \Sigma), \qquad y_{ij} \sim \text{Poisson}(\exp(o_{ij} + z_{ij}))

    What is maximised is the closed-form bound [2]_ over posteriors :math:`N(m_i, V_i)`, B and Σ,

    .. math:: \sum_j [y_{ij} (o_{ij} + m_{ij}) - A_{ij} - \log y_{ij}!] - \tfrac12 [r_i^T \Omega r_i + \text{tr}(\Omega V_i)
        - \log\det V_i - \log\det\Omega - p], \quad A_{ij} = \exp(o_{ij} + m_{ij} + \tfrac12 V_{ijj}), \; r_i = m_i - B x_i, \;
        \Omega = \Sigma^{-1},

    plus the log-prior of the coefficients. Estimates of many genes in few cells are singular, or nearly so; the search is in a square root of Σ, where
    that is no boundary. Eigenvalues of Σ are 1e-10 or more.

    Parameters
    ----------
    data
        Counts, offsets and design. Entries that were not observed have no part in anything, whatever counts stand there.
    covariance
        Family of Σ, one of `scpln.module.covariances`, with as many genes as the data. It is not changed itself; what it is at
        only matters if it is `Fixed`.
    likelihood
        Distribution of the counts given their log-rates, of those in `scpln.module.likelihoods`; Poisson if None. Of others the
        expectations are computed by quadrature. It is not changed itself; parameters, which are optimised with B and Σ, start at moments.
    zero_inflation
        Of a zero-inflated likelihood, what the probability π of an excess zero depends on: `"gene"`, `"single"` (one for all), or `"covariates"`,
        :math:`\text{logit}\, \pi_{ij} = x_i \cdot a_j`, or `"cell"`, one for all genes of a cell, as `inflation_of_cells` has it, which then the `likelihood`
        of the result says.
    posterior
        `"fullrank"` for any Gaussian covariance per cell, in about n p³ operations an iteration, or `"meanfield"` for a diagonal one, n p².
        Mean-field loses 1 nat per cell and more in gene space, and its bounds are not to be compared with others' of full rank.
    prior_precision
        λ of a prior N(0, 1/λ) of all coefficients but the intercepts. Without one (0), a gene that a level of a factor lacks has an
        effect of −∞. The default's standard deviation is 10, in natural logarithms of rates, by a unit of the design.
    start
        A fit whose B and Σ to start from, of the same family, as one of mean-field posteriors, or of other cells.
    max_iter
        Most iterations.
    tol
        Converged when an iteration gains less than this, nats per cell, averaged over ten.
    n_threads
        Threads; all available ones when None.
    on_iteration
        Called with the number of iterations and the mean bound per cell. An interrupt (Ctrl-C) ends the iterations and keeps what
        they reached.

    Raises
    ------
    ValueError
        Sizes do not match, offsets are not finite, or `prior_precision` is negative.

    References
    ----------
    .. [1] Aitchison and Ho (1989), The multivariate Poisson-log normal distribution. Biometrika 76, 643-653.
    .. [2] Chiquet, Mariadassou and Robin (2021), The Poisson-lognormal model as a versatile framework for the joint analysis of
       species abundances. Frontiers in Ecology and Evolution 9, 588292.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace import fit_pln
    >>> from scpln.module.covariances import Full
    >>> random = np.random.default_rng(0)
    >>> log_rates = 2 + random.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=500)
    >>> data = CountData(random.poisson(np.exp(log_rates)), np.zeros(500), np.ones((500, 1)))
    >>> result = fit_pln(data, Full(2))
    >>> result.converged, result.covariance.dense.round(1)
    (True, array([[1. , 0.8],
           [0.8, 1. ]]))
    """
    if not prior_precision >= 0:
        msg = f"prior_precision={prior_precision!r}, but must be 0 or more."
        raise ValueError(msg)
    observations = Observations.of(data)
    observations.check(covariance)
    history = History()
    with threads(n_threads) as pool, torch_threads(1):
        if start is None:
            terms = terms_of(observations, likelihood, zero_inflation)
        else:
            terms = terms_of(observations, start.likelihood, zero_inflation, start.inflation)
        posteriors = FAMILIES[posterior](observations, terms)
        if start is None:
            parameters = _start(observations, covariance)
            terms.start(observations.design @ parameters[0].T)
        else:
            parameters = start.coefficients, start.covariance
        profile = Profile(*copy.deepcopy(parameters), posteriors, prior_precision, pool)
        maximizer = Maximizer(profile, history, max_iter, tol, on_iteration)
        maximizer.run(CLOSED_STEPS if start is None else 0)
        with hold_interrupts() as held:
            profile.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
    cells = posteriors_of(posteriors)
    if not history.elbo:
        history.add(finite_mean(cells.elbo), profile.objective / len(cells.elbo))
    converged, reason = judged(maximizer.converged, held.after(maximizer.reason), cells.elbo)
    return PLNResult(
        **vars(cells),
        coefficients=profile.coefficients,
        covariance=profile.covariance,
        likelihood=terms.likelihood,
        inflation=terms.inflation,
        history=history.lists,
        converged=converged,
        reason=reason,
    )


def _start(observations: Observations, covariance: Covariance) -> tuple[Array, Covariance]:
    """B of a regression without latent state, and Σ of the second moment of its residuals."""
    coefficients, family = observations.regress(), copy.deepcopy(covariance)
    residuals = observations.residuals(coefficients)
    family.update(residuals.T @ residuals / len(residuals) + START_VARIANCE * np.eye(residuals.shape[1]))
    return coefficients, family
