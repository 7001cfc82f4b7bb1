"""Few factors and a variance of each gene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_solve

from ._base import LEAST_VARIANCE, Covariance, positive
from ._factor_analysis import maximum_likelihood

if TYPE_CHECKING:
    from ._base import Matrix


class Factor(Covariance):
    r"""Few directions that genes share, and a variance of its own for each, :math:`\Sigma = C C^T + \text{diag}(\psi)`: factor analysis [1]_.

    Parameters
    ----------
    n_genes
        Number of genes p.
    n_factors
        Number q of factors, the columns of C, from 1 to p − 1; 1 of one gene.

    Raises
    ------
    ValueError
        There are fewer factors, or more.

    References
    ----------
    .. [1] Lawley and Maxwell (1971), Factor analysis as a statistical method. Butterworths.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = Factor(3, 1)
    >>> covariance.update(np.array([[2.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 2.0]]))
    >>> covariance.loadings.round(3), covariance.uniquenesses.round(3), covariance.n_parameters
    (array([[1.],
           [1.],
           [1.]]), array([1., 2., 1.]), 6)
    """

    def __init__(self, n_genes: int, n_factors: int = 1) -> None:
        super().__init__(n_genes)
        most = max(n_genes - 1, 1)
        if not 1 <= n_factors <= most:
            msg = f"n_factors={n_factors!r}, but of {n_genes:,} genes there are 1 to {most:,}. With more, take covariance='full'."
            raise ValueError(msg)
        self._set(np.zeros((n_genes, n_factors)), np.ones(n_genes))

    def _set(self, loadings: Matrix, uniquenesses: Matrix) -> None:
        """Take C and ψ."""
        self._loadings, self.uniquenesses = loadings, uniquenesses
        factor = np.asarray(np.linalg.qr(np.vstack([loadings.T, np.diag(np.sqrt(uniquenesses))]), mode="r")).T
        self._cholesky = factor * np.where(np.diagonal(factor) < 0, -1.0, 1.0)

    @property
    def n_factors(self) -> int:
        """Factors q."""
        return self._loadings.shape[1]

    @property
    def n_parameters(self) -> int:
        """Loadings up to a rotation, p q − q (q − 1) / 2, and p variances; never more than any covariance has."""
        p, q = self.n_genes, self.n_factors
        return min(p * q - q * (q - 1) // 2 + p, p * (p + 1) // 2)

    @property
    def loadings(self) -> Matrix:
        """C (p, q), with orthogonal columns, the longest first, the largest number of each positive."""
        left, sizes, _ = np.linalg.svd(self._loadings, full_matrices=False)
        leading = left[np.argmax(np.abs(left), axis=0), np.arange(left.shape[1])]
        return np.asarray(left * sizes * np.where(leading < 0, -1.0, 1.0))

    def update(self, second_moment: Matrix) -> None:
        """Maximum likelihood of factor analysis, from where Σ is, or from the partial variances of S, whichever leads higher."""
        moment = self._checked(second_moment)
        positive(np.diagonal(moment))
        found = []
        for start in (self.uniquenesses, None):
            self._set(*maximum_likelihood(moment, self.n_factors, start))
            found.append((self.log_likelihood(moment), self._loadings, self.uniquenesses))
        first, second = found
        _, loadings, uniquenesses = second if second[0] > first[0] + 1e-9 * abs(first[0]) else first
        self._set(loadings, uniquenesses)

    @property
    def coordinates(self) -> Matrix:
        """C, and standard deviations √ψ: R = [C, diag √ψ]."""
        return np.concatenate([self._loadings.ravel(), self._deviations])

    @property
    def _deviations(self) -> Matrix:
        return np.sqrt(np.maximum(self.uniquenesses - LEAST_VARIANCE, 0))

    def move(self, coordinates: Matrix) -> None:
        """Take any C, and standard deviations of any sign."""
        own = coordinates[self._loadings.size :]
        loadings = coordinates[: self._loadings.size].reshape(self._loadings.shape)
        self._set(loadings.copy(), np.square(own) + LEAST_VARIANCE)

    def slope(self, gradient: Matrix) -> Matrix:
        """G C, and standard deviations times the diagonal of G."""
        own = self._deviations * np.diagonal(gradient)
        return np.concatenate([(gradient @ self._loadings).ravel(), own])

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """P times the slope by C, and the diagonal of P times that by √ψ."""
        size = self._loadings.size
        shared = spread @ slope[:size].reshape(self._loadings.shape)
        return np.concatenate([shared.ravel(), np.diagonal(spread) * slope[size:]])

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return self._loadings @ self._loadings.T + np.diag(self.uniquenesses)

    @property
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""
        return cho_solve((self._cholesky, True), np.eye(self.n_genes))

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        return float(2 * np.log(np.diagonal(self._cholesky)).sum())

    @property
    def parts(self) -> Matrix:
        """C, and ψ as the last column."""
        return np.column_stack([self.loadings, self.uniquenesses])

    @property
    def state(self) -> dict[str, Matrix]:
        """C and ψ."""
        return {"loadings": self._loadings, "uniquenesses": self.uniquenesses}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over C and ψ."""
        self._set(np.asarray(state["loadings"], np.float64), np.asarray(state["uniquenesses"], np.float64))
