"""What a user does with a mixture in gene space, however it was fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.linalg import cho_solve

from scpln.core import after_training
from scpln.data import gene_positions
from scpln.model.abilities import (
    Bounds,
    Clusters,
    Coefficients,
    Differential,
    ExactSampling,
    GroupTests,
    KeptPosteriors,
    effective_number,
)
from scpln.model.base import Annotation
from scpln.module import PLNMixtureModule
from scpln.module.covariances import COVARIANCES

from ._states import infer, module_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from scpln.data import Cells, Data
    from scpln.inference.genespace import PosteriorName
    from scpln.inference.genespace.mixture import MixtureCells, MixtureParameters
    from scpln.module import Posterior


class GeneSpaceMixture(KeptPosteriors, Coefficients, Clusters, Differential, GroupTests, Bounds, ExactSampling):
    """Models whose log-rates are a mixture of normal distributions in the space of the genes."""

    module: PLNMixtureModule
    covariance: str
    posterior: PosteriorName

    def get_means(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Means :math:`\mu_k` of log-rates of each component (genes × components).

        For a cell of average (geometric mean) size factor, at covariates of 0 and reference categories, as the intercept of
        `get_coefficients`, which is the average of these by the weights.

        Parameters
        ----------
        genes
            Names of genes, in the order to return; by default all.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require_trained()
        positions = gene_positions(genes, self.genes, "genes")
        intercept = self.get_coefficients().iloc[:, 0].to_numpy()
        means = intercept[:, None] + self.module.prior.loc.cpu().numpy().T
        table = pd.DataFrame(means, index=self.genes, columns=self.component_names)
        return table if positions is None else table.iloc[positions]

    def get_covariance(self, component: Any = 0, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Covariance :math:`\Sigma_k` of log-rates between genes within a component (genes × genes).

        Parameters
        ----------
        component
            Name (text), label or number of the component.
        genes
            Names of genes, in the order to return; by default all.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such component.
        """
        scale = self._scale(component)
        return self._table(scale @ scale.T, genes)

    def get_correlation(self, component: Any = 0, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Correlation of log-rates between genes within a component, :math:`\Sigma_{jl} / \sqrt{\Sigma_{jj} \Sigma_{ll}}` (genes × genes).

        Parameters
        ----------
        component, genes
            As in `get_covariance`.
        """
        scale = self._scale(component)
        scale = scale / np.sqrt(np.square(scale).sum(1, keepdims=True))
        return self._table(scale @ scale.T, genes)

    def get_precision(self, component: Any = 0, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Precision :math:`\Sigma_k^{-1}` of all genes within a component, of which some may be chosen (genes × genes).

        Parameters
        ----------
        component, genes
            As in `get_covariance`.
        """
        scale = self._scale(component)
        return self._table(cho_solve((scale, True), np.eye(len(scale))), genes)

    def _scale(self, component: Any) -> NDArray[np.float64]:
        """Cholesky factor of a component's covariance."""
        self._require_trained()
        return self.module.prior.scale[self._component(component)].cpu().numpy()

    def _table(self, values: NDArray[np.float64], genes: Sequence[str] | None) -> pd.DataFrame:
        positions = gene_positions(genes, self.genes, "genes")
        table = pd.DataFrame(values, index=self.genes, columns=self.genes)
        return table if positions is None else table.iloc[positions, positions]

    def _keep(
        self,
        cells: Cells,
        parameters: MixtureParameters,
        found: MixtureCells,
        training: dict[str, Any],
        options: dict[str, Any],
        history: dict[str, list[float]],
    ) -> None:
        """Keep a fit and the posteriors of its cells, and summarise them."""
        self.module = module_of(parameters, found, cells.data, diagonal=self._has_diagonal_posteriors)
        shares = found.responsibilities
        training |= {
            "n_components": parameters.n_components,
            "n_effective_clusters": effective_number(shares.mean(0)),
            "n_empty_components": parameters.n_components - len(np.unique(shares.argmax(1))),
        }
        summary, training["reason"] = after_training(
            lambda: self._summarize_posteriors(
                cells.data, self.module.posterior, options["seed"], options["n_threads"]
            ),
            {"reliability": None},
            training["reason"],
        )
        self.states_, training["reason"] = after_training(
            lambda: {"distances": self._quantiles_of_distances(self.module.posterior())}, {}, training["reason"]
        )
        self._finish_training(cells, {**training, **summary, **options}, history)

    @property
    def _closer_posteriors(self) -> str:  # type: ignore[override]
        if self.posterior == "meanfield":
            return "take posterior='fullrank'"
        return "draw from the exact ones with sample_exact_posterior"

    def _infer_new(self, cells: Cells) -> tuple[Posterior, NDArray[np.float64]]:
        return infer(self.module, cells.data, cells.names)

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = self._new_module(len(tensors["generative.prior.loc"]))
        self.module.load(tensors)

    def _new_module(self, n_components: int) -> PLNMixtureModule:
        """Module that is not trained."""
        sizes = len(self.genes), len(self.covariates), n_components
        return PLNMixtureModule(*sizes, diagonal=self._has_diagonal_posteriors)

    @property
    def _has_diagonal_posteriors(self) -> bool:
        """Whether posteriors have diagonal covariances, as they have under covariances that are diagonal."""
        return self.posterior == "meanfield" or COVARIANCES[self.covariance].is_diagonal

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        posterior, values = self._infer(adata, None)
        annotation = Annotation(
            latent=posterior.mean.astype(np.float32),
            obs={"elbo": values, **self._diagnostic_columns(posterior, values, adata, diagnostics)},
            varm={"coefficients": self.get_coefficients(), "means": self.get_means()},
            uns={"elbo": self._mean_bound(values, adata.obs_names), "covariates": self.covariates},
        )
        self._add_clusters(annotation, adata)
        return annotation

    def _status(self) -> dict[str, str]:
        status = super()._status()
        if not self.is_trained_:
            return status
        effective, total = self.training_["n_effective_clusters"], self.training_["n_components"]
        return {**status, "clusters": f"{total} components, {effective:.1f} effective"}
