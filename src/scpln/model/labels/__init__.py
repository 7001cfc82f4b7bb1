"""Labels and values of cells from an embedding or counts, by linear layers with a distribution over their weights."""

from ._label_classifier import LabelClassifier
from ._label_regressor import LabelRegressor

__all__ = ["LabelClassifier", "LabelRegressor"]
