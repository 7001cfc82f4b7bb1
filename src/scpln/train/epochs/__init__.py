"""Training in epochs, on Lightning and scvi-tools."""

from scpln.train._checkpoint import check_checkpoint

from ._fit import default_epochs, train_by_gradients
from ._loader import split_cells
from ._options import CheckpointOptions, DeviceOptions, TrainingOptions
from ._result import GradientTraining

__all__ = [
    "CheckpointOptions",
    "DeviceOptions",
    "GradientTraining",
    "TrainingOptions",
    "check_checkpoint",
    "default_epochs",
    "split_cells",
    "train_by_gradients",
]
