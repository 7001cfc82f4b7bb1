"""What a bound is made of: reconstruction, divergence from the prior, and the share of each latent dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi
from torch import nn

from scpln.data import cell_positions, setup_args
from scpln.inference import log_weights
from scpln.utils import MOST_DRAWS, positive_integer_or_none, resolve_seed

from ._latent import LatentModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data
    from scpln.model.base import ScplnModel
    from scpln.module import Batch, Generative, Posterior

#: Variance over cells of the posterior mean above which a latent dimension is in use (Burda et al., 2016).
ACTIVE = 0.01


class BoundTerms(LatentModel):
    """Models whose bound can be taken apart."""

    def get_bound_terms(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        n_samples: int | None = None,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> pd.DataFrame:
        r"""Terms of each cell's evidence lower bound: reconstruction and Kullback–Leibler divergences.

        .. math::
            \text{ELBO}_i = \underbrace{E_{q(z \mid y_i)}[\log p(y_i \mid z)]}_\text{reconstruction}
            - \underbrace{KL(q(z \mid y_i) \,\|\, p(z))}_\text{kl}

        Of PLN-PCA with Gaussian posteriors they are exact; otherwise all are means over the same draws, as `get_elbo` is.

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_posterior`.
        n_samples
            Draws of each cell, where they are needed; by default as many as `get_elbo` takes.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Table with one row for each cell, in nats: ``elbo``, ``reconstruction`` and ``kl``, with elbo = reconstruction − kl.
        Of a mixture prior, kl = ``kl_z`` + ``kl_k``, where

        ``kl_k``
            :math:`KL(q(k \mid y_i) \,\|\, \pi)`, the divergence of the component.
        ``kl_z``
            The rest, that of the latent state given the component:
            :math:`\sum_k q(k \mid y_i) \, KL(q(z \mid y_i, k) \,\|\, p(z \mid k))`.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> terms = model.get_bound_terms()
        >>> bool(abs(terms["reconstruction"] - terms["kl"] - terms["elbo"]).max() < 1e-6)
        True
        """
        n_samples, seed = positive_integer_or_none("n_samples", n_samples, most=MOST_DRAWS), resolve_seed(seed)
        posterior, elbo = self._infer(
            adata, indices, batch_size=batch_size, refine=refine, with_elbo="exact", seed=seed
        )
        adata = self._data_or_own(adata)
        positions = cell_positions(indices, adata.n_obs)
        kl = posterior.divergence(self.module.generative.prior) if len(elbo) else None
        if kl is None:
            elbo, kl = self._sampled_terms(posterior, adata, positions, n_samples or self._elbo_draws, seed)
        columns = {"elbo": elbo, "reconstruction": elbo + kl, "kl": kl, **self._terms_of_divergence(posterior, kl)}
        names = adata.obs_names if positions is None else adata.obs_names[positions]
        return pd.DataFrame(columns, index=names)

    def get_latent_dimensions(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> pd.DataFrame:
        r"""How much each latent dimension is used.

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_posterior`.
        seed
            Of the draws that the densities of other posteriors than Gaussians are estimated from; by default
            ``scvi.settings.seed``, or 0.

        Returns
        -------
        Table with one row for each dimension:

        ``kl``
            Mean over cells of the divergence of the posterior's marginal from the prior's,
            :math:`KL(q(z_{ij} \mid y_i) \,\|\, p(z_j))`, in nats: in closed form for Gaussians and a standard normal
            prior, by quadrature for a mixture, and for other posteriors from draws, to about 0.01. Marginals leave out
            how dimensions depend on each other, so they do not add up to ``kl`` of `get_bound_terms`.
        ``variance``
            Variance over cells of the posterior mean.
        ``active``
            Whether that is above 0.01.

        References
        ----------
        Y. Burda, R. Grosse and R. Salakhutdinov (2016), Importance weighted autoencoders, ICLR.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> model.get_latent_dimensions()["active"].to_list()
        [True, True]
        """
        seed = resolve_seed(seed)
        posterior, _ = self._infer(adata, indices, batch_size=batch_size, refine=refine, seed=seed)
        variance = posterior.mean.var(axis=0)
        kl = posterior.marginal_divergences(self.module.generative.prior, seed).sum(0) / len(posterior)
        columns = {"kl": kl, "variance": variance, "active": variance > ACTIVE}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(kl), name="dimension"))

    def _terms_of_divergence(
        self, posterior: Posterior, divergence: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """What a prior adds to the table; nothing, unless it is a mixture."""
        return {}

    def _sampled_terms(
        self, posterior: Posterior, adata: Data, positions: NDArray[np.intp] | None, n_samples: int, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bound and divergence of each cell, the means over the same draws."""
        data, generative = self._with_own(self._read(adata, positions).data, posterior), self.module.generative
        settings: dict[str, Any] = {
            "n_samples": n_samples,
            "seed": seed,
            "positions": positions,
            "n_threads": scvi.settings.num_threads,
        }
        elbo, kl = np.empty(len(posterior)), np.empty(len(posterior))
        for cells, weights in log_weights(data, generative, posterior, **settings):
            elbo[cells] = weights.mean(0)
        for cells, weights in log_weights(data, _WithoutCounts(generative), posterior, **settings):  # type: ignore[arg-type]
            kl[cells] = -weights.mean(0)
        return elbo, kl


def conditions(model: ScplnModel) -> str:
    """What the bounds of a model are conditional on, to put after their unit: those that differ in it cannot be compared."""
    args = setup_args(model.registry)
    has_offsets = args.get("offset_key") is not None
    has_sizes = args.get("size_factor_key") is not None or (model.is_count_data and not has_offsets)
    given = ["size factors"] * (has_sizes and model.uses_size_factors) + ["offsets"] * has_offsets
    return f", given the {' and '.join(given)}" if given else ""


class _WithoutCounts(nn.Module):
    """A generative model that has seen no counts, whose log-weights are log p(z) − log q(z)."""

    def __init__(self, generative: Generative) -> None:
        super().__init__()
        self.generative = generative

    def log_joint(self, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Log p(z) of latent states."""
        return self.generative.prior.log_prob(z)
