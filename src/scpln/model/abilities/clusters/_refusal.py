"""Cells that are none of a mixture's components."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.model.abilities._latent import LatentModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.module import Mixture, Posterior

#: Levels of the quantiles of distances that are kept, and how many cells those of all components count for in each of them.
LEVELS, CELLS_OF_ALL = np.linspace(0, 1, 101), 10
#: What cells are called that are none of the components.
UNKNOWN = "unknown"


class Refusal(LatentModel):
    """Models that know how far the reference's cells are from their components."""

    @property
    @abstractmethod
    def component_names(self) -> list[str]:
        """Names of the components."""

    @property
    @abstractmethod
    def prior_on_cpu(self) -> Mixture:
        """A copy of the mixture in float64."""

    def _component_distances(self, posterior: Posterior) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Most probable component of each cell, and squared distance of its mean from that component's, in units of its covariance."""
        prior = self.prior_on_cpu
        components = posterior.responsibilities(prior).argmax(1)
        with torch.no_grad():
            away = torch.from_numpy(posterior.mean) - prior.loc[components]
            white = torch.linalg.solve_triangular(prior.scale[components], away[..., None], upper=False)
        return components, white.square().sum((1, 2)).numpy()

    def _quantiles_of_distances(self, posterior: Posterior) -> list[list[float]]:
        """Of the cells of each component, at `LEVELS`; of few cells, drawn to those of all."""
        components, distances = self._component_distances(posterior)
        of_all, result = np.quantile(distances, LEVELS), []
        for component in range(self.prior_on_cpu.n_components):
            own = distances[components == component]
            weight = len(own) / (len(own) + CELLS_OF_ALL)
            quantiles = np.quantile(own, LEVELS) if len(own) else of_all
            result.append((weight * quantiles + (1 - weight) * of_all).tolist())
        return result

    def _limits(self, reject: float) -> NDArray[np.float64]:
        """Distances beyond which this share of each component's cells are, (K,)."""
        self._require_trained()
        if "distances" not in self.states_:
            msg = (
                "reject= compares cells with those of the reference, and how far these are from their components is not known "
                "of this model: an earlier version trained it, or its training was interrupted. Train it again, or leave reject= out."
            )
            raise RuntimeError(msg)
        return np.array([np.interp(1 - reject, LEVELS, quantiles) for quantiles in self.states_["distances"]])

    @property
    def rejected_name(self) -> str:
        """What `predict` calls cells that `reject` refuses."""
        return UNKNOWN if UNKNOWN not in self.component_names else f"{UNKNOWN} (no label)"
