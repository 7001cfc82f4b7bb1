"""Posteriors of cells in gene space, from the solver to the module."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scvi

from scpln.core import Entries
from scpln.model.base import warn_stuck
from scpln.module.covariances import Fixed

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.inference.genespace import GenePosteriors
    from scpln.module import GeneSpacePosterior, PLNModule

    from ._inference import Inference


def infer(
    module: PLNModule, data: CountData, names: pd.Index, estimator: Inference
) -> tuple[GeneSpacePosterior, GenePosteriors]:
    """Gaussian posteriors of cells with all parameters as they are, and with their bounds. Warns of those that did not converge."""
    coefficients = module.coefficients.cpu().numpy()
    given = module.generative.likelihood, module.inflation
    found = estimator.infer(data, coefficients, known_covariance(module), *given, n_threads=scvi.settings.num_threads)
    warn_stuck(found.stuck, len(names), names)
    residual = found.mean - data.design @ coefficients.T
    return module.compose(residual, found.variance, found.weight), found


def known_covariance(module: PLNModule) -> Fixed:
    """Σ, as it was estimated."""
    scale = module.scale.cpu().numpy()
    return Fixed(module.n_genes, scale @ scale.T)


def of_genes(data: CountData, genes: NDArray[np.intp]) -> CountData:
    """The same cells, of which the counts of some genes alone were observed."""
    entries = data.entries or Entries(observed=np.ones(data.counts.shape, bool))
    chosen = np.isin(np.arange(data.n_genes), genes)
    observed = np.tile(chosen, (data.n_cells, 1)) if entries.observed is None else entries.observed & chosen
    return replace(data, entries=Entries(entries.offsets, observed))
