"""What is fitted of a mixture in gene space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._infer import posteriors_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.genespace._result import GenePosteriors

    from ._criteria import Criteria
    from ._parameters import MixtureParameters
    from ._posteriors import ComponentPosteriors


@dataclass(frozen=True)
class MixtureCells:
    """Posteriors of cells under a mixture.

    Attributes
    ----------
    responsibilities
        Probabilities τ of the components, (n, K).
    elbo
        Bound of each cell, log Σ_k π_k exp(L_ik), nats, (n,).
    components
        Posteriors of all cells as those of each component, with the bounds L_ik.
    """

    responsibilities: Array
    elbo: Array
    components: list[GenePosteriors]

    @classmethod
    def of(cls, posteriors: ComponentPosteriors) -> MixtureCells:
        """What is known of the cells."""
        components = [posteriors_of(part) for part in posteriors.components]
        return cls(posteriors.responsibilities, posteriors.bound, components)

    @property
    def stuck(self) -> NDArray[np.intp]:
        """Positions of cells whose posterior under a component that they may be of did not converge."""
        parts = [part.stuck for part in self.components]
        found = [stuck[self.responsibilities[stuck, k] > 1e-3] for k, stuck in enumerate(parts)]
        bad = np.flatnonzero(~np.isfinite(self.elbo))
        return np.unique(np.concatenate([*found, bad]))


@dataclass(frozen=True)
class PLNMixtureResult(MixtureCells):
    """A fitted mixture of Poisson log-normal models, with the posteriors of its cells.

    Attributes
    ----------
    parameters
        Weights, means, coefficients and covariances; components by their weights, the largest first.
    criteria
        Of each number of components that was tried: bound, BIC and ICL.
    history
        Of the last search, as in `PLNResult`.
    converged, reason
        Whether the bound stopped rising, and why the fit stopped, in words.
    """

    parameters: MixtureParameters
    criteria: list[Criteria]
    history: dict[str, list[float]]
    converged: bool
    reason: str

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit, or was pressed while it was finished."""
        return "interrupted" in self.reason
