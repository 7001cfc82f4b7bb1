"""Dirichlet components of proportions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from scipy.special import digamma, gammaln

from ._components import Components
from ._special import inverse_digamma, trigamma

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Newton steps of one step of maximisation, and halvings of one of them.
_STEPS, _HALVINGS = 10, 40
#: Share of the objective by which it may fall by rounding.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class DirichletComponents(Components):
    """x | k ~ Dirichlet(α_k), with log α_kj ~ N(0, s²), so that a component of one row does not become a point.

    Attributes
    ----------
    concentrations
        α (K × p).
    scale
        s; infinite for no prior.
    """

    name: ClassVar[str] = "dirichlet"
    concentrations: Floats
    scale: float = 3.0

    @staticmethod
    def statistics(x: Floats) -> Floats:
        """Logarithms of proportions."""
        return np.log(x)

    @classmethod
    def start(cls, log_x: Floats, responsibilities: Floats, *, scale: float = 3.0) -> Self:
        """By moments, and then Newton steps."""
        x = np.exp(log_x)
        sizes = responsibilities.sum(0)[:, None]
        mean = responsibilities.T @ x / sizes
        square = responsibilities.T @ x**2 / sizes
        total = np.median((mean - square) / np.maximum(square - mean**2, 1e-12), axis=1)
        start = cls(np.maximum(mean, 1e-6) * np.clip(total, 1.0, 1e6)[:, None], scale)
        return start.maximized(log_x, responsibilities)

    def maximized(self, statistics: Floats, responsibilities: Floats) -> Self:
        """Newton steps of every component."""
        sizes = responsibilities.sum(0)
        means = responsibilities.T @ statistics / sizes[:, None]
        rows = [
            dirichlet_newton(alpha, mean, size, scale=self.scale, max_steps=_STEPS)[0]
            for alpha, mean, size in zip(self.concentrations, means, sizes, strict=True)
        ]
        return replace(self, concentrations=np.array(rows))

    def log_prob(self, statistics: Floats) -> Floats:
        """Log Γ(A_k) − Σ_j log Γ(α_kj) + Σ_j (α_kj − 1) log x_ij, with A_k = Σ_j α_kj."""
        alpha = self.concentrations
        return gammaln(alpha.sum(1)) - gammaln(alpha).sum(1) + statistics @ (alpha - 1).T

    @property
    def log_prior(self) -> float:
        """−½ Σ (log α / s)²."""
        return float(-0.5 * ((np.log(self.concentrations) / self.scale) ** 2).sum())

    @property
    def n_parameters(self) -> int:
        """One for each component and part."""
        return self.concentrations.size

    def subset(self, kept: NDArray[np.intp]) -> Self:
        """Some of the components."""
        return replace(self, concentrations=self.concentrations[kept])

    def sample(self, component: NDArray[np.intp], random: np.random.Generator, totals: NDArray[np.int64]) -> Floats:
        """Gamma draws, divided by their sum; never exactly 0, of which the density knows nothing."""
        draws = np.maximum(random.standard_gamma(self.concentrations[component]), np.finfo(float).tiny)
        return draws / draws.sum(1, keepdims=True)

    @property
    def arrays(self) -> dict[str, Floats]:
        """``concentrations``."""
        return {"concentrations": self.concentrations}


def dirichlet_newton(
    alpha: Floats,
    mean_log: Floats,
    size: float = 1.0,
    *,
    scale: float = np.inf,
    max_steps: int = 100,
    tol: float = 1e-10,
) -> tuple[Floats, int]:
    r"""Maximise N [log Γ(A) − Σ_j log Γ(α_j) + Σ_j (α_j − 1) g_j] − ½ Σ_j (log α_j / s)² by Newton's method.

    The Hessian is diag(q) + z 1 1ᵀ with q_j = −N ψ′(α_j) and z = N ψ′(A), and so a step takes O(p):
    Δ_j = −(G_j − b) / q_j, b = Σ_j (G_j / q_j) / (1/z + Σ_j 1/q_j) (Minka, Estimating a Dirichlet distribution, 2000). Of the prior, q has the
    part that is negative. A step is halved until all α are positive and the objective does not fall.

    Parameters
    ----------
    alpha
        Start (p).
    mean_log
        g, weighted means of log x (p).
    size
        N, the sum of the weights.
    scale
        s; infinite for maximum likelihood.
    max_steps
        Most steps.
    tol
        It ends when no α changes by more than this share of itself.

    Returns
    -------
    α, and the number of steps.

    Examples
    --------
    >>> x = np.random.default_rng(0).dirichlet([2.0, 3.0, 5.0], size=20_000)
    >>> dirichlet_newton(np.ones(3), np.log(x).mean(0))[0].round(1).tolist()
    [2.0, 3.0, 5.0]
    """

    def objective(alpha: Floats) -> float:
        fit = gammaln(alpha.sum()) - gammaln(alpha).sum() + (alpha - 1) @ mean_log
        return float(size * fit - 0.5 * ((np.log(alpha) / scale) ** 2).sum())

    value = objective(alpha)
    for step in range(1, max_steps + 1):
        log_alpha = np.log(alpha)
        slope = size * (digamma(alpha.sum()) - digamma(alpha) + mean_log) - log_alpha / (alpha * scale**2)
        curvature = -size * trigamma(alpha) + np.minimum((log_alpha - 1) / (alpha * scale) ** 2, 0)
        rank_one = size * float(trigamma(np.array([alpha.sum()]))[0])
        shift = (slope / curvature).sum() / (1 / rank_one + (1 / curvature).sum())
        change = -(slope - shift) / curvature
        for _ in range(_HALVINGS):
            new = alpha + change
            if (new > 0).all() and (reached := objective(new)) >= value - _ROUNDING * (abs(value) + size):
                break
            change = change / 2
        else:
            return alpha, step
        alpha, value = new, reached
        if (np.abs(change) <= tol * alpha).all():
            break
    return alpha, step


def dirichlet_fixed_point(
    alpha: Floats, mean_log: Floats, *, max_steps: int = 1000, tol: float = 1e-10
) -> tuple[Floats, int]:
    """The same maximum likelihood by α_j ← ψ⁻¹(ψ(A) + g_j), which takes hundreds of steps where Newton's method takes ten.

    Parameters
    ----------
    alpha, mean_log, max_steps, tol
        As of `dirichlet_newton`.

    Returns
    -------
    α, and the number of steps.

    Examples
    --------
    >>> mean_log = digamma(np.array([2.0, 3.0])) - digamma(5.0)
    >>> dirichlet_fixed_point(np.ones(2), mean_log)[0].round(6).tolist()
    [2.0, 3.0]
    """
    for step in range(1, max_steps + 1):  # noqa: B007
        new = inverse_digamma(digamma(alpha.sum()) + mean_log)
        done = (np.abs(new - alpha) <= tol * alpha).all()
        alpha = new
        if done:
            break
    return alpha, step
