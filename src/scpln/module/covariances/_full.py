"""Any covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_solve

from ._base import Covariance

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

    @property
    def n_parameters(self) -> int:
        """Those of a symmetric matrix, p (p + 1) / 2."""
        return self.n_genes * (self.n_genes + 1) // 2

    def update(self, second_moment: Matrix) -> None:
        """Take S."""
        try:
            self._factor = np.asarray(np.linalg.cholesky(self._checked(second_moment)), dtype=np.float64)
        except np.linalg.LinAlgError:
            msg = "second_moment is not positive definite, so no full covariance fits it: there are too few cells."
            raise ValueError(msg) from None

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
        self._factor = np.asarray(state["factor"], dtype=np.float64)
