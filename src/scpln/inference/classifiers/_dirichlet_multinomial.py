"""Dirichlet-multinomial components of counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from scipy.special import gammaln

from scpln.core import digamma_rising, log_rising

from ._components import Components
from ._special import trigamma

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Newton steps of one step of maximisation, halvings of one of them, and the largest change of log α.
_STEPS, _HALVINGS, _LARGEST = 2, 30, 3.0
#: Share of the objective by which it may fall by rounding.
_ROUNDING = 1e-13
#: Largest share of the curvature along α that the rank-one part may take away.
_MOST_TAKEN = 0.95
#: Rows of less responsibility add nothing that could be seen.
_NOTHING = 1e-14
#: Concentrations that a start may have.
_RANGE = (1e-3, 1e4)


@dataclass(frozen=True)
class DirichletMultinomialComponents(Components):
    r"""Counts n of proportions from Dirichlet(α_k), with log α_kj ~ N(0, s²).

    .. math::

        \log f_k(n) = \log\Gamma(A_k) - \log\Gamma(N + A_k) + \sum_j [\log\Gamma(n_j + α_{kj}) - \log\Gamma(α_{kj})]
        + \log\Gamma(N + 1) - \sum_j \log\Gamma(n_j + 1)

    Zeros are counts like others. As A_k grows, it becomes a multinomial.

    Attributes
    ----------
    concentrations
        α (K × p).
    scale
        s; infinite for no prior.
    """

    name: ClassVar[str] = "dirichlet_multinomial"
    concentrations: Floats
    scale: float = 3.0

    @classmethod
    def start(cls, counts: Floats, responsibilities: Floats, *, scale: float = 3.0) -> Self:
        """Proportions of the components' totals, and A by the variance of proportions; then Newton steps."""
        totals = counts.sum(1, keepdims=True)
        shares = counts / totals
        found = np.empty((responsibilities.shape[1], counts.shape[1]))
        for k, weights in enumerate(responsibilities.T):
            mean = (weights @ counts + 0.5) / (weights @ counts + 0.5).sum()
            variance = weights @ (shares - mean) ** 2 / weights.sum()
            binomial = mean * (1 - mean)
            noise = binomial * (weights @ (1 / totals[:, 0]) / weights.sum())
            total = binomial.sum() / max((variance - noise).sum(), 1e-9 * binomial.sum()) - 1
            found[k] = np.clip(mean * np.clip(total, 1.0, _RANGE[1]), *_RANGE)
        return cls(found, scale).maximized(counts, responsibilities)

    def maximized(self, statistics: Floats, responsibilities: Floats) -> Self:
        """Newton steps of every component."""
        rows = [
            _ascend(alpha, statistics, weights, self.scale)
            for alpha, weights in zip(self.concentrations, responsibilities.T, strict=True)
        ]
        return replace(self, concentrations=np.array(rows))

    def log_prob(self, statistics: Floats) -> Floats:
        """As above."""
        totals = statistics.sum(1)
        constant = gammaln(totals + 1) - gammaln(statistics + 1).sum(1)
        return constant[:, None] + np.column_stack(
            [_kernel(alpha, statistics, totals) for alpha in self.concentrations]
        )

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
        """Multinomial draws of Dirichlet proportions."""
        draws = np.maximum(random.standard_gamma(self.concentrations[component]), np.finfo(float).tiny)
        return random.multinomial(totals, draws / draws.sum(1, keepdims=True)).astype(float)

    @property
    def arrays(self) -> dict[str, Floats]:
        """``concentrations``."""
        return {"concentrations": self.concentrations}


def _kernel(alpha: Floats, counts: Floats, totals: Floats) -> Floats:
    """Log f without what does not depend on α."""
    return np.asarray(log_rising(alpha, counts).sum(1) - log_rising(alpha.sum(), totals))


def _ascend(alpha: Floats, counts: Floats, weights: Floats, scale: float) -> Floats:
    r"""Newton steps on θ = log α of Σ_i τ_i log f(n_i) − ½ ‖θ / s‖².

    The Hessian is −diag(d) + c α αᵀ, where c = Σ_i τ_i [ψ′(A) − ψ′(N_i + A)] is positive: it is generalised to one that is negative definite, by
    leaving out of d what is negative and by as much of c as keeps it so. By Sherman and Morrison a step takes O(p).
    """
    active = weights > _NOTHING
    counts, weights = counts[active], weights[active]
    totals = counts.sum(1)

    def objective(theta: Floats) -> float:
        return float(weights @ _kernel(np.exp(theta), counts, totals) - 0.5 * ((theta / scale) ** 2).sum())

    theta = np.log(alpha)
    value = objective(theta)
    for _ in range(_STEPS):
        alpha = np.exp(theta)
        total = alpha.sum()
        slope = alpha * (weights @ digamma_rising(alpha, counts) - weights @ digamma_rising(total, totals))
        of_parts, of_total, of_rows = np.split(
            trigamma(np.r_[alpha, total, totals + total]), [len(alpha), len(alpha) + 1]
        )
        own = alpha**2 * (weights.sum() * of_parts - weights @ trigamma(counts + alpha))
        diagonal = np.maximum(own, 0) - np.minimum(slope, 0) + scale**-2 + 1e-12
        slope = slope - theta / scale**2
        rank_one = float(weights @ (of_total - of_rows))
        along = float((alpha**2 / diagonal).sum())
        rank_one = min(rank_one, _MOST_TAKEN / along)
        change = slope / diagonal
        change = change + alpha / diagonal * (rank_one * (alpha @ change) / (1 - rank_one * along))
        change = change * min(1.0, _LARGEST / max(float(np.abs(change).max()), 1e-300))
        for _ in range(_HALVINGS):
            if (reached := objective(theta + change)) >= value - _ROUNDING * abs(value):
                theta, value = theta + change, reached
                break
            change = change / 2
        else:
            break
    return np.exp(theta)
