"""What a trained classifier says of cells: labels or none, probabilities, sets, uncertainty, and how good all that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scpln.data import cell_positions, read_labels, restore
from scpln.inference.linear import (
    ClassDistances,
    label_scores,
    label_sets,
    predict_labels,
)
from scpln.model.base import Annotation
from scpln.utils import MOST_DRAWS, as_bool, in_range, positive_integer, resolve_seed

from ._calibrated import N_DRAWS, CalibratedLabels
from ._calibration import Calibration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data
    from scpln.inference.linear import LabelPrediction
    from scpln.model.base import Evaluated
    from scpln.module import Posterior

    Floats = NDArray[np.float64]


class LabelPredictions(CalibratedLabels):
    """Predictions of a linear layer over labels."""

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        soft: bool = False,
        target_error: float | None = None,
        n_samples: int = N_DRAWS,
        posterior: Posterior | None = None,
        seed: int | None = None,
    ) -> NDArray | pd.DataFrame:
        """Most probable label of each cell, or the probabilities of all.

        Probabilities say which of the labels it is, not whether it is one of them: see ``novelty`` of `get_label_uncertainty`.

        Parameters
        ----------
        adata
            Annotated data with the entry of ``obsm``, or the genes, that the model reads; by default its own. Labels are not looked at. Of cells of training, predictions
            are too sure; for the share of errors, see `calibrate`.
        indices
            Positions of cells, or a mask over them; by default all.
        soft
            Whether to return the probabilities (cells × labels).
        target_error
            Share of errors among cells that get a label, from 0 to 1: cells get none (NaN) if they are less sure than the least sure held-out cells for which it holds.
        n_samples
            Draws of the weights.
        posterior
            Posteriors of the latent states, ``get_posterior(...)`` of the model that made the embedding and of these cells: probabilities are averaged over draws of these as well.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Labels of the cells (n,), of the type that they have in ``labels_key``, with NaN in an array of objects with `target_error`; or a DataFrame.

        Raises
        ------
        RuntimeError
            The model is not trained, or `target_error` is given and it is not calibrated.
        ValueError
            Features lack or are not those of training, or `target_error` is given with `soft`.
        """
        if as_bool("soft", soft) and target_error is not None:
            msg = "target_error= is for labels, and soft=True asks for probabilities. Leave one of them out."
            raise ValueError(msg)
        limit = -np.inf if target_error is None else self._threshold(in_range("target_error", target_error, 0, 1))
        found = self._predict(adata, indices, n_samples, posterior, seed)
        if soft:
            return self._table(found.probabilities, adata, indices)
        labels = restore(self.label_names, self.label_dtype)[found.probabilities.argmax(1)]
        if target_error is not None:
            labels = labels.astype(object)
            labels[found.probabilities.max(1) < limit] = np.nan
        return labels

    def predict_sets(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        error: float = 0.1,
        by_class: bool = False,
        n_samples: int = N_DRAWS,
        posterior: Posterior | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Sets of labels that hold a cell's own but for a share of errors, whatever the model is: split-conformal.

        That is so of cells that are exchangeable with those of `calibrate`, and exactly where these are other cells than those of training. A set that is empty says that no
        label fits.

        Parameters
        ----------
        adata, indices, n_samples, posterior, seed
            As in `predict`.
        error
            Share of cells whose label may lack in its set.
        by_class
            Whether that is to hold for the cells of each label by itself; sets are then larger.

        Returns
        -------
        Whether a label is in a cell's set (cells × labels).

        Raises
        ------
        RuntimeError
            The model is not trained, or not calibrated.
        """
        error, by_class = in_range("error", error, 0, 1), as_bool("by_class", by_class)
        held = self._calibrated()
        found = self._predict(adata, indices, n_samples, posterior, seed)
        sets = label_sets(found.probabilities, held.own, held.codes, error, by_class=by_class)
        return self._table(sets, adata, indices)

    def get_label_uncertainty(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        n_samples: int = N_DRAWS,
        posterior: Posterior | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """How sure labels are, and why not.

        Parameters
        ----------
        adata, indices, n_samples, posterior, seed
            As in `predict`.

        Returns
        -------
        Table with a row for each cell: ``probability`` of the predicted label; ``entropy`` of the probabilities, nats, and what it is made of: ``expected_entropy`` of draws (aleatoric,
        which more training cells would leave) and ``mutual_information`` of label and draws (epistemic); and ``novelty``, the share of training cells that are nearer to the mean
        of a label, in units of the covariance within labels: above 1 for cells that are farther than all of them.
        """
        found = self._predict(adata, indices, n_samples, posterior, seed)
        return pd.DataFrame(self._uncertainty(found, self._design(adata, indices)), index=self._names(adata, indices))

    def _predict(
        self, adata: Data | None, indices: Any, n_samples: int, posterior: Posterior | None, seed: int | None
    ) -> LabelPrediction:
        """Predictions at the temperature of the calibration, if there is one."""
        self._require_trained()
        n_samples, seed = positive_integer("n_samples", n_samples, most=MOST_DRAWS), resolve_seed(seed)
        design = self._design(adata, indices)
        held = Calibration.of_layer(self.module)
        temperature = 1.0 if held is None else float(held.temperature)
        features = self._features(design, posterior, n_samples, seed)
        return predict_labels(len(design), features, self._draws(n_samples, seed), temperature)

    def _uncertainty(self, found: LabelPrediction, design: Floats) -> dict[str, Floats]:
        names = ("class_means", "whitener", "distance_quantiles")
        return {
            "probability": found.probabilities.max(1),
            "entropy": found.entropy,
            "expected_entropy": found.expected_entropy,
            "mutual_information": found.mutual_information,
            "novelty": ClassDistances(*(self.module.array(name) for name in names)).novelty(design[:, 1:]),
        }

    def _table(self, values: NDArray, adata: Data | None, indices: Any) -> pd.DataFrame:
        return pd.DataFrame(values, index=self._names(adata, indices), columns=self.label_names)

    def annotate(
        self,
        adata: AnnData | MuData | None = None,
        key_added: str | None = None,
        diagnostics: bool = False,
        *,
        target_error: float | None = None,
        posterior: Posterior | None = None,
    ) -> None:
        """Write labels, probabilities and uncertainty into an AnnData, for scanpy and for later.

        Parameters
        ----------
        adata
            Annotated data to write into; by default the model's own.
        key_added
            Start of the names; by default ``"labelclassifier"``.
        diagnostics
            Has no effect: there are no posteriors of cells.
        target_error
            Share of errors among cells that get a label; by default the one that the model was trained or calibrated with, if there was one.
        posterior
            As in `predict`.

        Returns
        -------
        None. All that was written under the key before is replaced. Sets ``obs["{key}_prediction"]``, NaN where the label is less sure than `target_error` asks for,
        ``obs["{key}_probability"]``, ``obs["{key}_entropy"]``, ``obs["{key}_expected_entropy"]``, ``obs["{key}_mutual_information"]`` and ``obs["{key}_novelty"]``
        (see `get_label_uncertainty`), ``obsm["{key}_probs"]``, and ``uns["{key}"]``.
        """
        given = None if target_error is None else in_range("target_error", target_error, 0, 1)
        del diagnostics  # there are no latent states
        self._write(adata, key_added, lambda data: self._labels_of(data, given, posterior))

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        del diagnostics
        return self._labels_of(adata, None, None)

    def _labels_of(self, adata: Data, target_error: float | None, posterior: Posterior | None) -> Annotation:
        """What is written of cells."""
        found = self._predict(adata, None, N_DRAWS, posterior, None)
        columns = self._uncertainty(found, self._design(adata, None))
        if target_error is None:
            target_error = self.training_.get("calibration", {}).get("target_error")
        limit = -np.inf if target_error is None else self._threshold(target_error)
        withheld = {} if target_error is None else {"target_error": float(target_error), "threshold": limit}
        codes = np.where(columns["probability"] < limit, -1, found.probabilities.argmax(1))
        is_plain = self.label_dtype.startswith(("int", "uint", "float", "bool"))
        names = restore(self.label_names, self.label_dtype) if is_plain else self.label_names
        obs: dict[str, Any] = {"prediction": pd.Categorical.from_codes(codes, names)}
        return Annotation(
            obs={**obs, **columns},
            obsm={"probs": found.probabilities},
            uns={"labels": self.label_names, **withheld},
        )

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """Scores of the cells that have a label which the model knows."""
        found = super()._evaluation(adata, indices, n_samples, seed)
        codes, _ = read_labels(adata, self.registry) or (np.empty(0, np.int64), [])
        positions = cell_positions(indices, adata.n_obs)
        chosen = np.arange(adata.n_obs) if positions is None else positions
        known = chosen[codes[chosen] >= 0]
        if not len(known):
            return found
        probabilities = self._predict(adata, known, N_DRAWS, None, seed).probabilities
        scores = label_scores(probabilities, codes[known].astype(np.intp))
        notes = dict.fromkeys(scores, f"of {len(known):,} cells with labels that the model knows")
        return found.plus(scores, notes=notes)
