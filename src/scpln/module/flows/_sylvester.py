"""Sylvester flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from ._base import Flow
from ._bounds import soft_clip, tilt
from ._hypernetwork import Hypernetwork
from ._root import solve_increasing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_LARGEST_LOG_SLOPE = 4.0
_LARGEST_LOG_STEEPNESS = 2.0


class Sylvester(Flow):
    r"""Sylvester flow with Householder reflections: q planar transforms at once, along axes of the cell's own.

    .. math::
        u = x + Q R \tanh(\tilde R Q^T x + b), \quad
        \log |\det \partial u / \partial x| = \sum_k \log(1 + r_{kk} \tilde r_{kk} \tanh'(\cdot)_k)

    with Q (q×q) a product of reflections and R, R̃ (q×q) upper triangular, all given by a network of the context. The
    diagonals are :math:`\tilde r_{kk} = e^{\rho_k}` and :math:`r_{kk} = (e^{a_k} - 1) / \tilde r_{kk}`: the map's
    steepest slope along axis k is :math:`e^{a_k} > 0`, so it is one-to-one, and zero parameters give R = 0 with R̃ = I,
    which is the identity and can be left.

    Parameters
    ----------
    n_latent, n_context
        Sizes, as for :class:`Flow`.
    n_transforms
        Transforms.
    hidden
        Widths of the network's hidden layers.
    n_reflections
        Householder reflections whose product is Q.

    References
    ----------
    van den Berg, Hasenclever, Tomczak & Welling, Sylvester normalizing flows for variational inference, 2018.
    """

    usual_n_transforms: ClassVar[int] = 6

    def __init__(
        self,
        n_latent: int,
        n_context: int,
        *,
        n_transforms: int = 6,
        hidden: Sequence[int] = (64, 64),
        n_reflections: int = 2,
    ) -> None:
        super().__init__(n_latent, n_context)
        t, h, q = n_transforms, min(n_reflections, n_latent), n_latent
        self.reflections = nn.Parameter(torch.randn(t, h, q))
        self.bias = nn.Parameter(torch.randn(t, q))
        shapes = [(t, h, q), (t, q), (t, q), (t, q), (t, q, q)]
        self.hypernetwork = Hypernetwork(n_context, shapes, hidden=hidden)

    def _forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        q, r, r_tilde, bias, gain = self._matrices(context)
        inner, outer = (r_tilde @ q.mT).mT, (q @ r).mT
        x = noise.reshape(-1, *noise.shape[-2:]).transpose(0, 1)
        total = x.new_zeros(x.shape[:-1])
        for t in range(bias.shape[1]):
            h = torch.baddbmm(bias[:, t, None], x, inner[:, t]).tanh()
            x = torch.baddbmm(x, h, outer[:, t])
            total = total + torch.log1p(gain[:, t, None] * (1 - h.square())).sum(-1)
        return x.transpose(0, 1).reshape(noise.shape), total.T.reshape(noise.shape[:-1])

    def _inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Along the axes Q, coordinate k of u depends on those of x from k on, and rises with x_k: solved one by one."""
        q, r, r_tilde, bias, _ = self._matrices(context)
        x = u
        for t in reversed(range(bias.shape[1])):
            axes = q[:, t]
            target = torch.einsum("nab,...na->...nb", axes, x)
            v, h = torch.zeros_like(target), torch.zeros_like(target)
            for k in reversed(range(self.n_latent)):
                known = target[..., k] - (r[:, t, k, k + 1 :] * h[..., k + 1 :]).sum(-1)
                shift = bias[:, t, k] + (r_tilde[:, t, k, k + 1 :] * v[..., k + 1 :]).sum(-1)
                v[..., k] = solve_increasing(known, r[:, t, k, k], r_tilde[:, t, k, k], shift)
                h[..., k] = torch.tanh(r_tilde[:, t, k, k] * v[..., k] + shift)
            x = torch.einsum("nab,...nb->...na", axes, v)
        return x, self._forward(x, context)[1]

    def _matrices(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Q, R, R̃ (n, t, q, q), b and the diagonal of R R̃ (n, t, q), of each cell and transform."""
        tilts, bias, log_slope, log_steepness, mixing = self.hypernetwork(context)
        gain = soft_clip(log_slope, _LARGEST_LOG_SLOPE).expm1()
        steepness = soft_clip(log_steepness, _LARGEST_LOG_STEEPNESS).exp()
        r_tilde = mixing.tril(-1).mT + torch.diag_embed(steepness)
        r = mixing.triu(1) + torch.diag_embed(gain / steepness)
        return self._orthogonal(tilts), r, r_tilde, self.bias + bias, gain

    def _orthogonal(self, tilts: Tensor) -> Tensor:
        r"""Product of the reflections :math:`I - 2 v v^T` at unit vectors v, (n, t, q, q)."""
        first, *others = tilt(self.reflections, tilts).unbind(-2)
        identity = torch.eye(self.n_latent, dtype=first.dtype, device=first.device)
        product = identity - 2 * first[..., None] * first[..., None, :]
        for v in others:
            product = product - 2 * (product * v[..., None, :]).sum(-1, keepdim=True) * v[..., None, :]
        return product
