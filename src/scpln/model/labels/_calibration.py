"""What predictions of held-out cells say of a classifier: temperature, and the probabilities that thresholds and sets come from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from scpln.inference.linear import (
    LabelPrediction,
    best_temperature,
    label_scores,
    predict_labels,
    reliability_table,
    risk_coverage_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from ._layer import LinearLayer

    Floats = NDArray[np.float64]

#: Most cells that the temperature is found with.
_MOST_TEMPERED = 5000
#: Rows of the table of risk by coverage that are kept.
_ROWS = 200
_LEAST = 1e-12


@dataclass(frozen=True)
class HeldOutCells:
    """Cells that a fit has not seen: codes of their labels, features by block of cells, and draws of the weights."""

    codes: NDArray[np.intp]
    features: Callable[[slice], NDArray[np.float32]]
    weights: Floats

    def predict(self, temperature: float, n: int | None = None) -> LabelPrediction:
        """Predictions of the first n, or of all."""
        return predict_labels(len(self.codes) if n is None else n, self.features, self.weights, temperature)


@dataclass(frozen=True)
class Calibration:
    """Of held-out cells: probability of their label, largest probability, whether it is that of their label, and the label's code."""

    temperature: Floats
    own: Floats
    confidence: Floats
    is_right: NDArray[np.bool_]
    codes: NDArray[np.intp]

    @classmethod
    def of_layer(cls, layer: LinearLayer) -> Self | None:
        """That which a layer has, if it has one."""
        names = [field.name for field in fields(cls)]
        if f"held_out_{names[0]}" not in layer:
            return None
        return cls(**{name: layer.array(f"held_out_{name}") for name in names})

    def arrays(self) -> dict[str, NDArray]:
        """By name, for the layer."""
        return {f"held_out_{field.name}": getattr(self, field.name) for field in fields(self)}


def calibrate(parts: Sequence[HeldOutCells]) -> tuple[Calibration, dict[str, Any]]:
    """The temperature at which held-out labels are most probable, and what predictions are worth before and after.

    Returns
    -------
    The calibration, and plain values: ``temperature``, ``n_cells``, ``scores`` and ``scores_before`` (at temperature 1), and the tables ``reliability``, ``reliability_before`` and
    ``risk_coverage``, as lists by column.
    """
    n_all = sum(len(part.codes) for part in parts)
    share = min(1.0, _MOST_TEMPERED / n_all)
    some = [max(1, int(share * len(part.codes))) for part in parts]

    def log_score(temperature: float) -> float:
        total = 0.0
        for part, n in zip(parts, some, strict=True):
            own = part.predict(temperature, n).probabilities[np.arange(n), part.codes[:n]]
            total += float(np.log(np.maximum(own, _LEAST)).sum())
        return total / sum(some)

    temperature = best_temperature(log_score)
    codes = np.concatenate([part.codes for part in parts])
    found: dict[str, Any] = {"temperature": temperature, "n_cells": len(codes)}
    for name, t in (("_before", 1.0), ("", temperature)):
        probabilities = np.concatenate([part.predict(t).probabilities for part in parts])
        confidence, is_right = probabilities.max(1), probabilities.argmax(1) == codes
        found[f"scores{name}"] = label_scores(probabilities, codes)
        found[f"reliability{name}"] = _columns(reliability_table(confidence, is_right))
    table = risk_coverage_table(confidence, is_right)
    kept = np.unique(np.linspace(0, len(table) - 1, min(_ROWS, len(table))).astype(int))
    found["risk_coverage"] = _columns(table.iloc[kept])
    own = probabilities[np.arange(len(codes)), codes]
    return Calibration(np.array(temperature), own, confidence, is_right, codes), found


def _columns(table: pd.DataFrame) -> dict[str, list[float]]:
    return {str(name): column.astype(float).tolist() for name, column in table.items()}
