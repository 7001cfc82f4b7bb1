"""Gaussian posteriors of PLN-PCA under any likelihood: in closed form where it has one, by quadrature elsewhere."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.inference.newton.general import (
    GeneralCells,
    elbo_likelihood,
    fit_likelihood,
    in_unit,
    infer_likelihood,
    residual_log_spread,
    start_gaussian,
)
from scpln.inference.newton.poisson import PoissonCells, elbo, fit, infer
from scpln.module import make_likelihood
from scpln.module.likelihoods import Gaussian

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData, Threads
    from scpln.inference.newton import CellProblem, FitResult, GaussianFamily
    from scpln.module import Likelihood


def fit_gaussians(
    data: CountData,
    n_latent: int,
    likelihood: Likelihood,
    *,
    on_stage: Callable[[str], None] | None = None,
    start: FitResult | None = None,
    **settings: Any,
) -> FitResult:
    """Fit B, C, a Gaussian of each cell and the parameters of the likelihood, which are set in place.

    Likelihoods of counts without a closed form start from a fit under the Poisson likelihood, and that of real values
    from factor analysis.

    Parameters
    ----------
    data
        Counts, offsets and design.
    n_latent
        Latent dimensions q.
    likelihood
        Distribution of the counts given their log-rates.
    on_stage
        Called with the name of each stage, if there are several.
    start
        Another fit of these data to start from, as in `fit`; factor analysis of real values needs none.
    **settings
        As in `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.module import make_likelihood
    >>> counts = np.random.default_rng(0).poisson(2.0, (60, 5))
    >>> data = CountData(counts, np.zeros(60), np.ones((60, 1)))
    >>> fit_gaussians(data, 1, make_likelihood("poisson", 5)).loadings.shape
    (5, 1)
    """
    if isinstance(likelihood, Gaussian):
        return _fit_real(data, n_latent, likelihood, on_stage, settings)
    if on_stage is not None and not likelihood.is_poisson:
        on_stage("Poisson start")
    start = fit(data, n_latent, start=start, **settings)
    if likelihood.is_poisson:
        return start
    if start.interrupted:
        return replace(start, converged=False)
    if on_stage is not None:
        on_stage(f"{type(likelihood).__name__} likelihood")
    return fit_likelihood(data, start, likelihood, **settings)


def _fit_real(
    data: CountData,
    n_latent: int,
    likelihood: Gaussian,
    on_stage: Callable[[str], None] | None,
    settings: dict[str, Any],
) -> FitResult:
    """Fit real values in the unit of their spread, so that no step or bound of the solver depends on the user's."""
    log_unit = residual_log_spread(data)
    own = make_likelihood("gaussian", data.n_genes)
    scaled = in_unit(data, math.exp(log_unit))
    options = {name: settings[name] for name in ("posterior", "n_threads") if name in settings}
    start = start_gaussian(scaled, n_latent, own, **options)
    if on_stage is not None:
        on_stage(f"{type(likelihood).__name__} likelihood")
    result = fit_likelihood(scaled, start, own, **settings)
    likelihood.load_state_dict(own.state_dict())
    likelihood.rescale(log_unit)
    shift = data.n_genes * log_unit
    bounds = {name: [bound - shift for bound in result.history[name]] for name in ("elbo", "objective")}
    factor, prior, spread = math.exp(log_unit), result.prior, result.spread
    return replace(
        result,
        coefficients=result.coefficients * factor,
        loadings=result.loadings * factor,
        elbo=result.elbo - shift,
        history={**result.history, **bounds},
        prior=None if prior is None else prior.scaled(factor),
        spread=None if spread is None else spread * factor**2,
    )


def make_cell_problem(
    data: CountData, family: GaussianFamily, likelihood: Likelihood, pool: Threads, batch_size: int | None = None
) -> CellProblem:
    """The cells' half of any alternation, for whatever is estimated of genes: query mapping, mixtures, standard errors."""
    kind = PoissonCells if likelihood.is_poisson else GeneralCells
    return kind(data, family, likelihood, pool, batch_size)


def infer_gaussians(
    data: CountData, coefficients: Array, loadings: Array, likelihood: Likelihood, **settings: Any
) -> tuple[Array, Array]:
    """Optimal Gaussian posteriors of cells with all parameters fixed: means and packed covariances, as `infer`."""
    if likelihood.is_poisson:
        return infer(data, coefficients, loadings, **settings)
    data, likelihood, unit = in_own_unit(data, likelihood)
    return infer_likelihood(data, coefficients / unit, loadings / unit, likelihood, **settings)


def in_own_unit(data: CountData, likelihood: Likelihood) -> tuple[CountData, Likelihood, float]:
    """Real values in the unit of their likelihood, this in the same, and the unit; counts as they are, whose unit is 1."""
    if not isinstance(likelihood, Gaussian):
        return data, likelihood, 1.0
    log_unit, scaled = float(likelihood.log_unit), copy.deepcopy(likelihood)
    scaled.rescale(-log_unit)
    unit = math.exp(log_unit)
    return in_unit(data, unit), scaled, unit


def gaussian_elbo(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    likelihood: Likelihood,
    mean: Array,
    covariance: Array,
    **settings: Any,
) -> Array:
    """Bound of each cell under Gaussian posteriors, in nats, (n,): as `elbo`.

    The closed form for Poisson counts takes log-rates without their bound, so that rates under the posterior of an encoder
    may overflow. Such cells have the bound that their draws have, too, which is of bounded rates: by quadrature. A bound that is
    not finite even so is returned as it is: one cell is no reason to lose the others.
    """
    if not likelihood.is_poisson:
        return elbo_likelihood(data, coefficients, loadings, likelihood, mean, covariance, check=False, **settings)
    values = elbo(data, coefficients, loadings, mean, covariance, **settings)
    far = np.flatnonzero(~(values > -math.exp(likelihood.largest_log_rate)))
    if len(far):
        gaussians = np.asarray(mean)[far], np.asarray(covariance)[far]
        values[far] = elbo_likelihood(
            data.subset(far), coefficients, loadings, likelihood, *gaussians, check=False, **settings
        )
    return values
