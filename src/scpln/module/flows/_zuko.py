"""Autoregressive and coupling flows, from zuko."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import linear
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import DependentTransform, MonotonicAffineTransform, MonotonicRQSTransform
from zuko.utils import unpack

from ._base import Flow
from ._bounds import soft_clip
from ._hypernetwork import start_at_zero

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor
    from torch.distributions import Transform

_LARGEST_CONDITION = 10.0
_BINS = 5
_SMALLEST_SLOPE = 1e-2
"""Of an affine transform or a spline; the steepest affine one is its inverse. zuko's 1e-3 costs float32 accuracy."""

_AFFINE = partial(MonotonicAffineTransform, slope=_SMALLEST_SLOPE)


class _PerCellContext:
    r"""Conditioner of zuko's transforms whose first layer sees a cell's context once, not once per draw.

    .. math:: \phi = h(W_x x + (W_c c + b)),

    which is zuko's own network on the concatenation (x, c), without copying c to every draw. x enters softly clipped
    to ±10: the parameters that a far-off coordinate causes stay bounded, so transforms in a row, or coordinates
    solved for one by one, cannot amplify each other without limit.
    """

    def meta(self: Any, c: Tensor, x: Tensor) -> Transform:
        """Transform of the remaining coordinates, given x (..., n, q) and the context (n, c)."""
        first, *rest = self.hyper
        weight = first.mask * first.weight if hasattr(first, "mask") else first.weight
        from_x, from_context = weight.split([x.shape[-1], c.shape[-1]], dim=-1)
        phi = linear(soft_clip(x, _LARGEST_CONDITION), from_x) + linear(c, from_context, first.bias)
        for layer in rest:
            phi = layer(phi)
        phi = unpack(phi.unflatten(-1, (phi.shape[-1] // self.total, self.total)), self.shapes)
        return DependentTransform(self.univariate(*phi), 1)


class _Autoregressive(_PerCellContext, MaskedAutoregressiveTransform):
    """zuko's masked autoregressive transform, with a context for each cell."""


class _Coupling(_PerCellContext, GeneralCouplingTransform):
    """zuko's coupling transform, with a context for each cell."""


class ZukoFlow(Flow):
    """Composition of zuko's transforms, each started at the identity.

    Parameters
    ----------
    n_latent, n_context
        Sizes, as for :class:`Flow`.
    transforms
        zuko's lazy transforms, the first to act on the noise first.
    """

    def __init__(self, n_latent: int, n_context: int, transforms: Iterable[Any]) -> None:
        super().__init__(n_latent, n_context)
        self.transforms = nn.ModuleList()
        for transform in transforms:
            start_at_zero(transform.hyper)
            self.transforms.append(transform)

    def _forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return _compose([transform(context) for transform in self.transforms], noise)

    def _inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        noise, ladj = _compose([transform(context).inv for transform in reversed(self.transforms)], u)
        return noise, -ladj


def _compose(transforms: Sequence[Any], x: Tensor) -> tuple[Tensor, Tensor]:
    total = x.new_zeros(x.shape[:-1])
    for transform in transforms:
        x, ladj = transform.call_and_ladj(x)
        total = total + ladj
    return x, total


def _order(n_latent: int, transform: int) -> Tensor:
    """Ascending and descending in turn, so that each dimension is early in one transform and late in the next."""
    order = torch.arange(n_latent)
    return order.flip(0) if transform % 2 else order


class IAF(ZukoFlow):
    r"""Inverse autoregressive flow: draws, with their density, in one pass.

    .. math:: u_k = e^{s_k(\varepsilon_{<k}, c)} \varepsilon_k + t_k(\varepsilon_{<k}, c)

    :meth:`inverse` solves for the coordinates one after the other, in q passes for each transform.

    References
    ----------
    Kingma et al., Improved variational inference with inverse autoregressive flow, 2016.
    """

    smallest_n_latent: ClassVar[int] = 2

    def __init__(
        self, n_latent: int, n_context: int, *, n_transforms: int = 3, hidden: Sequence[int] = (64, 64)
    ) -> None:
        transforms = (
            _Autoregressive(
                n_latent,
                n_context,
                order=_order(n_latent, t),
                univariate=_AFFINE,
                hidden_features=tuple(hidden),
                activation=nn.SiLU,
            )
            for t in range(n_transforms)
        )
        super().__init__(n_latent, n_context, transforms)


class MAF(IAF):
    r"""Masked autoregressive flow: the density of a given point in one pass, draws in q passes.

    .. math:: u_k = (\varepsilon_k - t_k(u_{<k}, c)) e^{-s_k(u_{<k}, c)}

    It is :class:`IAF` run backwards.

    References
    ----------
    Papamakarios et al., Masked autoregressive flow for density estimation, 2017.
    """

    def _forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        u, ladj = super()._inverse(noise, context)
        return u, -ladj

    def _inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        noise, ladj = super()._forward(u, context)
        return noise, -ladj


class NSF(ZukoFlow):
    r"""Neural spline flow: monotone rational-quadratic splines, autoregressive, draws in one pass.

    .. math:: u_k = \text{spline}(\varepsilon_k; \phi_k(\varepsilon_{<k}, c))

    on [−5, 5], and the identity outside. With one latent dimension the splines depend on the context only.

    References
    ----------
    Durkan et al., Neural spline flows, 2019.
    """

    def __init__(
        self, n_latent: int, n_context: int, *, n_transforms: int = 3, hidden: Sequence[int] = (64, 64)
    ) -> None:
        transforms = (
            _Autoregressive(
                n_latent,
                n_context,
                order=_order(n_latent, t),
                univariate=partial(MonotonicRQSTransform, slope=_SMALLEST_SLOPE),
                shapes=[(_BINS,), (_BINS,), (_BINS - 1,)],
                hidden_features=tuple(hidden),
                activation=nn.SiLU,
            )
            for t in range(n_transforms)
        )
        super().__init__(n_latent, n_context, transforms)


class RealNVP(ZukoFlow):
    r"""Affine coupling: draws and the density of a given point are both one pass.

    .. math:: u_b = e^{s(\varepsilon_a, c)} \varepsilon_b + t(\varepsilon_a, c), \quad u_a = \varepsilon_a

    with a the odd and b the even dimensions, and the other way round in every second transform.

    References
    ----------
    Dinh et al., Density estimation using Real NVP, 2017.
    """

    smallest_n_latent: ClassVar[int] = 2

    def __init__(
        self, n_latent: int, n_context: int, *, n_transforms: int = 3, hidden: Sequence[int] = (64, 64)
    ) -> None:
        transforms = (
            _Coupling(
                n_latent,
                n_context,
                mask=torch.arange(n_latent) % 2 != t % 2,
                univariate=_AFFINE,
                hidden_features=tuple(hidden),
                activation=nn.SiLU,
            )
            for t in range(n_transforms)
        )
        super().__init__(n_latent, n_context, transforms)
