"""How far the posteriors of a trained model can be trusted, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Pareto k̂ above which importance sampling, and with it the posterior, cannot be trusted (Vehtari et al., 2024).
UNRELIABLE = 0.7


def reliability_in_words(training: Mapping[str, Any]) -> str | None:
    """Say what ``training_["reliability"]`` found; None where nothing is known of it.

    Parameters
    ----------
    training
        ``training_`` of a model. Models that scpln 0.1.0 saved may have the words alone, as ``"posterior"``.

    Examples
    --------
    >>> reliability_in_words({"reliability": {"gap": 0.0123, "unreliable": 0.05, "n_cells": 1000}})
    '0.012 nats per cell below the log-likelihood, Pareto k̂ > 0.7 for 5.0 % of 1,000 cells'
    >>> reliability_in_words({"reliability": None})
    'not evaluated'
    """
    found = training.get("reliability")
    if found is not None:
        share = f"Pareto k̂ > {UNRELIABLE} for {100 * found['unreliable']:.1f} % of {found['n_cells']:,} cells"
        return f"{found['gap']:.3f} nats per cell below the log-likelihood, {share}"
    if "posterior" in training:
        return str(training["posterior"])
    return "not evaluated" if "reliability" in training else None
