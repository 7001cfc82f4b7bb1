"""Probabilities of labels, averaged over draws of the weights, and what of their uncertainty is due to the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._weights import blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._weights import WeightCovariance

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]


@dataclass(frozen=True)
class LabelPrediction:
    """Of cells, in nats.

    Attributes
    ----------
    probabilities
        Mean over draws, p(y = c | x) (n × C).
    entropy
        Of these (n): all uncertainty of the label.
    expected_entropy
        Mean entropy of the draws (n): what is left if the weights, and latent states, were known (aleatoric).
    """

    probabilities: Floats
    entropy: Floats
    expected_entropy: Floats

    @property
    def mutual_information(self) -> Floats:
        """Of label and weights (n): what more data would remove (epistemic)."""
        return np.maximum(self.entropy - self.expected_entropy, 0)


def draw_weights(mean: Floats, covariance: WeightCovariance, n_draws: int, seed: int) -> Floats:
    """Draws of the weights (S × f × C), in pairs around the mean, so that their mean is nearly exact."""
    half = np.random.default_rng(seed).standard_normal(((n_draws + 1) // 2, *mean.shape))
    return mean + covariance.scaled(np.concatenate([half, -half])[:n_draws])


def predict_labels(
    n: int,
    features: Callable[[slice], Singles],
    weights: Floats,
    temperature: float = 1.0,
) -> LabelPrediction:
    """Average softmax(Wᵀx / T) over draws, all draws of a block of cells in one product.

    Parameters
    ----------
    n
        Cells.
    features
        Gives those of a block of cells: x (b × f), or a draw of x for each draw of the weights (S × b × f).
    weights
        Draws W (S × f × C).
    temperature
        T.
    """
    n_draws, f, c = weights.shape
    layers = (weights / temperature).astype(np.float32)
    side_by_side = np.ascontiguousarray(layers.transpose(1, 2, 0).reshape(f, c * n_draws))
    probabilities, expected = np.empty((n, c)), np.empty(n)
    for rows in blocks(n, n_draws * c):
        x = features(rows)
        if x.ndim == 2:
            logits = (x @ side_by_side).reshape(len(x), c, n_draws)
        else:
            logits = np.ascontiguousarray((x @ layers).transpose(1, 2, 0))
        logits -= logits.max(1, keepdims=True)
        powers = np.exp(logits)
        total = powers.sum(1)
        logits *= powers
        expected[rows] = (np.log(total) - logits.sum(1) / total).mean(1)
        powers /= total[:, None]
        probabilities[rows] = powers.mean(2)
    probabilities /= probabilities.sum(1, keepdims=True)
    return LabelPrediction(probabilities, entropy(probabilities), expected)


def entropy(probabilities: Floats) -> Floats:
    """−Σ p log p by row, nats.

    Examples
    --------
    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3).tolist()
    [0.693, 0.0]
    """
    logs = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return np.maximum(-(probabilities * logs).sum(1), 0)
