"""Expectation maximisation of a Gaussian mixture of which cells are known up to their posteriors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._components import Components, Expectation, Moments, expect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._sites import Sites

#: Pairs of a cell and a component that are less probable than this are left out for so many iterations.
_NEGLIGIBLE, _REFRESH = 1e-9, 5


@dataclass(frozen=True)
class ComponentPrior:
    r"""Weak prior of the components: what so many cells of covariance `scale` × I would add to each.

    .. math::
        \log p(\Sigma_k) = -\frac{\nu}{2} (\log\det\Sigma_k + s \, \mathrm{tr}\,\Sigma_k^{-1}), \quad
        \log p(\pi) = \alpha \sum_k \log \pi_k

    It keeps the covariance of a component that has few cells, or cells that coincide, away from zero.

    Parameters
    ----------
    cells
        ν.
    scale
        s, a variance.
    weight
        α, cells that each component has before any is seen.
    """

    cells: float = 20.0
    scale: float = 0.3
    weight: float = 1.0

    def maximize(self, moments: Moments, before: Components) -> Components:
        """Maximisation step. A component without cells keeps its mean."""
        q = before.loc.shape[1]
        some = np.maximum(moments.size, np.finfo(float).tiny)
        loc = np.where(moments.size[:, None] > 0, moments.first / some[:, None], before.loc)
        scatter = moments.second - moments.size[:, None, None] * loc[:, :, None] * loc[:, None, :]
        divisor = moments.size + self.cells
        seen = divisor > 0
        covariance = before.covariance.copy()
        covariance[seen] = (scatter + self.cells * self.scale * np.eye(q))[seen] / divisor[seen, None, None]
        weights = moments.size + self.weight
        return Components(loc, 0.5 * (covariance + covariance.transpose(0, 2, 1)), weights / weights.sum())

    def log_density(self, components: Components) -> float:
        """Log-density of the components, up to a constant."""
        inverse = np.linalg.inv(components.covariance)
        log_det = np.linalg.slogdet(components.covariance)[1]
        traces = self.scale * np.trace(inverse, axis1=1, axis2=2)
        value = -0.5 * self.cells * float((log_det + traces).sum())
        return value + (self.weight * float(np.log(components.weights).sum()) if self.weight else 0.0)


@dataclass(frozen=True)
class MixtureFit:
    """A mixture that was fitted.

    Parameters
    ----------
    components
        The components.
    expectation
        What the cells say under them.
    history
        Objective after each step, nats: the log-marginals of all cells, plus the log-density of the components' prior.
    converged
        Whether the last steps gained less than the tolerance.
    """

    components: Components
    expectation: Expectation
    history: list[float]
    converged: bool

    @property
    def objective(self) -> float:
        """What was maximised, at its end."""
        return self.history[-1]


def fit_components(
    sites: Sites,
    start: Components,
    *,
    prior: ComponentPrior | None = None,
    known: NDArray[np.int64] | None = None,
    max_iter: int = 200,
    tol: float = 1e-4,
) -> MixtureFit:
    """Fit a mixture from a start, by expectation maximisation with the states of cells as what is not observed.

    Extreme deconvolution: each cell counts by its posterior with its covariance, so that a component is as wide as the
    states are, not as their estimates are. The objective rises in every step.

    Parameters
    ----------
    sites
        Likelihoods of n cells.
    start
        Where the components start.
    prior
        Weak prior of the components.
    known
        Component of each cell (n,), −1 where it is not known.
    max_iter
        Most steps.
    tol
        It has converged when a step gains less than this many nats per cell.

    References
    ----------
    J. Bovy, D. Hogg and S. Roweis (2011), Extreme deconvolution, Annals of Applied Statistics 5(2B): 1657-1677.
    """
    prior, components = prior or ComponentPrior(), start
    history: list[float] = []
    active, refresh, converged = None, True, False
    expectation = expect(sites, components, known=known)
    history.append(float(expectation.log_likelihood.sum()) + prior.log_density(components))
    for step in range(max_iter):
        if step % _REFRESH == 0:
            active = expectation.responsibilities > _NEGLIGIBLE
        components = prior.maximize(expectation.moments, components)
        refresh = (step + 1) % _REFRESH == 0
        expectation = expect(sites, components, known=known, active=None if refresh else active)
        history.append(float(expectation.log_likelihood.sum()) + prior.log_density(components))
        if history[-1] - history[-2] < tol * len(sites):
            converged = True
            break
    if not refresh:
        expectation = expect(sites, components, known=known)
        history[-1] = float(expectation.log_likelihood.sum()) + prior.log_density(components)
    return MixtureFit(components, expectation, history, converged)
