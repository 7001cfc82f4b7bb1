"""Flows and Gaussians at random, and one thread for all of it."""

import numpy as np
import torch

from scpln.module import FLOWS, Batch, GaussianPosterior, Generative, LinearDecoder, make_flow, make_likelihood
from scpln.module.flows import Affine

N_CONTEXT = 3
KINDS = {**FLOWS, "affine": Affine}


def random_flow(name: str, q: int, *, by: float = 0.2, seed: int = 0):
    """A flow in float64 that is not the identity any more."""
    torch.manual_seed(seed)
    flow = Affine(q, N_CONTEXT, hidden=(8,)) if name == "affine" else make_flow(name, q, N_CONTEXT, hidden=(8,))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += by * torch.randn_like(parameter)
    return flow.double()


def random_scale(n: int, q: int, *, seed: int = 0) -> torch.Tensor:
    """Lower-triangular matrices with positive diagonal, (n, q, q)."""
    generator = torch.Generator().manual_seed(seed)
    below = 0.3 * torch.randn(n, q, q, generator=generator, dtype=torch.float64)
    diagonal = 0.3 + torch.rand(n, q, generator=generator, dtype=torch.float64)
    return torch.tril(below, -1) + torch.diag_embed(diagonal)


def random_gaussian(n: int, q: int, *, seed: int = 0) -> GaussianPosterior:
    scale = random_scale(n, q, seed=seed)
    rows, columns = np.tril_indices(q)
    mean = np.random.default_rng(seed).normal(size=(n, q))
    return GaussianPosterior(mean, (scale @ scale.mT)[:, rows, columns])


def random_model(p: int, q: int, n: int, *, likelihood: str = "poisson", seed: int = 0) -> tuple[Generative, Batch]:
    """A model of p genes, float64, and n cells drawn from it."""
    rng = np.random.default_rng(seed)
    loadings = 0.7 * rng.normal(size=(p, q))
    model = Generative(LinearDecoder(rng.normal(size=(p, 1)), loadings), make_likelihood(likelihood, p)).double()
    eta = model.decoder.coefficients[:, 0] + torch.from_numpy(rng.normal(size=(n, q)) @ loadings.T)
    counts = model.likelihood.sample(eta.detach(), torch.Generator().manual_seed(seed)).numpy()
    return model, Batch.from_arrays(counts, np.zeros(n), np.ones((n, 1)), dtype=torch.float64)
