"""Training in epochs, on Lightning and scvi-tools."""

from ._fit import check_checkpoint, default_epochs, train_by_gradients
from ._loader import split_cells
from ._plan import TrainingOptions

__all__ = ["TrainingOptions", "check_checkpoint", "default_epochs", "split_cells", "train_by_gradients"]
