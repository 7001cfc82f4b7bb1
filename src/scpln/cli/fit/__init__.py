"""``scpln fit``: fit a model to a file; what it shares with the commands that apply one."""

from ._config import with_config, write_config
from ._modalities import is_mudata
from ._options import add_config_options, name_of_results, positive_integer, positive_number
from ._outputs import check_outputs, check_writable, write_annotated
from ._places import keys_of_registration, places
from ._summary import clusters, clusters_in_words

__all__ = [
    "add_config_options",
    "check_outputs",
    "check_writable",
    "clusters",
    "clusters_in_words",
    "is_mudata",
    "keys_of_registration",
    "name_of_results",
    "places",
    "positive_integer",
    "positive_number",
    "with_config",
    "write_annotated",
    "write_config",
]
