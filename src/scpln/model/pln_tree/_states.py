"""Posteriors on a tree, between the solver and the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scvi
import torch

from scpln.inference.tree import bound_pln_tree, infer_pln_tree
from scpln.model.base import warn_stuck
from scpln.module import GaussianPosterior
from scpln.module.covariances import Chain
from scpln.train import Minibatches

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scpln.core import CountData, TreeContrasts
    from scpln.inference.tree import TreeStates
    from scpln.module import PLNTreeModule


#: Samples that are encoded together.
SAMPLES = 256


def chain_of(module: PLNTreeModule, contrasts: TreeContrasts) -> Chain:
    """Σ, as it was estimated."""
    chain = Chain(contrasts.level_sizes)
    chain.restore({"factor": module.scale.cpu().numpy()})
    return chain


def infer(
    module: PLNTreeModule, contrasts: TreeContrasts, data: CountData, names: pd.Index, *, optimal: bool = False
) -> tuple[GaussianPosterior, NDArray[np.float64]]:
    """Posteriors of samples with all parameters as they are, from the encoder if there is one and they need not be optimal, and bounds. Warns of those that did not converge."""
    coefficients, chain = module.coefficients.cpu().numpy(), chain_of(module, contrasts)
    if module.approximation is not None and not optimal:
        return encoded(module, contrasts, chain, data)
    found = infer_pln_tree(data, contrasts, coefficients, chain, n_threads=scvi.settings.num_threads)
    warn_stuck(found.stuck, len(names), names)
    return GaussianPosterior(*packed(found, data, coefficients)), found.elbo


def encoded(
    module: PLNTreeModule, contrasts: TreeContrasts, chain: Chain, data: CountData
) -> tuple[GaussianPosterior, NDArray[np.float64]]:
    """Posteriors of samples that the encoder gives, and bounds under these."""
    coefficients, parts, bounds = module.coefficients.cpu().numpy(), [], []
    for cells, batch in Minibatches(data, SAMPLES, dtype=torch.float64).in_order():
        loc, scale = (tensor.numpy() for tensor in module.encode(batch))
        part, spread = data.subset(cells), scale @ scale.transpose(0, 2, 1)
        mean = loc + part.design @ coefficients.T
        bounds.append(bound_pln_tree(part, contrasts, coefficients, chain, mean, spread))
        parts.append((loc, spread[:, *np.tril_indices(data.n_genes)]))
    return GaussianPosterior(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))), np.concatenate(bounds)


def packed(
    found: TreeStates, data: CountData, coefficients: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of z (n, p), and covariances as lower triangles."""
    return found.mean - data.design @ coefficients.T, found.covariance[:, *np.tril_indices(data.n_genes)]
