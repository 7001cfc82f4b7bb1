"""The prior of latent states that are vectors of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scpln.module.priors import Prior

if TYPE_CHECKING:
    from ._prior import CodePrior
    from ._quantizer import Quantizer

#: Smallest distance by which two values of a dimension differ, relative to the largest value.
_SAME = 1e-5


class CodeVectors(Prior):
    """States that are vectors of codes, with the probabilities that a prior gives the codes.

    Parameters
    ----------
    quantizer
        Which codes there are.
    codes
        Their distribution.

    Examples
    --------
    >>> from scpln.module.codes import CodePrior, FiniteScalarQuantizer
    >>> prior = CodeVectors(FiniteScalarQuantizer(2, 4), CodePrior(2, 4))
    >>> prior.log_prob(prior.sample(3)).exp()
    tensor([0.0625, 0.0625, 0.0625])
    """

    def __init__(self, quantizer: Quantizer, codes: CodePrior) -> None:
        super().__init__()
        self.quantizer, self.codes = quantizer, codes

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(k) of the codes that are nearest to latent states."""
        return self.codes.log_prob(self.codes_of(z))

    def codes_of(self, z: torch.Tensor) -> torch.Tensor:
        """Codes (..., M) of latent states (..., M·D)."""
        vectors = z.reshape(-1, self.quantizer.n_codes, self.quantizer.dim)
        return self.quantizer.nearest(vectors).reshape(*z.shape[:-1], self.quantizer.n_codes)

    @torch.no_grad()
    def log_marginals(self, z: torch.Tensor) -> torch.Tensor:
        """Log-probability of the values of each dimension of latent states, (..., q): that of all codes whose vector has it."""
        vectors, shares = self.quantizer.vectors.cpu().double(), self.codes.marginals().cpu().double()
        values = z.detach().cpu().double().reshape(*z.shape[:-1], self.quantizer.n_codes, 1, self.quantizer.dim)
        same = (values - vectors).abs() <= _SAME * vectors.abs().max()  # (..., M, K, D)
        return (same * shares[..., None]).sum(-2).log().flatten(-2)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw `n` latent states (n, M·D)."""
        return self.quantizer.lookup(self.codes.sample(n, generator))
