"""A classifier that is calibrated on cells that it has not seen: temperature, thresholds of abstention, draws of its weights."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.inference.linear import COVARIANCES, CovarianceName, abstention_threshold, draw_weights
from scpln.utils import MOST_DRAWS, in_range, positive_integer, resolve_seed

from ._base import LinearModel
from ._calibration import Calibration, HeldOutCells, calibrate
from ._held_out import check_enough, parts_to_judge, read_groups, some_cells

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.data import Data
    from scpln.inference.linear import LabelWeights
    from scpln.module import Posterior

    Floats = NDArray[np.float64]

#: Draws of the weights.
N_DRAWS = 50


class CalibratedLabels(LinearModel):
    """A linear layer over labels whose probabilities have a temperature."""

    label_names: list[str]
    label_dtype: str

    @property
    @abstractmethod
    def _family(self) -> CovarianceName:
        """Of the covariance of the weights."""

    @abstractmethod
    def _fit(self, design: Floats, codes: NDArray[np.intp], options: dict[str, Any], on_iteration: Any) -> LabelWeights:
        """Weights of the layer."""

    @abstractmethod
    def _labelled(self, adata: Data) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions of the cells that have a label, and the labels' codes."""

    def calibrate(
        self,
        adata: AnnData | None = None,
        *,
        cv_key: str | None = None,
        target_error: float | None = None,
        n_samples: int = N_DRAWS,
        posterior: Posterior | None = None,
        seed: int | None = None,
    ) -> None:
        """Fit the temperature of the probabilities to cells that were held out, and keep what thresholds and sets come from.

        Parameters
        ----------
        adata
            Cells with labels that the model was not trained on. By default, and if it is the model's own AnnData, those of training, up to 20,000 of them, held out in five parts, each predicted by a fit to the others.
        cv_key
            Column of ``obs`` of batches or donors, each of which is held out as a whole, of cells of training.
        target_error
            Share of errors among cells that `annotate` gives a label; by default all get one.
        n_samples, posterior, seed
            As in `predict`.

        Returns
        -------
        None. ``training_["calibration"]`` has the ``temperature``, ``scores`` of held-out cells, ``scores_before``, the tables ``reliability``, ``reliability_before`` and ``risk_coverage``, and with
        `target_error` the ``threshold`` of the probability.

        Raises
        ------
        ValueError
            There are fewer than 20 cells with labels (of groups: that other groups have, too), there is one group, or groups are given of cells that are held out already.
        """
        self._require_trained()
        target = None if target_error is None else in_range("target_error", target_error, 0, 1)
        n_samples, seed = positive_integer("n_samples", n_samples, most=MOST_DRAWS), resolve_seed(seed)
        if adata is self.adata:
            adata = None
        if adata is not None and cv_key is not None:
            msg = "cv_key= is for cells of training, which are held out by group, and adata= are held out already. Leave one of them out."
            raise ValueError(msg)
        data = self._data_or_own(adata)
        known, codes = self._labelled(data)
        if adata is None:
            groups = read_groups(data.obs, cv_key)
            parts = self._cross_fitted(known, codes, groups, n_samples, posterior, seed)
        else:
            check_enough(len(known))
            chosen = None if posterior is None else posterior[known]
            features = self._features(self._design(adata, known), chosen, n_samples, seed)
            parts = [HeldOutCells(codes, features, self._draws(n_samples, seed))]
        held, found = calibrate(parts)
        self.module = self.module.with_arrays(held.arrays())
        found["held_out"] = "in five parts" if adata is None else "other cells"
        if cv_key is not None:
            found["cv_key"] = cv_key
        if target is not None:
            found |= {"target_error": target, "threshold": self._threshold(target)}
        self.training_ = {**self.training_, "calibration": found}

    def _cross_fitted(
        self,
        known: NDArray[np.intp],
        codes: NDArray[np.intp],
        groups: NDArray[np.int64] | None,
        n_samples: int,
        posterior: Posterior | None,
        seed: int,
    ) -> list[HeldOutCells]:
        """Cells of training in parts, with draws of the weights of a fit to the other parts."""
        some = some_cells(len(known), seed)
        known, codes = known[some], codes[some]
        design, parts = self._design(None, known), []
        options = {"max_epochs": self.training_["max_epochs"], "tol": self.training_["tol"]}
        for kept, out in parts_to_judge(codes, None if groups is None else groups[known], seed):
            fit = self._fit(design[kept], codes[kept], options, lambda *_: None)
            weights = draw_weights(fit.mean, fit.covariance, n_samples, seed)
            out = np.random.default_rng(seed).permutation(out)
            chosen = None if posterior is None else posterior[known[out]]
            parts.append(HeldOutCells(codes[out], self._features(design[out], chosen, n_samples, seed), weights))
        return parts

    def _calibrated(self) -> Calibration:
        self._require_trained()
        held = Calibration.of_layer(self.module)
        if held is None:
            msg = f"This {type(self).__name__} is not calibrated, and cannot say how often it is wrong. Calibrate it, or train it again with calibrate=True."
            raise RuntimeError(msg)
        return held

    def _threshold(self, target_error: float) -> float:
        """Least probability of a label that cells get."""
        held = self._calibrated()
        return abstention_threshold(held.confidence, held.is_right, target_error)

    def _draws(self, n_samples: int, seed: int) -> Floats:
        mean = self.module.array("mean")
        covariance = COVARIANCES[self._family].of_factor(self.module.array("factor"), mean.shape[1])
        return draw_weights(mean, covariance, n_samples, seed)
