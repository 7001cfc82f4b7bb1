"""The identified latent space: of all rotations of z that give the same model, one that means something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scpln.core import Array


def identified_rotation(loadings: Array) -> Array:
    """Rotation W (q, q) for which the columns of C W are orthogonal, ordered and signed.

    Components come in decreasing order of the variance of log-rates that they explain, ‖C W_k‖², each with its
    largest loading (in absolute value) positive. Two fits that reached the same optimum then agree.
    """
    rotation = np.linalg.eigh(loadings.T @ loadings)[1][:, ::-1]
    rotated = loadings @ rotation
    signs = np.sign(rotated[np.abs(rotated).argmax(0), np.arange(rotated.shape[1])])
    return rotation * np.where(signs == 0, 1.0, signs)
