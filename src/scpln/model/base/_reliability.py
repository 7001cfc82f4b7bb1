"""How far the posteriors of a trained model can be trusted, in words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from scpln.inference import describe_stuck
from scpln.utils import warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

#: Pareto k̂ above which importance sampling, and with it the posterior, cannot be trusted (Vehtari et al., 2024).
UNRELIABLE = 0.7
#: Share of cells above it from which a training says what that means, and a gap, nats per cell, which hardly matters.
_ALARMING, _SMALL_GAP = 0.1, 0.1
#: What brings posteriors from an encoder closer to the exact ones.
REFINE = "pass refine=50 to get_posterior, get_elbo and the like, which improves the posterior of each cell by itself"

logger = logging.getLogger("scpln")


def say_reliability(training: Mapping[str, Any], remedy: str) -> None:
    """Log what `reliability_in_words` says, and what it means and what to do if many cells are above the threshold."""
    words, found = reliability_in_words(training), training.get("reliability")
    if words is not None:
        logger.info("Posteriors: %s.", words)
    if found is None or found["unreliable"] < _ALARMING:
        return
    if found["gap"] < _SMALL_GAP:
        logger.info(
            "That is: the posteriors of these cells have tails that are too thin, but nearly all of the exact posteriors' weight. "
            "Latent states, expression and bounds can be used as they are."
        )
    else:
        logger.info(
            "That is: the posteriors of these cells miss a part of the exact ones, so that their bounds are too low, and latent "
            "states and expression less certain than they seem. Clusters and embeddings seldom change. To come closer, %s.",
            remedy or "train for longer",
        )


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


def warn_stuck(stuck: NDArray[np.intp], n_cells: int, names: Sequence[Any] | None) -> None:
    """Warn, at the user's line, if any of the cells did not converge."""
    if len(stuck):
        warn(describe_stuck(stuck, n_cells, names))
