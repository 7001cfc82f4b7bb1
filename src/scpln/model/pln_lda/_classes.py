"""Labels of the training cells, and their prior probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.data import as_text
from scpln.utils import one_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Labels that there are at least, and cells of each.
FEWEST = 2


def checked_names(names: list[str]) -> list[str]:
    """The labels' names, of which there have to be two."""
    if len(names) < FEWEST:
        msg = f"Discriminant analysis is between labels, and cells have {names or 'none'}. Label cells of two kinds or more, and set up again."
        raise ValueError(msg)
    return names


def checked_priors(priors: Any, names: list[str]) -> str | dict[str, float]:
    """``"empirical"``, ``"uniform"``, or a probability for each label by its name as text."""
    if not isinstance(priors, Mapping):
        one_of("priors", priors, ["empirical", "uniform"])
        return str(priors)
    given = {as_text(label): value for label, value in priors.items()}
    if set(given) != set(names):
        wrong = [name for name in names if name not in given] or [name for name in given if name not in names]
        msg = f"priors={priors!r}, but they must be of the labels {names}, each once: look at {wrong[0]!r}."
        raise ValueError(msg)
    try:
        values = np.array([given[name] for name in names], dtype=float)
    except (TypeError, ValueError):
        values = np.zeros(len(names))
    if not (values > 0).all() or abs(values.sum() - 1) > 1e-6:
        msg = f"priors={priors!r}, but they must be 'empirical', 'uniform', or a number above 0 for each label, which add up to 1."
        raise ValueError(msg)
    return dict(zip(names, values.tolist(), strict=True))


def labelled(
    codes: NDArray[np.int64], names: list[str], priors: str | dict[str, float]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Positions of the cells that have a label, the labels' codes, and probabilities of the labels."""
    known = np.flatnonzero(codes >= 0)
    sizes = np.bincount(codes[known], minlength=len(names))
    if (sizes < FEWEST).any():
        few = [name for name, size in zip(names, sizes, strict=True) if size < FEWEST]
        msg = f"There are fewer than {FEWEST} cells with the label {few[0]!r}, too few for a mean and how cells differ from it. Label more, or none (NaN), and set up again."
        raise ValueError(msg)
    if isinstance(priors, dict):
        weights = np.array([priors[name] for name in names])
    else:
        weights = sizes if priors == "empirical" else np.ones(len(names))
    return known, codes[known], weights / weights.sum()
