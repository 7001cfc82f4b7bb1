"""The models by name: a row says what the command line, the one-call functions, the Hub and the documentation say of each.

Plain data, so that the command line can list models, options and likelihoods without importing what takes seconds. Tests hold
the rows against the classes. A further model is one more row, added by `register` before the command line runs.
"""

from ._entry import Entry, Option, Result
from ._lookup import (
    default_key,
    in_words,
    joint_models,
    keys_of,
    keys_with,
    keys_writing,
    likelihoods,
    of_class,
    of_function,
    options,
    register,
    results,
    results_of,
)
from ._models import MODELS
from ._scvi_names import SCVI_NAMES, Counterpart, in_our_words
from ._shared import FLOWS, LIKELIHOODS, N_LATENT, OF_VALUES, POSTERIORS, RESULTS, WITH_PARAMETERS

__all__ = [
    "FLOWS",
    "LIKELIHOODS",
    "MODELS",
    "N_LATENT",
    "OF_VALUES",
    "POSTERIORS",
    "RESULTS",
    "SCVI_NAMES",
    "WITH_PARAMETERS",
    "Counterpart",
    "Entry",
    "Option",
    "Result",
    "default_key",
    "in_our_words",
    "in_words",
    "joint_models",
    "keys_of",
    "keys_with",
    "keys_writing",
    "likelihoods",
    "of_class",
    "of_function",
    "options",
    "register",
    "results",
    "results_of",
]
