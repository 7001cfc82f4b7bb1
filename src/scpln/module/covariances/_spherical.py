"""One variance for all genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import LEAST_VARIANCE, Covariance, positive

if TYPE_CHECKING:
    from ._base import Matrix


class Spherical(Covariance):
    r"""Independent genes with one variance, :math:`\Sigma = \sigma^2 I`: the best has the mean of the diagonal of S.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = Spherical(2)
    >>> covariance.update(np.array([[2.0, 1.0], [1.0, 4.0]]))
    >>> np.diagonal(covariance.dense), covariance.n_parameters
    (array([3., 3.]), 1)
    """

    is_diagonal = True

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self._variance = 1.0

    @property
    def n_parameters(self) -> int:
        """The variance."""
        return 1

    def update(self, second_moment: Matrix) -> None:
        """Take the mean of S's diagonal."""
        mean = np.diagonal(self._checked(second_moment)).mean(keepdims=True)
        self._variance = float(positive(mean)[0])

    @property
    def coordinates(self) -> Matrix:
        """The standard deviation."""
        return np.array([np.sqrt(self._variance)])

    def move(self, coordinates: Matrix) -> None:
        """Take a standard deviation, of any sign."""
        self._variance = float(coordinates[0] ** 2 + LEAST_VARIANCE)

    def slope(self, gradient: Matrix) -> Matrix:
        """The standard deviation times the trace of G."""
        return self.coordinates * np.trace(gradient)

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """The slope over the trace of P⁻¹, as if P were diagonal."""
        return slope / (1 / np.diagonal(spread)).sum()

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return self._variance * np.eye(self.n_genes)

    @property
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""
        return np.eye(self.n_genes) / self._variance

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        return float(self.n_genes * np.log(self._variance))

    @property
    def state(self) -> dict[str, Matrix]:
        """The variance."""
        return {"variance": np.array(self._variance)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a variance."""
        self._variance = float(state["variance"])
