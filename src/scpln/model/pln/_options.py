"""Options of the models in gene space, and of their training."""

from __future__ import annotations

from typing import Any

import scvi

from scpln.utils import positive_integer, positive_integer_or_none, positive_number, resolve_seed

#: Most iterations, unless a user says so.
MAX_EPOCHS = 1000
#: Largest inverse variance of coefficients: with it they are 0.
MOST_PRECISE = 1e9


def training_options(max_epochs: int | None, tol: float, seed: int | None, n_threads: int | None) -> dict[str, Any]:
    """Arguments of ``train``, after checking them, with what they are if they are not given."""
    return {
        "max_epochs": positive_integer("max_epochs", MAX_EPOCHS if max_epochs is None else max_epochs),
        "tol": positive_number("tol", tol),
        "seed": resolve_seed(seed),
        "n_threads": positive_integer_or_none("n_threads", n_threads) or scvi.settings.num_threads,
    }
