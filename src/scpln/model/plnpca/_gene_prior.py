"""What a learned prior says of coefficients and loadings while these move by gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.inference import FitResult
    from scpln.module import Generative

#: Least variance of loadings that stochastic gradients are asked to keep to.
LEAST_VARIANCE = 1e-4


def log_prior(result: FitResult) -> Callable[[Generative], torch.Tensor] | None:
    """Log-density of coefficients and loadings under the prior that a fit learned, in its coordinates, for gradients."""
    prior = result.prior
    if prior is None or not prior.learned:
        return None
    codes = torch.from_numpy(prior.codes)
    # Of dimensions that vanished, no more is asked than steps of Adam can do.
    values, vectors = np.linalg.eigh(prior.precision)
    precision = (vectors * np.minimum(values, 1 / LEAST_VARIANCE)[:, None]) @ vectors.transpose(0, 2, 1)
    by_group = [torch.from_numpy(array).float() for array in (prior.center, prior.weight, precision)]
    center, weight, matrices = (array[codes] for array in by_group)

    def density(model: Generative) -> torch.Tensor:
        linear = model.decoder.linear_map()
        assert linear is not None
        b, c = linear
        return -0.5 * ((weight * (b - center) ** 2).sum() + torch.einsum("pk,pkl,pl->", c, matrices, c))

    return density
