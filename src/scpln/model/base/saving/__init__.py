"""A trained model on disk: tensors as safetensors, everything else as JSON, nothing pickled.

``model.json`` names the files that belong to it and their SHA-256 digests, and is replaced last and in one step. A save
that is killed leaves the previous ``model.json`` in place, and with it the previous model. While an old model is being
replaced, the new files need other names (``model.3f9a2c1b5d7e8f60.safetensors``); a fresh save has the plain ones. What
is removed is what ``model.json``, that of an interrupted save included, says of itself, and nothing else.
"""

from ._document import model_file
from ._read import SavedModel, read_metadata, read_model
from ._write import check_save, write_model

__all__ = [
    "SavedModel",
    "check_save",
    "model_file",
    "read_metadata",
    "read_model",
    "write_model",
]
