"""Posteriors of the cells' latent states: what bounds, draws and predictions are computed from."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from scpln.data import cell_positions
from scpln.model.base import ScplnModel
from scpln.utils import MOST_DRAWS, as_bool, positive_integer, positive_integer_or_none, resolve_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import CountData
    from scpln.data import Cells, Data
    from scpln.module import LatentModule, Posterior


class LatentModel(ScplnModel):
    """Models that give each cell a posterior q(z | y) of its latent state."""

    module: LatentModule
    #: Draws of each cell that a bound without a closed form is the mean of.
    _elbo_draws: ClassVar[int] = 100

    @staticmethod
    def _check_inference(batch_size: object, refine: object) -> tuple[int | None, int]:
        """What `_infer` takes of its caller's arguments."""
        steps = positive_integer("refine", refine, least=0, most=MOST_DRAWS)
        return positive_integer_or_none("batch_size", batch_size), steps

    def _positions(self, adata: Data | None, indices: Any) -> NDArray[np.intp] | None:
        """Positions of the chosen cells, None for all; of those whose posteriors the model keeps, if it has no data."""
        nothing = adata is None and self.adata is None
        return cell_positions(
            indices, len(self.module.get_buffer("elbo")) if nothing else self._data_or_own(adata).n_obs
        )

    @abstractmethod
    def _infer(
        self,
        adata: AnnData | MuData | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool | Literal["exact"] = False,
        seed: int | None = None,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """Posterior of each cell and, if asked for, its bound, or only if that is computed without draws (``"exact"``)."""

    def _with_own(self, data: CountData, posterior: Posterior) -> CountData:
        """The same cells with what each has of its own besides its posterior, that log p(y | z) needs; nothing, by default."""
        return data

    def _latent_and_clusters(self, adata: Data, indices: Any) -> tuple[NDArray | None, NDArray | None]:
        _, clusters = super()._latent_and_clusters(adata, indices)
        return np.asarray(self.get_latent_representation(adata, indices)), clusters

    def get_posterior(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> Posterior:
        """Posteriors of the latent states; of PLN-PCA, in the coordinates of `get_loadings`.

        Parameters
        ----------
        adata
            Annotated data with the model's genes, in any order; by default the model's own. It may be a view or
            backed, and need not be set up. Posteriors of cells that the model was not trained on are optimised, or
            encoded if the model is amortized, with all parameters as they are.
        indices
            Positions of cells, or a mask over them; by default all.
        batch_size
            Cells that are in memory at a time.
        refine
            Gradient steps by which each cell's own Gaussian is then improved, with everything else as it is: for what
            an encoder or a flow, which cells share, has missed. 50 is usual.
        seed
            Of the draws of these steps; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Object with ``mean`` (n × q), ``covariance`` (n × q × q), ``sample(n, seed)`` and ``log_prob(z)``.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> model.get_posterior()
        GaussianPosterior(100 cells, 2 latent dimensions)
        >>> model.get_posterior(indices=[0, 1]).sample(10).shape
        (10, 2, 2)
        """
        return self._infer(adata, indices, batch_size=batch_size, refine=refine, seed=seed)[0]

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        return_dist: bool = False,
        *,
        batch_size: int | None = None,
        refine: int = 0,
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posterior means of the latent states, (n, q).

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_posterior`.
        return_dist
            Whether to return means and variances, (n, q) each.
        """
        batch_size, refine = self._check_inference(batch_size, refine)
        if not (as_bool("return_dist", return_dist) or refine):
            return self._posterior_means(adata, indices, batch_size).astype(np.float32)
        posterior = self.get_posterior(adata, indices, batch_size=batch_size, refine=refine)
        mean = posterior.mean.astype(np.float32)
        return (mean, posterior.variance.astype(np.float32)) if return_dist else mean

    def _posterior_means(
        self, adata: AnnData | MuData | None, indices: Any, batch_size: int | None
    ) -> NDArray[np.floating]:
        """Posterior means (n, q), without what else belongs to posteriors where that can be left out."""
        return self.get_posterior(adata, indices, batch_size=batch_size).mean


class KeptPosteriors(LatentModel):
    """Models whose bounds are those of their posteriors, without draws, and whose cells do not depend on each other."""

    module: Any

    @abstractmethod
    def _infer_new(self, cells: Cells) -> tuple[Posterior, NDArray[np.float64]]:
        """Posteriors and bounds of cells that are not those of training, or not as they were."""

    def _infer(
        self,
        adata: Data | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool | Literal["exact"] = False,
        seed: int | None = None,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """Posterior and bound of each cell: stored ones of training cells, or new ones."""
        del with_elbo
        self._require_trained()
        self._check_inference(batch_size, refine)
        resolve_seed(seed)
        positions = self._positions(adata, indices)
        if self._is_training_data(adata, positions):
            values = self.module.get_buffer("elbo").cpu().numpy()
            return self.module.posterior(positions), values if positions is None else values[positions]
        return self._infer_new(self._read(adata, positions))
