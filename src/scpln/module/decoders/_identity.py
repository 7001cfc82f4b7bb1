"""The decoder of latent states that are log-rates themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._base import Decoder

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from scpln.module._batch import Known

#: The likelihood's parameter that is the logit of zero inflation.
GATE = "gate_logits"


class IdentityDecoder(Decoder):
    r"""A latent state in gene space, :math:`\eta_{ij} = o_i + x_i \cdot B_j + z_{ij}`.

    Parameters
    ----------
    coefficients
        B, (p, d).
    inflation
        Effects of the design on the logit of zero inflation, (p, d), beside an intercept that is the likelihood's, for likelihoods that have
        it; None for nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> batch = Batch.from_arrays(np.zeros((3, 4)), np.zeros(3), np.ones((3, 1)), dtype=torch.float64)
    >>> IdentityDecoder(np.ones((4, 1)))(torch.ones(3, 4, dtype=torch.float64), batch)[0]
    tensor([2., 2., 2., 2.], dtype=torch.float64, grad_fn=<SelectBackward0>)
    """

    def __init__(
        self, coefficients: NDArray[Any] | torch.Tensor, inflation: NDArray[Any] | torch.Tensor | None = None
    ) -> None:
        super().__init__(len(coefficients), len(coefficients))
        self.coefficients = nn.Parameter(torch.as_tensor(coefficients).detach().clone())
        self.inflation = None if inflation is None else nn.Parameter(torch.as_tensor(inflation).detach().clone())

    def decode(self, z: torch.Tensor, known: Known) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Log-rates η (..., n, p), and what the design adds to logits of zero inflation."""
        eta = torch.addmm(known.gene_offsets, known.design, self.coefficients.T) + z
        if known.gate_logits is not None:
            return eta, {GATE: known.gate_logits[:, None].expand(eta.shape[-2:])}
        return eta, {} if self.inflation is None else {GATE: known.design @ self.inflation.T}

    @property
    def gene_parameters(self) -> list[torch.Tensor]:
        """Coefficients B."""
        return [self.coefficients]

    def linear_map(self) -> tuple[torch.Tensor, torch.Tensor]:
        """B, and the identity for C."""
        return self.coefficients, torch.eye(self.n_latent).to(self.coefficients)
