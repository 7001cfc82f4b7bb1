"""Scores of the usefulness comparison: of latent spaces, and of what is held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from autoencoder_scores import same_label, score
from scipy.special import gammaln, logsumexp

if TYPE_CHECKING:
    from anndata import AnnData
    from autoencoder_data import Split
    from numpy.typing import NDArray

#: Draws of a cell's posterior; cells of which the other half of the counts is predicted, at most, and at a time.
N_DRAWS, PREDICTED, BLOCK = 200, 400, 40


def space_scores(latent: NDArray[np.float64], split: Split) -> dict[str, Any]:
    """Purity of neighbours, and clusters of a latent space."""
    scores = score(np.asarray(latent, np.float64), split)
    at_one = next(one for one in scores["leiden_all"] if one["resolution"] == 1.0)
    kept = {key: scores[key] for key in ("leiden", "kmeans", "mixing")}
    return {"purity": float(same_label(latent, split).mean()), "leiden_1": at_one, **kept}


def held_out_bounds(model: Any, cells: AnnData, seed: int) -> dict[str, float]:
    """ELBO and importance-weighted bound of cells that the model has not seen, nats per cell."""
    return {
        "elbo": float(model.get_elbo(cells)),
        "iw": float(model.get_iw_bound(cells, n_samples=N_DRAWS, seed=seed)),
    }


def predictive(model: Any, first: AnnData, second: AnnData, seed: int) -> float:
    r"""Log-probability of the second half of the cells' counts given the first half, nats per cell.

    :math:`\log E_{q(z \mid y_1)} p(y_2 \mid y_1, z)`. Halves of Poisson counts are independent given their rate μ; halves of
    a negative binomial count share its gamma variable, so that :math:`y_2` is negative binomial with shape
    :math:`\theta + y_1` and mean :math:`\mu (\theta + y_1) / (\theta + \mu)`.
    """
    found = []
    shapes = model.get_gene_parameters()
    theta = shapes["inverse_dispersion"].to_numpy(np.float64) if "inverse_dispersion" in shapes else None
    for start in range(0, min(first.n_obs, PREDICTED), BLOCK):
        block = np.arange(start, min(start + BLOCK, first.n_obs, PREDICTED))
        mu = model.get_normalized_expression(
            indices=block, library_size="latent", n_samples=N_DRAWS, return_mean=False, seed=seed
        ).astype(np.float64)
        y1, y2 = (sp.csr_matrix(half.X[block]).toarray().astype(np.float64) for half in (first, second))
        found.append(logsumexp(log_probability(y1, y2, mu, theta), axis=0) - np.log(N_DRAWS))
    return float(np.concatenate(found).mean())


def log_probability(
    y1: NDArray[np.float64], y2: NDArray[np.float64], mu: NDArray[np.float64], theta: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    r"""Log-probability of y2 given y1 (cells × genes) and rates μ (draws × cells × genes), (draws × cells)."""
    mu = np.maximum(mu, 1e-30)
    if theta is None:
        return (y2 * np.log(mu) - mu).sum(-1) - gammaln(y2 + 1).sum(-1)
    shape = theta + y1
    total = np.log(theta + 2 * mu)
    same = (gammaln(y2 + shape) - gammaln(shape) - gammaln(y2 + 1)).sum(-1)
    return same + (y2 * (np.log(mu) - total) + shape * (np.log(theta + mu) - total)).sum(-1)
