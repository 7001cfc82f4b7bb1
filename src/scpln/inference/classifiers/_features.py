"""What the classifiers of components read: features on one scale, log-ratios of compositions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def centred_log_ratio(x: Floats, pseudo_count: float = 0.0) -> Floats:
    """log(x_ij + c) − mean_j log(x_ij + c), n × p (Aitchison, 1982).

    Examples
    --------
    >>> centred_log_ratio(np.array([[0.0, 7.5]]), 0.5).round(2).tolist()
    [[-1.39, 1.39]]
    """
    logs = np.log(x + pseudo_count)
    return logs - logs.mean(1, keepdims=True)


@dataclass(frozen=True)
class Scaling:
    """Centres and scales of features, as in the rows that a model was fitted to; a column of one value has the scale 1."""

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, features: Floats, weights: Floats) -> Scaling:
        """Weighted means and standard deviations."""
        mean = weights @ features / weights.sum()
        deviation = np.sqrt(weights @ (features - mean) ** 2 / weights.sum())
        tiny = 10 * np.finfo(float).eps * np.maximum(np.abs(features).max(0, initial=0.0), 1e-300)
        return cls(mean, np.where(deviation > tiny, deviation, 1.0))

    def design(self, features: Floats) -> Floats:
        """A column of ones, and the scaled features."""
        return np.column_stack([np.ones(len(features)), (features - self.mean) / self.scale])

    def unscaled(self, coefficients: Floats) -> Floats:
        """The same coefficients (… × f) of features as they were given."""
        slopes = coefficients[..., 1:] / self.scale
        return np.concatenate([coefficients[..., :1] - (slopes @ self.mean)[..., None], slopes], axis=-1)
