"""Finite scalar quantization: a fixed grid in place of a codebook."""

from __future__ import annotations

import itertools

import torch

from ._quantizer import Quantizer

#: By how much the range of a dimension exceeds its outer levels.
_MARGIN = 1e-3
#: Fewest levels of a dimension, if there are several dimensions.
_FEWEST_LEVELS = 3


class FiniteScalarQuantizer(Quantizer):
    r"""Codes on a grid of L levels in each of D dimensions, :math:`K = \prod_d L_d`, of which none can be lost.

    .. math::
        u = \frac{L - 1}{2} \tanh(h + s) - o, \quad \hat z = \frac{\text{round}(u)}{\lfloor L / 2 \rfloor}

    with o = ½ and s, for which u = 0 at h = 0, where L is even, and 0 for both otherwise. The code is the number whose digits are the levels, the first
    dimension's being the lowest. Gradients pass rounding as if it were not there.

    Parameters
    ----------
    n_codes, codebook_size
        As in `Quantizer`; levels and dimensions follow from the size of the codebook (`levels_of`).

    References
    ----------
    F. Mentzer, D. Minnen, E. Agustsson and M. Tschannen (2024), Finite scalar quantization: VQ-VAE made simple, ICLR.

    Examples
    --------
    >>> quantizer = FiniteScalarQuantizer(n_codes=1, codebook_size=9)
    >>> quantizer(torch.tensor([[0.0, 0.0], [5.0, 5.0]])).codes
    tensor([[4],
            [8]])
    """

    grid: torch.Tensor
    radius: torch.Tensor
    span: torch.Tensor
    offset: torch.Tensor
    shift: torch.Tensor

    def __init__(self, n_codes: int, codebook_size: int) -> None:
        levels = levels_of(codebook_size)
        super().__init__(n_codes, codebook_size, len(levels))
        sizes = torch.tensor(levels, dtype=torch.float32)
        self.register_buffer("radius", sizes.div(2, rounding_mode="floor"))
        self.register_buffer("span", (sizes - 1) * (1 + _MARGIN) / 2)
        self.register_buffer("offset", torch.where(sizes % 2 == 0, 0.5, 0.0))
        self.register_buffer("shift", torch.atanh(self.offset / self.span))
        digits = [list(range(level)) for level in reversed(levels)]
        grid = torch.tensor([digit[::-1] for digit in itertools.product(*digits)], dtype=torch.float32)
        self.register_buffer("grid", (grid - self.radius) / self.radius)

    @property
    def vectors(self) -> torch.Tensor:
        """E, the same (K, D) at every position."""
        return self.grid.expand(self.n_codes, -1, -1)

    def project(self, h: torch.Tensor) -> torch.Tensor:
        """U in the unit of the grid, (n, M, D)."""
        return (torch.tanh(h + self.shift) * self.span - self.offset) / self.radius


def levels_of(codebook_size: int) -> list[int]:
    """Levels of each dimension, whose product is the size of the codebook: as many dimensions of 3 levels or more as there can be, as equal as possible.

    Examples
    --------
    >>> [levels_of(size) for size in (2, 16, 32, 64, 31)]
    [[2], [4, 4], [8, 4], [4, 4, 4], [31]]
    """
    return max(_factorizations(codebook_size, codebook_size), key=lambda found: (len(found), -max(found)))


def _factorizations(size: int, most: int) -> list[list[int]]:
    """Products of factors of 3 or more, in falling order, that are the size; or the size alone."""
    found = [[size]] if size <= most else []
    for first in range(_FEWEST_LEVELS, min(most, size // _FEWEST_LEVELS) + 1):
        if size % first == 0:
            found += [[first, *rest] for rest in _factorizations(size // first, first)]
    return found
