"""A known covariance, mixed with independent genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize_scalar

from ._base import LEAST_VARIANCE, Covariance, positive

if TYPE_CHECKING:
    from ._base import Matrix

#: Shares at which the search for the best one begins.
SHARES = np.linspace(0, 1, 41)


class Kernel(Covariance):
    r"""Genes related as is known beforehand, :math:`\Sigma = \sigma^2 [\rho K + (1 - \rho) I]` with 0 ≤ ρ ≤ 1.

    K says how alike genes are (of species, by descent; of positions, by distance), and ρ which share of the variance follows it, as in
    phylogenetic models of traits [1]_. Given ρ the best variance is :math:`\sigma^2 = \frac1p \sum_k u_k^T S u_k / (\rho \lambda_k + 1 - \rho)`
    with eigenvalues λ and eigenvectors u of K, and ρ is searched for.

    Parameters
    ----------
    n_genes
        Number of genes p.
    kernel
        K (p, p), symmetric and positive semidefinite, with a mean of 1 on its diagonal if σ² is to be the mean variance; the identity if None.

    Raises
    ------
    ValueError
        K is not a finite symmetric matrix of this size, or has a negative eigenvalue.

    References
    ----------
    .. [1] Lynch (1991), Methods for the analysis of comparative data in evolutionary biology. Evolution 45, 1065-1080.

    Examples
    --------
    >>> import numpy as np
    >>> kernel = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> covariance = Kernel(2, kernel)
    >>> covariance.update(2 * (0.5 * kernel + 0.5 * np.eye(2)))
    >>> round(covariance.variance, 3), round(covariance.share, 3), covariance.n_parameters
    (2.0, 0.5, 2)
    """

    def __init__(self, n_genes: int, kernel: Matrix | None = None) -> None:
        super().__init__(n_genes)
        self._set_kernel(np.eye(n_genes) if kernel is None else kernel)
        self._related, self._independent = 0.0, 1.0

    def _set_kernel(self, kernel: Matrix) -> None:
        self._kernel, self._values, self._vectors = self._semidefinite(kernel, "kernel")

    @property
    def n_parameters(self) -> int:
        """σ² and ρ."""
        return 2

    @property
    def variance(self) -> float:
        """σ²."""
        return self._related + self._independent

    @property
    def share(self) -> float:
        """ρ, the share of the variance that follows K."""
        return self._related / self.variance

    @property
    def _spectrum(self) -> Matrix:
        return self._related * self._values + self._independent

    def update(self, second_moment: Matrix) -> None:
        """Maximise over σ² in closed form, and over ρ by search."""
        moment = self._checked(second_moment)
        along = np.einsum("gk,gh,hk->k", self._vectors, moment, self._vectors)
        positive(along.mean(keepdims=True))

        def loss(share: float) -> float:
            spectrum = share * self._values + 1 - share
            with np.errstate(divide="ignore", invalid="ignore"):
                value = self.n_genes * np.log((along / spectrum).mean()) + np.log(spectrum).sum()
            return float(value) if np.isfinite(value) else np.inf

        losses = [loss(share) for share in SHARES]
        best = int(np.argmin(losses))
        ends = SHARES[max(best - 1, 0)], SHARES[min(best + 1, len(SHARES) - 1)]
        found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-10})
        share = float(found.x) if found.fun < losses[best] else float(SHARES[best])
        variance = float((along / (share * self._values + 1 - share)).mean())
        self._related, self._independent = share * variance, (1 - share) * variance

    @property
    def coordinates(self) -> Matrix:
        """Standard deviations of the part that follows K and of the independent one: R = [θ₁ K^½, θ₂ I]."""
        return np.sqrt(np.array([self._related, self._independent]))

    def move(self, coordinates: Matrix) -> None:
        """Take standard deviations, of any sign."""
        related, independent = np.square(coordinates)
        self._related, self._independent = float(related), float(independent) + LEAST_VARIANCE

    def slope(self, gradient: Matrix) -> Matrix:
        """Standard deviations times traces of GK and G."""
        return self.coordinates * np.array([(gradient * self._kernel).sum(), np.trace(gradient)])

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """Slopes over traces of P⁻¹K and P⁻¹, as if P were diagonal."""
        weight = 1 / np.diagonal(spread)
        return slope / np.array([max(float(weight @ np.diagonal(self._kernel)), 1e-300), weight.sum()])

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return self._related * self._kernel + self._independent * np.eye(self.n_genes)

    @property
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""
        return (self._vectors / self._spectrum) @ self._vectors.T

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        return float(np.log(self._spectrum).sum())

    @property
    def estimates(self) -> dict[str, Matrix]:
        """σ² and ρ."""
        return {"variance": np.array(self.variance), "share": np.array(self.share)}

    @property
    def state(self) -> dict[str, Matrix]:
        """K, and the variances of both parts."""
        return {"kernel": self._kernel, "variances": np.array([self._related, self._independent])}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over K and variances."""
        self._set_kernel(state["kernel"])
        self._related, self._independent = (float(variance) for variance in state["variances"])
