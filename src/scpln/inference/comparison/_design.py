"""Covariates of a comparison that can be told from each other and from what is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Share of a column's length below which what the columns before leave of it is nothing.
_REDUNDANT = 1e-8


def independent_columns(side: NDArray[np.bool_], covariates: Array, names: Sequence[str]) -> tuple[Array, list[str]]:
    """Covariates (n × d) without those that the ones before determine, standardised, with their names.

    Raises
    ------
    ValueError
        If the sides are determined by the covariates, so that no difference between sides can be told from theirs.

    Examples
    --------
    >>> side = np.array([True, True, False, False])
    >>> independent_columns(side, np.array([[1.0, 2], [0, 0], [1, 2], [0, 0]]), ["a", "b"])[1]
    ['a']
    """
    basis = np.full((len(side), 1), len(side) ** -0.5)
    kept = []
    for column in range(covariates.shape[1]):
        left = _residual(covariates[:, column], basis)
        if left is not None:
            basis = np.column_stack([basis, left])
            kept.append(column)
    if _residual(side.astype(float), basis) is None:
        msg = (
            f"The groups cannot be told from the covariates: {[names[column] for column in kept]} say which cell is in which "
            "group, as when every batch belongs to one condition. Leave the one out that says it: covariate_keys=[...]."
        )
        raise ValueError(msg)
    chosen = covariates[:, kept]
    spread = chosen.std(0)
    return (chosen - chosen.mean(0)) / np.where(spread > 0, spread, 1.0), [names[column] for column in kept]


def _residual(column: Array, basis: Array) -> Array | None:
    """What orthonormal columns leave of one, as a unit vector; None if that is nothing."""
    length = float(np.linalg.norm(column))
    left = column - basis @ (basis.T @ column)
    left -= basis @ (basis.T @ left)
    remaining = float(np.linalg.norm(left))
    return None if remaining <= _REDUNDANT * max(length, 1e-300) else left / remaining
