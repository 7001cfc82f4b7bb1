"""Columns of a formula on scales of their own, so that nothing depends on the unit of a number, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ._columns import scale_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._base import Column

#: Roundings of its largest number below which nothing is left of a column.
_ROUNDINGS = 1e3


@dataclass(frozen=True)
class Basis:
    r"""What is taken off columns of numbers, and what they are divided by: :math:`\tilde x_j = (x_j - \sum_k a_{jk} \tilde x_k) / s_j`.

    A column of obs has its mean taken off, and is divided by its standard deviation. What is made of numbers (interactions,
    splines, powers) is what is left of it after a regression on the columns that are made of the same columns of obs, or of
    fewer, divided by its root mean square. As long as these hold what a change of origin brings in, as in every formula that
    has the parts of its products, the result is the same for a + b x. Columns of categories stay as they are.

    Parameters
    ----------
    steps
        For each column that changes, in order: its position j, those of k, the coefficients a, and s.

    Examples
    --------
    >>> from scpln.data.design._base import Column
    >>> age = np.array([2020.0, 2021.0, 2022.0, 2025.0])
    >>> x = np.column_stack([np.ones(4), age, age**2])
    >>> columns = [
    ...     Column("(Intercept)", "1", ()),
    ...     Column("age", "age", ("age",)),
    ...     Column("I(age ** 2)", "I(age ** 2)", ("age",)),
    ... ]
    >>> basis = Basis.learn(x, columns, ["age"])
    >>> bool(np.allclose(basis.apply(x).T @ basis.apply(x), 4 * np.eye(3), atol=1e-6))
    True
    """

    steps: list[tuple[int, list[int], list[float], float]]

    @classmethod
    def learn(cls, x: NDArray[np.float64], columns: Sequence[Column], numbers: Sequence[str]) -> Self:
        """Of the training cells' X (n, d), as the formula gives it, and the columns of obs that are numbers."""
        made = [j for j, column in enumerate(columns) if set(column.keys) & set(numbers)]
        plain = [j for j in made if columns[j].name in numbers]
        done = [j for j in range(x.shape[1]) if j not in made]
        result, steps = x.copy(), []
        for j in (*plain, *(j for j in made if j not in plain)):
            if j in plain:
                center, spread = scale_of(x[:, j])
                steps.append((j, [0], [center], spread))
                result[:, j] = (x[:, j] - center) / spread
            else:
                of_fewer = [k for k in done if set(columns[k].keys) <= set(columns[j].keys)]
                coefficients, result[:, j], spread = _left(x[:, j], result[:, of_fewer])
                steps.append((j, of_fewer, coefficients.tolist(), spread))
            done.append(j)
        return cls(steps)

    def apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """X (n, d) on the scales of the training cells, of X as the formula gives it."""
        result = x.copy()
        for j, others, coefficients, spread in self.steps:
            result[:, j] = (x[:, j] - result[:, others] @ np.asarray(coefficients)) / spread
        return result

    def in_units(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (p, d) of the formula's columns, of those of `apply`."""
        change = np.eye(coefficients.shape[1])  # T, where X̃ = X T, so that X̃ b̃ = X (T b̃)
        for j, others, shifts, spread in self.steps:
            change[:, j] = (change[:, j] - change[:, others] @ np.asarray(shifts)) / spread
        return coefficients.astype(np.float64) @ change.T

    def to_state(self) -> list[list[Any]]:
        """Plain values."""
        return [list(step) for step in self.steps]

    @classmethod
    def from_state(cls, state: list[list[Any]]) -> Self:
        """The basis described by `to_state`."""
        return cls([(j, others, coefficients, spread) for j, others, coefficients, spread in state])


def _left(
    values: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Coefficients of a regression, what it leaves, at unit root mean square, and that of what it leaves: infinite for rounding."""
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    residual, coefficients = values / largest, np.zeros(others.shape[1])
    for _ in range(2):  # the second takes off what rounding left of the first
        step = np.linalg.lstsq(others, residual, rcond=None)[0]
        coefficients, residual = coefficients + step, residual - others @ step
    spread = float(np.sqrt(np.mean(residual**2)))
    if spread <= _ROUNDINGS * np.finfo(float).eps:
        return coefficients * largest, np.zeros(len(values)), np.inf
    return coefficients * largest, residual / spread, spread * largest
