"""``scpln fit``: fit a model to a file."""

from ._config import with_config
from ._options import positive_integer

__all__ = ["positive_integer", "with_config"]
