"""Affine map of the noise: a Gaussian that a network corrects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ._base import Flow
from ._bounds import soft_clip
from ._hypernetwork import Hypernetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_LARGEST_LOG_SCALE = 5.0


class Affine(Flow):
    r"""Affine map whose shift and scale depend on the context: the posterior stays Gaussian.

    .. math:: u = t(c) + T(c) \varepsilon, \quad T \text{ lower triangular with diagonal } e^{s(c)}

    It moves Gaussians that maximise one bound to where another is higher, for instance the importance-weighted one.

    Parameters
    ----------
    n_latent, n_context
        Sizes, as for :class:`Flow`.
    n_transforms
        Not used: a composition of affine maps is one.
    hidden
        Widths of the network's hidden layers.
    diagonal
        Whether T is diagonal.
    """

    def __init__(
        self,
        n_latent: int,
        n_context: int,
        *,
        n_transforms: int = 1,
        hidden: Sequence[int] = (64, 64),
        diagonal: bool = False,
    ) -> None:
        super().__init__(n_latent, n_context)
        n_below = 0 if diagonal else n_latent * (n_latent - 1) // 2
        self.network = Hypernetwork(n_context, [(n_latent,), (n_latent,), (n_below,)], hidden=hidden)

    def _forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, matrix, log_det = self._map(context)
        u = shift + torch.einsum("nab,...nb->...na", matrix, noise)
        return u, log_det.expand(noise.shape[:-1])

    def _inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, matrix, log_det = self._map(context)
        noise = torch.linalg.solve_triangular(matrix, (u - shift)[..., None], upper=False)[..., 0]
        return noise, log_det.expand(u.shape[:-1])

    def _map(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shifts (n, q), matrices (n, q, q) and their log-determinants (n,)."""
        shift, log_scale, below = self.network(context)
        log_scale = soft_clip(log_scale, _LARGEST_LOG_SCALE)
        matrix = torch.diag_embed(log_scale.exp())
        if below.shape[-1]:
            rows, columns = torch.tril_indices(self.n_latent, self.n_latent, offset=-1)
            matrix = matrix.index_put((torch.arange(len(matrix))[:, None], rows, columns), below)
        return shift, matrix, log_scale.sum(-1)
