"""Quasi-random points that stand for a normal distribution, the same whenever they are asked for."""

from __future__ import annotations

import torch

#: Fewest points for each latent dimension, and in all.
_DRAWS_PER_DIMENSION, _MOMENT_DRAWS = 4, 256


def normal_points(q: int) -> torch.Tensor:
    """Quasi-random points whose mean is 0 and whose covariance is I, as the standard normal distribution's: (256, q)."""
    n_half = max(_MOMENT_DRAWS, _DRAWS_PER_DIMENSION * q) // 2
    engine = torch.quasirandom.SobolEngine(q, scramble=True, seed=0)
    half = torch.special.ndtri(engine.draw_base2((n_half - 1).bit_length(), dtype=torch.float64))
    points = torch.cat([half, -half])
    spread = torch.linalg.cholesky(points.T @ points / len(points))
    return torch.linalg.solve_triangular(spread, points.T, upper=False).T
