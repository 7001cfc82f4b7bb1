"""``scpln fit``: fit a model to a file; what it shares with the commands that apply one."""

from ._config import with_config, write_config
from ._modalities import SUFFIXES, is_mudata
from ._options import add_config_options, non_empty_name, positive_integer, positive_number
from ._places import keys_of_registration, places
from ._summary import clusters, clusters_in_words

__all__ = [
    "SUFFIXES",
    "add_config_options",
    "clusters",
    "clusters_in_words",
    "is_mudata",
    "keys_of_registration",
    "non_empty_name",
    "places",
    "positive_integer",
    "positive_number",
    "with_config",
    "write_config",
]
