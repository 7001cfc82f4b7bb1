"""What every quantizer can do: the nearest code at each position, its vector, and gradients past the choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

#: How gradients pass the choice of a code.
GradientName = Literal["straight_through", "rotation"]
#: Added to norms that are divided by.
_SMALLEST_NORM = 1e-6


class Quantized(NamedTuple):
    """Codes of n cells (n, M), their vectors with gradients (n, M·D), and the squared distances to them, of which training has a share (n,)."""

    codes: torch.Tensor
    states: torch.Tensor
    commitment: torch.Tensor


class Quantizer(nn.Module, ABC):
    r"""From M vectors of a cell to codes, :math:`k_{im} = \arg\min_k \|h_{im} - E_{mk}\|^2`, at each position by itself.

    Parameters
    ----------
    n_codes, codebook_size, dim
        Positions M, codes K at each, and dimensions D of their vectors.
    gradient
        What the networks before the choice learn from it: ``"straight_through"``, the gradient by the code's vector as it is, or ``"rotation"``, turned and
        scaled as h would have to be to become that vector.

    Attributes
    ----------
    learns
        Whether codes move in training.

    References
    ----------
    A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), Neural discrete representation learning, NeurIPS. C. Fifty, R. Junkins, D. Duan, A. Iyengar, J. Liu,
    E. Amid, S. Thrun and C. Ré (2025), Restructuring vector quantization with the rotation trick, ICLR.
    """

    def __init__(self, n_codes: int, codebook_size: int, dim: int, gradient: GradientName = "straight_through") -> None:
        super().__init__()
        self.n_codes, self.codebook_size, self.dim = n_codes, codebook_size, dim
        self.learns = True
        self._pass: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = (
            rotate if gradient == "rotation" else straight_through
        )

    @property
    @abstractmethod
    def vectors(self) -> torch.Tensor:
        """E, (M, K, D)."""

    def project(self, h: torch.Tensor) -> torch.Tensor:
        """Where h (n, M, D) is compared with codes; by default as it is."""
        return h

    def forward(self, h: torch.Tensor) -> Quantized:
        """Codes of outputs of an encoder, (n, M·D)."""
        projected = self.project(h.reshape(len(h), self.n_codes, self.dim))
        codes = self.nearest(projected)
        found = self.lookup(codes).reshape(projected.shape)
        commitment = (projected - found.detach()).square().sum((1, 2))
        if self.training and self.learns:
            self.learn(projected.detach(), codes)
        return Quantized(codes, self._pass(projected, found).flatten(1), commitment)

    def learn(self, h: torch.Tensor, codes: torch.Tensor) -> None:
        """Learn from the vectors of a batch (n, M, D) and their codes; by default nothing."""

    @torch.no_grad()
    def nearest(self, h: torch.Tensor) -> torch.Tensor:
        """Codes (n, M) of the vectors that are nearest to h (n, M, D); of several, the first."""
        vectors = self.vectors.to(h)
        half = 0.5 * vectors.square().sum(-1, keepdim=True).mT  # (M, 1, K)
        return torch.baddbmm(half, h.transpose(0, 1), vectors.mT, alpha=-1).argmin(-1).T

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors (..., M·D) of codes (..., M)."""
        return self.vectors[torch.arange(self.n_codes, device=codes.device), codes].flatten(-2)


def straight_through(h: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """The found vectors, with gradients as if they were h.

    Examples
    --------
    >>> h = torch.tensor([0.9, 0.1], requires_grad=True)
    >>> straight_through(h, torch.tensor([1.0, 0.0])).square().sum().backward()
    >>> h.grad
    tensor([2., 0.])
    """
    return h + (found - h).detach()


def rotate(h: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    r"""The found vectors q as :math:`R h`, with the rotation and scale R from h to q held fixed: gradients get :math:`R^T`.

    With unit vectors u and v of h and q, and r that of u + v, :math:`R = \frac{\|q\|}{\|h\|} (I - 2 r r^T + 2 v u^T)`.

    Examples
    --------
    >>> h = torch.tensor([2.0, 0.0], requires_grad=True)
    >>> q = rotate(h, torch.tensor([0.0, 1.0]))
    >>> q[1].backward()  # along q, the gradient is along h, and half as large
    >>> h.grad.round(decimals=4)
    tensor([0.5000, 0.0000])
    """
    with torch.no_grad():
        norm_h = h.norm(dim=-1, keepdim=True).clamp_min(_SMALLEST_NORM)
        norm_q = found.norm(dim=-1, keepdim=True).clamp_min(_SMALLEST_NORM)
        u, v = h / norm_h, found / norm_q
        r = nn.functional.normalize(u + v, dim=-1, eps=_SMALLEST_NORM)
        scale = norm_q / norm_h
    turned = h - 2 * r * (r * h).sum(-1, keepdim=True) + 2 * v * (u * h).sum(-1, keepdim=True)
    return turned * scale
