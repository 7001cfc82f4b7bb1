"""What a flow is: a bijection of whitened noise, chosen by each cell's context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from ._bounds import soft_clip

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_CONTEXT = 10.0


class Flow(nn.Module, ABC):
    r"""Bijection :math:`u = f(\varepsilon; c_i)` of the noise of cell i, with its log-determinant.

    With noise from N(0, I), u has the density

    .. math:: \log q(u \mid c_i) = \log N(\varepsilon; 0, I) - \log |\det \partial u / \partial \varepsilon|,
        \quad u = f(\varepsilon; c_i).

    Every flow starts at the identity. The context is expected to be standardised; a value far outside
    (:math:`|c| \gg 10`) acts as ±10, so that an outlying cell cannot blow a network up.

    Parameters
    ----------
    n_latent
        Latent dimensions q.
    n_context
        Features of the context, c.
    """

    smallest_n_latent: ClassVar[int] = 1
    """The fewest latent dimensions in which this flow is more than a Gaussian."""

    usual_n_transforms: ClassVar[int] = 3
    """Transforms, unless the user says how many."""

    def __init__(self, n_latent: int, n_context: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.n_context = n_context

    def forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        r"""Transform noise, and say by how much that stretches space.

        Parameters
        ----------
        noise
            ε (..., n, q), any number of draws for each cell.
        context
            c (n, c), one row for each cell.

        Returns
        -------
        u (..., n, q), and :math:`\log |\det \partial u / \partial \varepsilon|` (..., n).
        """
        self._check(noise, context)
        return self._forward(noise, soft_clip(context, _LARGEST_CONTEXT))

    def inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        r"""Find the noise that :meth:`forward` maps to u.

        Parameters
        ----------
        u
            Points (..., n, q) of whitened space.
        context
            c (n, c), one row for each cell.

        Returns
        -------
        Noise (..., n, q), and :math:`\log |\det \partial u / \partial \varepsilon|` (..., n) of the forward map there.
        """
        self._check(u, context)
        return self._inverse(u, soft_clip(context, _LARGEST_CONTEXT))

    @abstractmethod
    def _forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Transform noise, the context being bounded."""

    @abstractmethod
    def _inverse(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Invert, the context being bounded."""

    def _check(self, points: Tensor, context: Tensor) -> None:
        n = context.shape[0]
        if points.shape[-2:] != (n, self.n_latent) or context.shape != (n, self.n_context):
            msg = (
                f"This flow takes points (..., n, {self.n_latent}) and a context (n, {self.n_context}) of the same n "
                f"cells; their shapes are {tuple(points.shape)} and {tuple(context.shape)}."
            )
            raise ValueError(msg)

    def extra_repr(self) -> str:
        """Sizes, for the module's representation."""
        return f"n_latent={self.n_latent}, n_context={self.n_context}"
