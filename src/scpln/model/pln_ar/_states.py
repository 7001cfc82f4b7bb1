"""Posteriors of series, between the solver and the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scvi

from scpln.inference.genespace.series import Process, check_order, infer_pln_series
from scpln.model.base import warn_stuck
from scpln.module import GaussianPosterior, PLNARModule
from scpln.module.covariances import Fixed

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.inference.genespace.series import AutoregressionName, Order, SeriesPosteriors, SeriesResult

    Packed = tuple[NDArray[np.float64], NDArray[np.float64]]


def module_of(module: PLNARModule, fit: SeriesResult, data: CountData, order: Order) -> PLNARModule:
    """An untrained module with these parameters and posteriors of training samples."""
    module.set_parameters(fit.coefficients, np.linalg.cholesky(fit.process.stationary), fit.likelihood)
    module.set_autoregression(fit.process.phi, order.unit)
    module.set_cells(*_packed(fit, data, fit.coefficients), follows(order), fit.elbo)
    return module


def process_of(module: PLNARModule, kind: AutoregressionName) -> Process:
    """Σ and φ, as they were estimated."""
    scale, phi = module.scale.cpu().numpy(), module.phi.cpu().numpy()
    covariance = scale @ scale.T
    if kind == "diagonal":
        covariance = covariance * (1 - np.outer(phi, phi))
    process = Process(Fixed(module.n_genes, covariance), kind)
    process.set_phi(phi[:1] if kind == "scalar" else phi)
    return process


def infer(
    module: PLNARModule, kind: AutoregressionName, data: CountData, order: Order, names: pd.Index
) -> tuple[GaussianPosterior, NDArray[np.float64]]:
    """Posteriors of whole series with all parameters as they are, and shares of their bounds. Warns of those that did not converge."""
    coefficients, process = module.coefficients.cpu().numpy(), process_of(module, kind)
    check_order(order, process, kind)
    found = infer_pln_series(
        data,
        order,
        coefficients,
        process,
        likelihood=module.generative.likelihood,
        n_threads=scvi.settings.num_threads,
    )
    warn_stuck(found.stuck, len(names), names)
    return GaussianPosterior(*_packed(found, data, coefficients)), found.elbo


def follows(order: Order) -> NDArray[np.float64]:
    """Position of the sample before each, and the lag; −1 and 0 of the first of a series, (n, 2)."""
    return np.column_stack([order.before, np.where(np.isfinite(order.lags), order.lags, 0)]).astype(np.float64)


def _packed(found: SeriesPosteriors, data: CountData, coefficients: NDArray[np.float64]) -> Packed:
    """Means of z (n, p), and covariances as lower triangles."""
    return found.mean - data.design @ coefficients.T, found.covariance[:, *np.tril_indices(data.n_genes)]
