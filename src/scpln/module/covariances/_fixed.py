"""A covariance that is given and stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._base import LEAST_VARIANCE
from ._full import Full

if TYPE_CHECKING:
    from ._base import Matrix


class Fixed(Full):
    r"""A given Σ, which no data change.

    Parameters
    ----------
    n_genes
        Number of genes p.
    given
        Σ (p, p), positive semidefinite; the identity if None. Variances below 1e-10 in some direction, as those of
        a covariance of few dimensions, are raised to that.

    Raises
    ------
    ValueError
        Σ is not a finite symmetric matrix of this size, or has a negative eigenvalue.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = Fixed(2, np.array([[1.0, 0.5], [0.5, 1.0]]))
    >>> covariance.update(np.eye(2))
    >>> covariance.dense.round(3), covariance.n_parameters
    (array([[1. , 0.5],
           [0.5, 1. ]]), 0)
    """

    def __init__(self, n_genes: int, given: Matrix | None = None) -> None:
        super().__init__(n_genes)
        if given is not None:
            matrix, values, vectors = self._semidefinite(given, "given")
            singular = values[0] < LEAST_VARIANCE
            super().update((vectors * np.maximum(values, LEAST_VARIANCE)) @ vectors.T if singular else matrix)

    @property
    def n_parameters(self) -> int:
        """None."""
        return 0

    def update(self, second_moment: Matrix) -> None:
        """Leave Σ as it is."""
        self._checked(second_moment)

    @property
    def coordinates(self) -> Matrix:
        """None."""
        return np.empty(0)

    def move(self, coordinates: Matrix) -> None:
        """Leave Σ as it is."""

    def slope(self, gradient: Matrix) -> Matrix:
        """None."""
        return np.empty(0)

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """None."""
        return np.empty(0)
