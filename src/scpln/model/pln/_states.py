"""Posteriors of cells in gene space, from the solver to the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scvi

from scpln.inference import describe_stuck
from scpln.inference.genespace import infer_pln
from scpln.module.covariances import Fixed
from scpln.utils import warn

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.inference.genespace import GenePosteriors
    from scpln.module import GeneSpacePosterior, PLNModule


def infer(
    module: PLNModule, data: CountData, names: pd.Index, mask: NDArray[np.bool_] | None = None
) -> tuple[GeneSpacePosterior, NDArray[np.float64]]:
    """Posteriors of cells with all parameters as they are, and their bounds. Warns of those that did not converge.

    Parameters
    ----------
    module
        A trained model.
    data, names
        Cells.
    mask
        Which entries count, (n, p); all when None.
    """
    coefficients, scale = module.coefficients.cpu().numpy(), module.scale.cpu().numpy()
    found = infer_pln(
        data,
        coefficients,
        Fixed(module.n_genes, scale @ scale.T),
        posterior="meanfield" if module.diagonal else "fullrank",
        mask=mask,
        n_threads=scvi.settings.num_threads,
    )
    warn_stuck(found.stuck, names)
    residual, weight = found.mean - data.design @ coefficients.T, expected_rates(data, found)
    if mask is not None:
        weight *= mask
    return module.compose(residual, found.variance, weight), found.elbo


def expected_rates(data: CountData, found: GenePosteriors) -> NDArray[np.float64]:
    """Expected rates of all entries, (n, p): 0 where an entry was not observed."""
    rates: NDArray[np.float64] = np.exp(data.gene_offsets(slice(None)) + found.mean + 0.5 * found.variance)
    if data.entries is not None and data.entries.observed is not None:
        rates *= data.entries.observed
    return rates


def warn_stuck(stuck: NDArray[np.intp], names: pd.Index) -> None:
    """Warn, at the user's line, if any of the cells did not converge."""
    if len(stuck):
        warn(describe_stuck(stuck, len(names), names))
