"""Conditional normalizing flows in whitened space, which start at the identity."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

from ._affine import Affine
from ._base import Flow
from ._planar import Planar, Radial
from ._sylvester import Sylvester
from ._zuko import IAF, MAF, NSF, RealNVP

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FLOWS", "Affine", "Flow", "check_flow", "make_flow"]

FLOWS: dict[str, type[Any]] = {
    "iaf": IAF,
    "maf": MAF,
    "realnvp": RealNVP,
    "nsf": NSF,
    "planar": Planar,
    "radial": Radial,
    "sylvester": Sylvester,
}
"""The flows that :func:`make_flow` makes, by their names."""


def make_flow(
    name: str, n_latent: int, n_context: int, *, n_transforms: int | None = None, hidden: Sequence[int] = (64, 64)
) -> Flow:
    """Make a conditional flow that is the identity until it is trained.

    ``"sylvester"`` and ``"nsf"`` bend each dimension and suit the skewed posteriors of sparse counts best; the first
    takes a fraction of the time.
    ``"iaf"`` and ``"realnvp"`` scale and shift some dimensions by others. ``"planar"`` and ``"radial"`` change one
    direction, or one distance, per transform: they are quick, and want more transforms. ``"maf"`` is for densities of
    given points; its draws take a pass for each dimension.

    Parameters
    ----------
    name
        One of :data:`FLOWS`.
    n_latent
        Latent dimensions q.
    n_context
        Features of the context that the flow depends on.
    n_transforms
        How many transforms are composed; by default the kind's usual number, 3 to 8.
    hidden
        Widths of the hidden layers of the networks that give the transforms' parameters.

    Examples
    --------
    >>> import torch
    >>> flow = make_flow("nsf", 2, 4)
    >>> noise, context = torch.randn(8, 5, 2), torch.randn(5, 4)
    >>> u, log_det = flow(noise, context)
    >>> torch.allclose(u, noise, atol=1e-6), log_det.shape
    (True, torch.Size([8, 5]))
    """
    check_flow(name, n_latent)
    kind = FLOWS[name]
    n_transforms = kind.usual_n_transforms if n_transforms is None else n_transforms
    for label, value in {"n_context": n_context, "n_transforms": n_transforms}.items():
        if not _is_size(value):
            msg = f"{label} is {value!r}, and must be a whole number of at least 1."
            raise ValueError(msg)
    if isinstance(hidden, str | Integral) or not hidden or not all(map(_is_size, hidden)):
        msg = (
            f"hidden is {hidden!r}, and must be one width or more, whole numbers of at least 1, for instance (64, 64)."
        )
        raise ValueError(msg)
    return kind(n_latent, n_context, n_transforms=n_transforms, hidden=tuple(hidden))


def check_flow(name: str, n_latent: int) -> None:
    """Refuse a flow that does not exist, or that needs more latent dimensions.

    Examples
    --------
    >>> check_flow("iaf", 1)
    Traceback (most recent call last):
        ...
    ValueError: The flow 'iaf' needs n_latent ≥ 2: ...
    """
    if name not in FLOWS:
        msg = f"There is no flow {name!r}: choose one of {', '.join(map(repr, FLOWS))}."
        raise ValueError(msg)
    if not _is_size(n_latent):
        msg = f"n_latent is {n_latent!r}, and must be a whole number of at least 1."
        raise ValueError(msg)
    if n_latent < FLOWS[name].smallest_n_latent:
        able = ", ".join(repr(other) for other in FLOWS if FLOWS[other].smallest_n_latent <= n_latent)
        msg = (
            f"The flow {name!r} needs n_latent ≥ {FLOWS[name].smallest_n_latent}: it changes dimensions by one another, "
            f"and with n_latent={n_latent} it would stay Gaussian. Flows that work with n_latent={n_latent}: {able}."
        )
        raise ValueError(msg)


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
