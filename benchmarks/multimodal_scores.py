"""How well latent states of CITE-seq agree with cell types, and proteins that were never measured with the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from autoencoder_scores import same_label, score
from multimodal_methods import clr

if TYPE_CHECKING:
    from autoencoder_data import Split
    from multimodal_methods import Fitted
    from numpy.typing import NDArray

#: A cell type that RNA hardly tells from its neighbours, and one protein does.
HARD = "CD8 T"
#: Neighbours that a regression averages over.
REGRESSION_NEIGHBOURS = 25


def cluster_scores(fitted: Fitted, cells: Split) -> dict[str, float]:
    """Clusters of the latent space against labels, and labels of its neighbours."""
    scores = score(fitted.latent, cells)
    ari = {"leiden": scores["leiden"]["ari"], "kmeans": scores["kmeans"]["ari"]}
    return {**ari, **neighbour_scores(fitted.latent, cells, np.ones(cells.cells.n_obs, dtype=bool))}


def neighbour_scores(latent: NDArray[np.float64], cells: Split, judged: NDArray[np.bool_]) -> dict[str, float]:
    """Share of a cell's nearest neighbours with its label: mean over `judged` cells, over their labels, and of one label."""
    labels, same, kept = cells.labels, same_label(latent, cells), judged[cells.known]
    of_label = {label: same[kept & (labels == label)].mean() for label in np.unique(labels[kept])}
    return {
        "neighbours": float(same[kept].mean()),
        "neighbours_by_label": float(np.mean(list(of_label.values()))),
        "neighbours_hard": float(of_label[HARD]),
    }


def imputation_scores(fitted: Fitted, cells: Split) -> dict[str, dict[str, dict[str, float]]]:
    """Spearman correlation of each protein with the truth over cells that lack it, by target and way to predict it.

    Targets are functions of counts. Of a model's own rates they are taken at counts that add up to the median of the measured cells.
    """
    counts = cells.cells.obsm["proteins"].to_numpy()
    lacking, names = cells.held_out, list(cells.cells.obsm["proteins"].columns)
    typical = float(np.median(counts[~lacking].sum(1)))

    def log_share(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log1p(typical * y / y.sum(1, keepdims=True))

    found: dict[str, dict[str, dict[str, float]]] = {}
    for target, of_counts in {"CLR": clr, "log share": log_share}.items():
        truth = of_counts(counts)
        predictions = regressions(fitted.latent, truth, ~lacking)
        if fitted.proteins is not None:
            rates = fitted.proteins[lacking]
            predictions["own rates"] = of_counts(typical * rates / rates.sum(1, keepdims=True))
        found[target] = {
            way: dict(zip(names, _spearman(predicted, truth[lacking]), strict=True))
            for way, predicted in predictions.items()
        }
    return found


def regressions(
    latent: NDArray[np.float64], target: NDArray[np.float64], measured: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Targets of the cells that are not measured, by regressions on latent states that are trained on those that are."""
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor

    ways = {"ridge": RidgeCV(np.logspace(-3, 3, 13)), "kNN": KNeighborsRegressor(REGRESSION_NEIGHBOURS)}
    return {
        way: model.fit(latent[measured], target[measured]).predict(latent[~measured]) for way, model in ways.items()
    }


def _spearman(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> list[float]:
    from scipy.stats import spearmanr

    return [float(spearmanr(a, b)[0]) for a, b in zip(predicted.T, truth.T, strict=True)]
