"""A covariance that is given and stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
        Σ (p, p), positive definite; the identity if None.

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
            super().update(given)

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
