"""A covariance whose inverse is sparse: a network of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky

from ._base import LEAST_VARIANCE, Covariance, positive
from ._graphical_lasso import graphical_lasso

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._base import Matrix

#: Most coordinates whose curvature is taken as a matrix, and what is added to its diagonal, relative to it.
MOST_COORDINATES, ROUNDING = 1000, 1e-8


class SparsePrecision(Covariance):
    r"""Σ with a sparse inverse Ω, whose entries off the diagonal are zero but for the edges of a network.

    Ω is of a graphical lasso [1]_: it is held with the signs of its edges, and what would change its sign becomes zero. In coordinates
    :math:`\theta_j = \Omega_{jj}^{-1/2}`, the standard deviations of genes given all others, and :math:`\Omega_{jk}` of the edges,

    .. math:: \Sigma = T (I + T O T)^{-1} T, \quad T = \text{diag}(\theta),

    with O the part of Ω off the diagonal, a gene that does not vary, θ = 0, is no boundary.

    Parameters
    ----------
    n_genes
        Number of genes p.
    penalty
        α of the graphical lasso, by which `update` maximises :math:`\log\det\Omega - \text{tr}(S\Omega) - \alpha \sum_{j \ne k} |\Omega_{jk}|`.

    References
    ----------
    .. [1] Friedman, Hastie and Tibshirani (2008), Sparse inverse covariance estimation with the graphical lasso. Biostatistics 9, 432-441.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = SparsePrecision(3, penalty=0.2)
    >>> covariance.update(np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.1], [0.1, 0.1, 1.0]]))
    >>> covariance.n_edges, covariance.n_parameters, covariance.dense.round(2)
    (1, 4, array([[1. , 0.3, 0. ],
           [0.3, 1. , 0. ],
           [0. , 0. , 1. ]]))
    """

    def __init__(self, n_genes: int, penalty: float = 0.0) -> None:
        super().__init__(n_genes)
        self.penalty = penalty
        self._take(np.eye(n_genes))

    def _take(self, precision: Matrix) -> None:
        """Take Ω, with the edges that it has and their signs."""
        self._edges = np.nonzero(np.triu(precision, 1))
        self.signs: Matrix = np.sign(precision[self._edges])
        self._set(np.diagonal(precision) ** -0.5, precision[self._edges])

    def _set(self, deviations: Matrix, values: Matrix) -> None:
        """Take θ, and Ω of the edges."""
        others = np.zeros((self.n_genes, self.n_genes))
        others[self._edges] = values
        others += others.T
        scaled = deviations[:, None] * others * deviations + np.eye(self.n_genes)
        factor = cholesky(scaled, lower=True)
        inverse = cho_solve((factor, True), np.eye(self.n_genes))
        self._deviations, self._others = deviations, others
        self._dense = deviations[:, None] * (0.5 * (inverse + inverse.T)) * deviations
        self._log_det = float(2 * (np.log(deviations).sum() - np.log(np.diagonal(factor)).sum()))

    @property
    def edges(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pairs of genes whose entry of Ω is not zero, the lower position first."""
        kept = self._others[self._edges] != 0
        return self._edges[0][kept], self._edges[1][kept]

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.edges[0])

    @property
    def n_parameters(self) -> int:
        """The diagonal and the edges."""
        return self.n_genes + self.n_edges

    @property
    def size(self) -> float:
        r"""What is penalised, :math:`\sum_{j \ne k} |\Omega_{jk}|`."""
        return float(np.abs(self._others).sum())

    def update(self, second_moment: Matrix) -> None:
        """Graphical lasso of S, which decides anew which edges there are."""
        moment = self._checked(second_moment)
        positive(np.diagonal(moment))
        self._take(graphical_lasso(moment, self.penalty, self.precision))

    @property
    def coordinates(self) -> Matrix:
        """θ, and Ω of the edges."""
        return np.concatenate([self._deviations, self._others[self._edges]])

    def move(self, coordinates: Matrix) -> None:
        """Take θ of any sign, and Ω of the edges, which becomes zero where its sign would change.

        Raises
        ------
        numpy.linalg.LinAlgError
            Ω is not positive definite there.
        """
        values = coordinates[self.n_genes :]
        kept = values if self.penalty == 0 else np.where(values * self.signs > 0, values, 0.0)
        self._set(np.sqrt(np.square(coordinates[: self.n_genes]) + LEAST_VARIANCE), kept)

    @property
    def _free(self) -> NDArray[np.bool_]:
        """Which coordinates may move: edges that became zero stay that, until the next `update`."""
        edges = self._others[self._edges] != 0
        return np.concatenate([np.ones(self.n_genes, bool), edges | (self.penalty == 0)])

    def slope(self, gradient: Matrix) -> Matrix:
        """−ΣGΣ of the edges, and (ΣGΣ)ⱼⱼ / θ³ of θ."""
        around = self._dense @ gradient @ self._dense
        own = np.diagonal(around) / self._deviations**3
        return np.where(self._free, np.concatenate([own, -around[self._edges]]), 0.0)

    @property
    def size_slope(self) -> Matrix:
        """Derivative of `size` by the coordinates."""
        slope = np.concatenate([np.zeros(self.n_genes), 2 * self.signs])
        return np.where(self._free, slope, 0.0)

    def curvature(self, spread: Matrix) -> Matrix:
        r"""Fisher information of the coordinates that may move, of Gaussian data with covariance P = `spread`, over 2 n.

        It is :math:`\frac14 \text{tr}(H \Delta H \Delta')` for changes Δ of Ω, with :math:`H = \Sigma P^{-1} \Sigma`. By θ it vanishes at θ = 0, and what
        it lacks to the curvature there is added, as for other families.
        """
        inner = self._dense @ np.linalg.solve(spread, self._dense)
        inner = 0.5 * (inner + inner.T)
        p, kept = self.n_genes, self._free[self.n_genes :]
        first, second = (genes[kept] for genes in self._edges)
        cube = self._deviations**3
        matrix = np.empty((p + len(first), p + len(first)))
        matrix[:p, :p] = np.square(inner / np.sqrt(np.outer(cube, cube)))
        matrix[:p, p:] = -inner[:, first] * inner[:, second] / cube[:, None]
        matrix[p:, :p] = matrix[:p, p:].T
        matrix[p:, p:] = inner[np.ix_(first, first)] * inner[np.ix_(second, second)]
        matrix[p:, p:] += inner[np.ix_(first, second)] * inner[np.ix_(second, first)]
        matrix[p:, p:] *= 0.5
        missing = np.maximum(np.diagonal(self._dense) - np.diagonal(inner), 0)
        matrix[np.arange(p), np.arange(p)] += np.diagonal(inner) * missing / cube**2
        return matrix

    def solver(self, spread: Matrix) -> Callable[[Matrix], Matrix]:
        """`precondition` under a given spread, for any slopes: the curvature, or its diagonal where there are many coordinates, is factored once."""
        free, curvature = self._free.copy(), self.curvature(spread)
        scale = np.diagonal(curvature) ** -0.5
        if len(scale) > MOST_COORDINATES:
            return lambda slope: _spread(scale**2 * slope[free], free)
        curvature *= scale[:, None] * scale
        factor = cho_factor(curvature + ROUNDING * np.eye(len(scale)))
        return lambda slope: _spread(scale * cho_solve(factor, scale * slope[free]), free)

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """Slopes times the inverse `curvature`."""
        return self.solver(spread)(slope)

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return self._dense

    @property
    def precision(self) -> Matrix:
        """Ω, (p, p): zeros are zeros."""
        return self._others + np.diag(self._deviations**-2)

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        return self._log_det

    @property
    def parts(self) -> Matrix:
        """Ω."""
        return self.precision

    @property
    def state(self) -> dict[str, Matrix]:
        """Ω."""
        return {"precision": self.precision}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over Ω."""
        self._take(np.asarray(state["precision"], np.float64))


def _spread(values: Matrix, free: NDArray[np.bool_]) -> Matrix:
    """Values of what is free, and zeros."""
    all_of_them = np.zeros(len(free))
    all_of_them[free] = values
    return all_of_them
