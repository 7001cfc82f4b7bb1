"""Planar and radial flows, from pyro."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from pyro.distributions.transforms import ConditionalPlanar, ConditionalRadial
from torch import nn
from torch.nn.functional import softplus

from ._base import Flow
from ._bounds import soft_clip, tilt
from ._hypernetwork import Hypernetwork
from ._root import solve_increasing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_UNIT = math.log(math.e - 1)
"""Where softplus is 1."""


class Planar(Flow):
    r"""Planar flow: each transform bends space across a hyperplane of the cell's own.

    .. math:: u = x + \hat v \tanh(w \cdot x + b)

    pyro makes :math:`w \cdot \hat v = \text{softplus}(w \cdot v) - 1 > -1`, which keeps the map one-to-one. Here w is
    a learned direction, tilted and stretched by the context; :math:`v = v_\perp + \kappa w / |w|^2`, and zero
    parameters give κ = log(e − 1), where :math:`\hat v = 0` and the flow is the identity.

    Parameters
    ----------
    n_latent, n_context
        Sizes, as for :class:`Flow`.
    n_transforms
        Hyperplanes.
    hidden
        Widths of the network's hidden layers.

    References
    ----------
    Rezende & Mohamed, Variational inference with normalizing flows, 2015.
    """

    usual_n_transforms: ClassVar[int] = 8

    def __init__(
        self, n_latent: int, n_context: int, *, n_transforms: int = 8, hidden: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__(n_latent, n_context)
        t, q = n_transforms, n_latent
        self.direction = nn.Parameter(torch.randn(t, q))
        self.bias = nn.Parameter(torch.randn(t, 1))
        self.hypernetwork = Hypernetwork(n_context, [(t, q), (t, 1), (t, q), (t, 1)], hidden=hidden)

    def _parameters_of(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tilts, stretch, v, bias = self.hypernetwork(context)
        w = tilt(self.direction, tilts) * soft_clip(stretch, 2.0).exp()
        along = (v * w).sum(-1, keepdim=True)
        kappa = _UNIT + soft_clip(along, 5.0)
        v = v + (kappa - along) * w / w.square().sum(-1, keepdim=True)
        return self.bias + bias, v, w

    def _forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return _apply(ConditionalPlanar, self._parameters_of(context), noise)

    def _inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Along w the map is one of scalars, which rises; the rest follows."""
        noise = u
        for bias, v, w in reversed(_per_transform(self._parameters_of(context))):
            along = (v * w).sum(-1, keepdim=True)
            slope = softplus(along) - 1
            v_hat = v + (slope - along) * w / w.square().sum(-1, keepdim=True)
            projection = solve_increasing((noise * w).sum(-1, keepdim=True), slope, 1.0, bias)
            noise = noise - v_hat * torch.tanh(projection + bias)
        return noise, self._forward(noise, context)[1]


class Radial(Flow):
    r"""Radial flow: each transform draws space towards a centre of the cell's own, or pushes it away.

    .. math:: u = x + \frac{\beta}{\alpha + r} (x - x_0), \quad r = |x - x_0|, \quad \alpha = \text{softplus}(\alpha'),
        \quad \beta = \text{softplus}(\beta') - \alpha > -\alpha

    Zero parameters give α′ = β′, so β = 0: the identity. The inverse solves a quadratic equation for r.

    Parameters
    ----------
    n_latent, n_context
        Sizes, as for :class:`Flow`.
    n_transforms
        Centres.
    hidden
        Widths of the network's hidden layers.

    References
    ----------
    Rezende & Mohamed, Variational inference with normalizing flows, 2015.
    """

    usual_n_transforms: ClassVar[int] = 8

    def __init__(
        self, n_latent: int, n_context: int, *, n_transforms: int = 8, hidden: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__(n_latent, n_context)
        t, q = n_transforms, n_latent
        self.centre = nn.Parameter(torch.randn(t, q))
        self.hypernetwork = Hypernetwork(n_context, [(t, q), (t, 1), (t, 1)], hidden=hidden)

    def _parameters_of(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shift, size, pull = self.hypernetwork(context)
        alpha = _UNIT + soft_clip(size, 4.0)
        return self.centre + shift, alpha, alpha + soft_clip(pull, 4.0)

    def _forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return _apply(ConditionalRadial, self._parameters_of(context), noise)

    def _inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        noise = u
        for centre, alpha_raw, beta_raw in reversed(_per_transform(self._parameters_of(context))):
            alpha = softplus(alpha_raw)
            beta = softplus(beta_raw) - alpha
            difference = noise - centre
            r_u = difference.norm(dim=-1, keepdim=True)
            half = 0.5 * (alpha + beta - r_u)
            root = (half.square() + alpha * r_u).sqrt()
            r = torch.where(half > 0, alpha * r_u / (half.abs() + root), root - half)
            noise = centre + difference / (1 + beta / (alpha + r))
        return noise, self._forward(noise, context)[1]


def _apply(kind: type, parameters: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Compose pyro's transforms of this kind, at the parameters (n, t, …)."""
    total = x.new_zeros(x.shape[:-1])
    for chosen in _per_transform(parameters):
        transform = kind(lambda given: given).condition(chosen)
        y = transform(x)
        total = total + transform.log_abs_det_jacobian(x, y)
        x = y
    return x, total


def _per_transform(parameters: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    return list(zip(*(parameter.unbind(-2) for parameter in parameters), strict=True))
