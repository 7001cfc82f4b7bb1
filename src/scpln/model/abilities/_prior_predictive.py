"""Counts of new cells: the prior predictive distribution."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.utils import as_bool, positive_integer, resolve_seed

from ._latent import LatentModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.module import Prior


class PriorPredictive(LatentModel):
    """Models that draw new cells: a latent state from the prior, then counts given that."""

    def prior_predictive_sample(
        self, n_samples: int = 1, *, seed: int | None = None, return_latent: bool = False
    ) -> NDArray | tuple[NDArray, NDArray]:
        """Draw counts of new cells from the prior predictive distribution: z from p(z), then y from p(y | z).

        No cell's counts are looked at, but by the parameters that were learned from all of them. The new cells have the
        average (geometric mean) size factor, of every modality, average continuous covariates, and the reference category
        of others.

        Parameters
        ----------
        n_samples
            Cells.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.
        return_latent
            Whether to return their latent states too.

        Returns
        -------
        Counts (n_samples × genes), or values, of real-valued data; with `return_latent` also latent states
        (n_samples × q), in the coordinates of `get_posterior`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If `n_samples` is not a whole number of at least 1, or `seed` is below 0.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> model.prior_predictive_sample(5).shape
        (5, 30)
        """
        return self._sample_new_cells(n_samples, None, seed=seed, return_latent=return_latent)

    def _sample_new_cells(
        self, n_samples: int, component: int | None, *, seed: int | None, return_latent: bool
    ) -> NDArray | tuple[NDArray, NDArray]:
        """Counts of new cells, from a component of the prior or from all of it."""
        self._require_trained()
        n, seed = positive_integer("n_samples", n_samples), resolve_seed(seed)
        prior = copy.deepcopy(self.module.generative.prior).cpu()
        z = self._sample_prior(prior, n, component, torch.Generator().manual_seed(seed))
        design = np.zeros((n, len(self.covariates)))
        design[:, 0] = 1.0
        eta, deviations = self.module.decode(z, design, np.zeros(n, dtype=np.int64))
        stream = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
        counts = self.module.draw(eta, stream, deviations=deviations)
        return (counts, z.numpy()) if as_bool("return_latent", return_latent) else counts

    @torch.no_grad()
    def _sample_prior(self, prior: Prior, n: int, component: int | None, generator: torch.Generator) -> torch.Tensor:
        """Latent states (n, q) from the prior."""
        return prior.sample(n, generator)
