"""Posteriors of cells under a mixture in gene space, between the solver and the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scvi

from scpln.inference.genespace.mixture import MixtureParameters, infer_pln_mixture
from scpln.model.base import warn_stuck
from scpln.module import PLNMixtureModule
from scpln.module.covariances import Fixed

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.inference.genespace.mixture import MixtureCells
    from scpln.module import MixturePosterior


def module_of(
    parameters: MixtureParameters, cells: MixtureCells, data: CountData, *, diagonal: bool
) -> PLNMixtureModule:
    """A module with these parameters and posteriors of training cells."""
    n_covariates = 1 + parameters.slopes.shape[1]
    module = PLNMixtureModule(data.n_genes, n_covariates, parameters.n_components, diagonal=diagonal)
    coefficients = parameters.coefficients
    scales = np.stack([np.linalg.cholesky(covariance.dense) for covariance in parameters.covariances])
    parts = np.stack([covariance.parts for covariance in parameters.covariances])
    module.set_parameters(coefficients, parameters.weights, parameters.means - coefficients[:, 0], scales, parts)
    module.set_cells(*_states(coefficients, cells, data), cells.responsibilities, cells.elbo)
    return module


def infer(module: PLNMixtureModule, data: CountData, names: pd.Index) -> tuple[MixturePosterior, NDArray[np.float64]]:
    """Posteriors of cells with all parameters as they are, and their bounds. Warns of those that did not converge."""
    coefficients, loc = module.coefficients.cpu().numpy(), module.prior.loc.cpu().numpy()
    scales = module.prior.scale.cpu().numpy()
    parameters = MixtureParameters(
        module.prior.log_weights.exp().cpu().numpy(),
        coefficients[:, 0] + loc,
        coefficients[:, 1:],
        [Fixed(module.n_genes, scale @ scale.T) for scale in scales],
    )
    found = infer_pln_mixture(
        data,
        parameters,
        posterior="meanfield" if module.diagonal else "fullrank",
        n_threads=scvi.settings.num_threads,
    )
    warn_stuck(found.stuck, len(names), names)
    return module.compose(*_states(coefficients, found, data), found.responsibilities), found.elbo


def _states(
    coefficients: NDArray[np.float64], cells: MixtureCells, data: CountData
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means of z, their variances, and weights, under each component, (n, K, p) each."""
    known = data.design @ coefficients.T
    means = np.stack([part.mean - known for part in cells.components], 1)
    variances = np.stack([part.variance for part in cells.components], 1)
    return means, variances, np.stack([part.weight for part in cells.components], 1)
