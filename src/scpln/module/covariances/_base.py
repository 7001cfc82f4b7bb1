"""What every covariance can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

#: Least variance of a log-rate in any direction that `move` leaves: it changes a count's probability by less than 1e-10 of its rate.
LEAST_VARIANCE = 1e-10
#: How far from symmetric and semidefinite a given matrix may be, as a share of its largest number: rounding in float32.
ROUNDING = 1e-6


class Covariance(ABC):
    r"""Covariance Σ (p, p) of residuals :math:`r_i \sim N(0, \Sigma)`, positive definite.

    It starts as the identity. `update` gives the Σ of its family under which residuals with a given mean second moment
    :math:`S = \frac1n \sum_i E[r_i r_i^T]` are most probable: the closed step of any EM algorithm or variational
    alternation in gene space, which maximises

    .. math:: -\tfrac12 [\log\det\Sigma + \text{tr}(\Sigma^{-1} S)].

    Such steps take for ever where Σ becomes singular, as estimates of many genes in few cells do. There are therefore
    `coordinates` θ, without bounds, in which a square root of Σ is linear, :math:`\Sigma = R(\theta) R(\theta)^T`: any function that is smooth in
    Σ is smooth in θ up to the boundary, where its derivative is zero.

    Parameters
    ----------
    n_genes
        Number of genes p.
    """

    #: Whether genes are independent, so that the best posteriors, of any covariance, have none between genes either.
    is_diagonal: ClassVar[bool] = False

    def __init__(self, n_genes: int) -> None:
        if n_genes < 1:
            msg = f"n_genes={n_genes!r}, but a covariance needs one gene or more."
            raise ValueError(msg)
        self.n_genes = n_genes

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Free numbers of Σ, as criteria of model choice count them."""

    @abstractmethod
    def update(self, second_moment: Matrix) -> None:
        """Maximise over Σ, given the mean second moment S (p, p) of residuals.

        Raises
        ------
        ValueError
            S is not a finite symmetric matrix of this size, or no positive definite Σ of the family fits it.
        """

    @property
    @abstractmethod
    def coordinates(self) -> Matrix:
        """θ (k,), k numbers or more than the free ones: those of a square root of Σ that is linear in them."""

    @abstractmethod
    def move(self, coordinates: Matrix) -> None:
        """Take the Σ of the given coordinates, with variances of `LEAST_VARIANCE` or more in all directions."""

    @abstractmethod
    def slope(self, gradient: Matrix) -> Matrix:
        """Derivative of ½ tr(GΣ) by the coordinates, (k,), for a symmetric G (p, p)."""

    @abstractmethod
    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """Slope by the coordinates (k,) times the inverse curvature that −tr(P⁻¹ R Rᵀ) has, for P = `spread` (p, p)."""

    @property
    @abstractmethod
    def dense(self) -> Matrix:
        """Σ, (p, p)."""

    @property
    @abstractmethod
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""

    @property
    @abstractmethod
    def log_det(self) -> float:
        """Log-determinant of Σ."""

    @property
    def estimates(self) -> dict[str, Matrix]:
        """Numbers of their own meaning that Σ is made of, by name; none unless the family has some."""
        return {}

    @property
    def parts(self) -> Matrix:
        """Numbers of every gene that Σ is made of and that are results themselves, (p, k); none, (p, 0), unless the family has some."""
        return np.empty((self.n_genes, 0))

    @property
    @abstractmethod
    def state(self) -> dict[str, Matrix]:
        """Arrays from which `restore` makes the same Σ."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take over a saved `state`."""

    def log_likelihood(self, second_moment: Matrix) -> float:
        r"""Mean log-density of residuals, :math:`-\frac12 [p \log 2\pi + \log\det\Sigma + \text{tr}(\Sigma^{-1} S)]`, in nats."""
        trace = float((self.precision * second_moment).sum())
        return -0.5 * (self.n_genes * float(np.log(2 * np.pi)) + self.log_det + trace)

    def _checked(self, second_moment: Matrix, name: str = "second_moment") -> Matrix:
        """S, or another matrix, after checking that it may be one."""
        moment = np.asarray(second_moment, dtype=np.float64)
        if moment.shape != (self.n_genes, self.n_genes):
            msg = f"{name} has shape {moment.shape}, but it must be {(self.n_genes, self.n_genes)}, genes × genes."
            raise ValueError(msg)
        if not np.isfinite(moment).all() or not np.allclose(moment, moment.T, rtol=1e-8, atol=1e-12):
            msg = f"{name} must be finite and symmetric, genes × genes."
            raise ValueError(msg)
        return moment

    def _semidefinite(self, given: Matrix, name: str) -> tuple[Matrix, Matrix, Matrix]:
        """A matrix that is given, without what rounding made of it, with its eigenvalues and eigenvectors, after checking that it may be one."""
        matrix = np.asarray(given, dtype=np.float64)
        scale = np.abs(matrix).max(initial=0.0)
        if (
            matrix.ndim == 2
            and matrix.shape[0] == matrix.shape[1]
            and np.abs(matrix - matrix.T).max() <= ROUNDING * scale
        ):
            matrix = 0.5 * (matrix + matrix.T)
        values, vectors = np.linalg.eigh(self._checked(matrix, name))
        if values[0] < -ROUNDING * scale:
            msg = f"{name} has an eigenvalue of {values[0]:.3g}, but must be positive semidefinite."
            raise ValueError(msg)
        return matrix, np.maximum(values, 0), vectors

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_genes} genes, {self.n_parameters} parameters)"


def positive(variances: Matrix) -> Matrix:
    """Variances, after checking that there are only positive ones."""
    if not (variances > 0).all():
        genes = np.flatnonzero(~(variances > 0))
        msg = f"second_moment has no variance for genes {genes[:5].tolist()}: leave them out, or add to their variance."
        raise ValueError(msg)
    return variances
