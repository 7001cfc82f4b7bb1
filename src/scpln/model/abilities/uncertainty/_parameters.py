"""Parameters of a module as solvers take them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.newton import FAMILIES, GaussianFamily, GeneParameters

if TYPE_CHECKING:
    from scpln.module import Likelihood, PLNPCAModule


def parameters_of(module: PLNPCAModule) -> tuple[GeneParameters, GaussianFamily, Likelihood]:
    """B and C, with covariances where they have a learned prior; the family of all Gaussians; and the likelihood."""
    b, c = (value.detach().cpu().double().numpy() for value in (module.coefficients, module.loadings))
    spread = module.spread.cpu().numpy().astype(np.float64)
    genes = GeneParameters(b, c, spread if len(spread) else None)
    return genes, FAMILIES["fullrank"](c.shape[1]), copy.deepcopy(module.generative.likelihood).cpu()
