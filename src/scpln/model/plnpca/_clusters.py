"""The components of a PLN-PCA whose prior is a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpln.model.abilities import Clusters
from scpln.module import GaussianMixture
from scpln.train import torch_random
from scpln.utils import positive_integer_or_none

if TYPE_CHECKING:
    from scpln.model.base import PosteriorName


class PLNPCAClusters(Clusters):
    """PLN-PCA with N(0, I) as prior, or a mixture of Gaussians."""

    n_latent: int
    _n_components: int | None

    @property
    def n_components(self) -> int | None:
        """Number of components K of the prior; None as long as training has to choose it."""
        return self.module.generative.prior.n_components if self.is_trained_ else self._n_components

    @property
    def _is_mixture(self) -> bool:
        return self._n_components != 1

    def _check_n_components(self, n_components: int | None, posterior: PosteriorName, *, amortized: bool) -> int | None:
        """Components that these data and this posterior can have."""
        n_components, n = positive_integer_or_none("n_components", n_components), int(self.summary_stats.n_cells)
        if n_components == 1:
            return 1
        if posterior != "fullrank" or amortized:
            msg = (
                f"n_components={n_components} needs posterior='fullrank' and amortized=False: each cell has a Gaussian of its own "
                "for each of its components."
            )
            raise ValueError(msg)
        if n_components is not None and n_components > n and self.adata is not None and self.query_ is None:
            msg = f"n_components={n_components:,}, but it can be at most {n:,}; clusters are of several cells each."
            raise ValueError(msg)
        return n_components

    def _new_prior(self, n_components: int | None) -> GaussianMixture | None:
        """A mixture that is not fitted; None for N(0, I)."""
        if not self._is_mixture:
            return None
        with torch_random():
            return GaussianMixture(n_components or self._n_components or 1, self.n_latent, full=True)
