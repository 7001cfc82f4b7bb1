"""A variance for each gene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import LEAST_VARIANCE, Covariance, positive

if TYPE_CHECKING:
    from ._base import Matrix


class Diagonal(Covariance):
    r"""Independent genes, :math:`\Sigma = \text{diag}(\sigma_1^2, \dots, \sigma_p^2)`: the best has the diagonal of S.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = Diagonal(2)
    >>> covariance.update(np.array([[2.0, 1.0], [1.0, 4.0]]))
    >>> covariance.precision
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """

    is_diagonal = True

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self._variances = np.ones(n_genes)

    @property
    def n_parameters(self) -> int:
        """One for each gene."""
        return self.n_genes

    def update(self, second_moment: Matrix) -> None:
        """Take the diagonal of S."""
        self._variances = positive(np.diagonal(self._checked(second_moment)).copy())

    @property
    def coordinates(self) -> Matrix:
        """Standard deviations."""
        return np.sqrt(self._variances)

    def move(self, coordinates: Matrix) -> None:
        """Take standard deviations, of any sign."""
        self._variances = np.square(coordinates) + LEAST_VARIANCE

    def slope(self, gradient: Matrix) -> Matrix:
        """Standard deviations times the diagonal of G."""
        return self.coordinates * np.diagonal(gradient)

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """The diagonal of P times the slope."""
        return np.diagonal(spread) * slope

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return np.diag(self._variances)

    @property
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""
        return np.diag(1 / self._variances)

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        return float(np.log(self._variances).sum())

    @property
    def state(self) -> dict[str, Matrix]:
        """The variances."""
        return {"variances": self._variances}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over variances."""
        self._variances = np.asarray(state["variances"], dtype=np.float64)
