"""Any covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_solve

from ._base import LEAST_VARIANCE, Covariance

if TYPE_CHECKING:
    from ._base import Matrix


class Full(Covariance):
    r"""Any positive definite Σ: the best is S itself.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = Full(2)
    >>> covariance.update(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> covariance.precision.round(3), covariance.n_parameters
    (array([[ 0.667, -0.333],
           [-0.333,  0.667]]), 3)
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self._factor: Matrix = np.eye(n_genes)
        self._root = self._factor

    @property
    def n_parameters(self) -> int:
        """Those of a symmetric matrix, p (p + 1) / 2."""
        return self.n_genes * (self.n_genes + 1) // 2

    def update(self, second_moment: Matrix) -> None:
        """Take S."""
        try:
            self._root = self._factor = np.asarray(np.linalg.cholesky(self._checked(second_moment)), dtype=np.float64)
        except np.linalg.LinAlgError:
            msg = "second_moment is not positive definite, so no full covariance fits it: there are too few cells."
            raise ValueError(msg) from None

    @property
    def coordinates(self) -> Matrix:
        """Any square root, (p²,): its rotation does not matter, to methods that know lengths and angles only."""
        return self._root.ravel()

    def move(self, coordinates: Matrix) -> None:
        """Take the Σ of a square root."""
        self._root = np.array(coordinates, np.float64).reshape(self.n_genes, self.n_genes)
        rows = np.vstack([self._root.T, LEAST_VARIANCE**0.5 * np.eye(self.n_genes)])
        factor = np.asarray(np.linalg.qr(rows, mode="r")).T
        self._factor = factor * np.where(np.diagonal(factor) < 0, -1.0, 1.0)

    def slope(self, gradient: Matrix) -> Matrix:
        """G R."""
        return (gradient @ self._root).ravel()

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """P times the slope."""
        return (spread @ slope.reshape(self._root.shape)).ravel()

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return self._factor @ self._factor.T

    @property
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""
        return cho_solve((self._factor, True), np.eye(self.n_genes))

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        return float(2 * np.log(np.diagonal(self._factor)).sum())

    @property
    def state(self) -> dict[str, Matrix]:
        """The Cholesky factor."""
        return {"factor": self._factor}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a factor."""
        self._root = self._factor = np.asarray(state["factor"], dtype=np.float64)
