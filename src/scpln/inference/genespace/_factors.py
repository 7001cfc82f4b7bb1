"""Batches of Cholesky factors, in LAPACK without Python's lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from scpln.core import Array

#: Triangles up to this size are inverted by substitution, larger ones by halves, in matrix products.
SMALL_TRIANGLE = 64


def inverse_factors(matrices: Array) -> tuple[Array, Array]:
    r"""Inverse Cholesky factors T, :math:`M^{-1} = T^T T`, and log-determinants of positive definite matrices (n, p, p).

    Examples
    --------
    >>> factors, log_det = inverse_factors(np.array([[[4.0, 0.0], [0.0, 9.0]]]))
    >>> factors.round(3).tolist(), (log_det / np.log(6)).round(3).tolist()
    ([[[0.5, 0.0], [0.0, 0.333]]], [2.0])
    """
    cholesky = torch.linalg.cholesky_ex(torch.from_numpy(matrices)).L
    log_det = 2 * cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
    return np.asarray(_inverse(cholesky)), np.asarray(log_det)


def _inverse(lower: torch.Tensor) -> torch.Tensor:
    """Inverses of lower triangles (n, p, p)."""
    n, p, _ = lower.shape
    if p <= SMALL_TRIANGLE:
        identity = torch.eye(p, dtype=lower.dtype).expand(n, p, p)
        return torch.linalg.solve_triangular(lower, identity, upper=False)
    half = p // 2
    first, last = _inverse(lower[:, :half, :half]), _inverse(lower[:, half:, half:])
    inverse = torch.zeros_like(lower)
    inverse[:, :half, :half], inverse[:, half:, half:] = first, last
    inverse[:, half:, :half] = -(last @ (lower[:, half:, :half] @ first))
    return inverse
