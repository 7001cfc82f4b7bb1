"""A covariance with known eigenvectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import LEAST_VARIANCE, Covariance

if TYPE_CHECKING:
    from ._base import Matrix

#: Largest deviation of VᵀV from the identity.
ORTHONORMAL = 1e-6


class Basis(Covariance):
    r"""Variation along known directions, :math:`\Sigma = V \Lambda V^T`, with orthonormal V (p, q) and q free variances.

    V comes from other data, or another institution; only Λ is estimated, which has no more numbers than there are directions. The best has
    :math:`\lambda_k = v_k^T S v_k`. A variance of 1e-10 in all directions keeps Σ positive definite where q is below p.

    Parameters
    ----------
    n_genes
        Number of genes p.
    basis
        V (p, q), 1 ≤ q ≤ p; the identity if None.

    Raises
    ------
    ValueError
        V is not finite, has another shape, or its columns are not orthonormal.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = Basis(2, np.array([[0.6], [0.8]]))
    >>> covariance.update(np.array([[2.0, 1.0], [1.0, 4.0]]))
    >>> covariance.variances.round(2), covariance.n_parameters
    (array([4.24]), 1)
    """

    def __init__(self, n_genes: int, basis: Matrix | None = None) -> None:
        super().__init__(n_genes)
        self._set_basis(np.eye(n_genes) if basis is None else basis)
        self.variances = np.full(self._basis.shape[1], 1 - LEAST_VARIANCE)

    def _set_basis(self, basis: Matrix) -> None:
        self._basis = _checked_basis(basis, self.n_genes)
        self._others = np.linalg.qr(self._basis, mode="complete")[0][:, self._basis.shape[1] :]

    @property
    def n_parameters(self) -> int:
        """The variances λ."""
        return len(self.variances)

    def update(self, second_moment: Matrix) -> None:
        """Take what S has along the directions."""
        along = np.einsum("gk,gh,hk->k", self._basis, self._checked(second_moment), self._basis)
        self.variances = np.maximum(along - LEAST_VARIANCE, 0)

    @property
    def coordinates(self) -> Matrix:
        """Standard deviations √λ: R = V diag(θ)."""
        return np.sqrt(self.variances)

    def move(self, coordinates: Matrix) -> None:
        """Take standard deviations, of any sign."""
        self.variances = np.square(coordinates)

    def slope(self, gradient: Matrix) -> Matrix:
        """Standard deviations times vᵀGv."""
        return self.coordinates * np.einsum("gk,gh,hk->k", self._basis, gradient, self._basis)

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """Slopes over vᵀP⁻¹v."""
        return slope / np.einsum("gk,gk->k", self._basis, np.linalg.solve(spread, self._basis))

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return (self._basis * self.variances) @ self._basis.T + LEAST_VARIANCE * np.eye(self.n_genes)

    @property
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""
        along = (self._basis / (self.variances + LEAST_VARIANCE)) @ self._basis.T
        return along + self._others @ self._others.T / LEAST_VARIANCE

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        others = self._others.shape[1] * np.log(LEAST_VARIANCE)
        return float(np.log(self.variances + LEAST_VARIANCE).sum() + others)

    @property
    def estimates(self) -> dict[str, Matrix]:
        """λ."""
        return {"eigenvalues": self.variances}

    @property
    def state(self) -> dict[str, Matrix]:
        """V and λ."""
        return {"basis": self._basis, "variances": self.variances}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over V and λ."""
        self._set_basis(state["basis"])
        self.variances = np.asarray(state["variances"], np.float64)


def _checked_basis(basis: Matrix, n_genes: int) -> Matrix:
    """V, after checking that it may be one."""
    v = np.asarray(basis, np.float64)
    if v.ndim != 2 or v.shape[0] != n_genes or not 1 <= v.shape[1] <= n_genes:
        msg = (
            f"basis has shape {v.shape}, but it must be genes × directions, ({n_genes}, q) with q from 1 to {n_genes}."
        )
        raise ValueError(msg)
    if not np.isfinite(v).all():
        msg = "basis has values that are not finite."
        raise ValueError(msg)
    off = float(np.abs(v.T @ v - np.eye(v.shape[1])).max())
    if off > ORTHONORMAL:
        kind = "has linearly dependent columns" if np.linalg.matrix_rank(v) < v.shape[1] else "is not orthonormal"
        msg = f"basis {kind}: VᵀV differs from the identity by {off:.2g}. Take np.linalg.qr(basis)[0]."
        raise ValueError(msg)
    return v
