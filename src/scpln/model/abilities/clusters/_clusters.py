"""Clusters of models whose prior is a mixture: probabilities, labels, parameters and draws of its components."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch

from scpln.data import as_text, cell_positions, match, restore
from scpln.model.abilities._prior_predictive import PriorPredictive
from scpln.model.abilities._terms import BoundTerms
from scpln.utils import deprecated, in_range

from ._refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data
    from scpln.model.base import Annotation, Evaluated
    from scpln.module import Mixture, Posterior, Prior


class Clusters(Refusal, BoundTerms, PriorPredictive):
    """Models whose prior is a mixture of Gaussians."""

    label_names: list[str] = []  # noqa: RUF012
    #: Type of the labels' values, as `scpln.data.restore` takes it.
    label_dtype: str = "text"

    @property
    def has_clusters(self) -> bool:
        """Whether the prior is a mixture, whose components are clusters."""
        return self._is_mixture

    @property
    def _is_mixture(self) -> bool:
        """Whether the prior is a mixture, so that there are clusters."""
        return True

    @property
    def _mixture(self) -> Mixture:
        """The mixture p(z)."""
        if not self._is_mixture:
            msg = f"This {type(self).__name__} has one prior for all cells, and no clusters. Make it with n_components=8, say, or None."
            raise ValueError(msg)
        return cast("Mixture", self.module.generative.prior)

    @property
    def component_names(self) -> list[str]:
        """Names of the components: numbers as text, or labels as text, followed by ``"component 4"`` and so on.

        Where a label has such a name itself, a component without a label is ``"component 4 (no label)"``.
        """
        if not self.label_names:
            return [str(number) for number in range(self._mixture.n_components)]
        names = list(self.label_names)
        for number in range(len(names), self._mixture.n_components):
            name = f"component {number}"
            while name in names:
                name += " (no label)"
            names.append(name)
        return names

    def get_cluster_probabilities(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Probabilities q(k | y) of the components, cells × components.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`. Labels are not looked at: these are the probabilities that the counts give.
        """
        self._require_trained()
        prior = self.prior_on_cpu
        posterior, _ = self._infer(adata, indices, batch_size=batch_size)
        names = self._cell_names(adata, indices)
        return pd.DataFrame(posterior.responsibilities(prior), index=names, columns=self.component_names)

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        batch_size: int | None = None,
        reject: float | None = None,
    ) -> NDArray:
        """Most probable component of each cell: its label where components stand for labels, or its number as text.

        Probabilities say which of the components it is, not whether it is one of them: cells of a type that the model does
        not know have a label, too, often with a probability near 1, unless `reject` is given.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`.
        reject
            Share of the reference's own cells to refuse, from 0 to 1, in every component alike: cells are ``"unknown"`` if
            the mean of their posterior is farther from their component's, in units of its covariance, than those of that
            share of the cells that training was validated on (of all, if these are fewer than 50). About so many new cells of
            known types are refused wrongly. By default none are.

        Returns
        -------
        Labels of the cells (n,), of the type that they have in ``labels_key``: whole numbers, booleans and dates as such,
        and text and whatever else as text, in an array of objects. Where some components have no label, such as
        ``"component 4"``, it is an array of objects, too, with these names for their cells. So it is with `reject`; if
        a label is called ``"unknown"``, refused cells are ``"unknown (no label)"``.

        Raises
        ------
        RuntimeError
            If the model is not trained, or `reject` is given and it does not know how far the reference's cells are from their components.
        ValueError
            If `reject` is not from 0 to 1.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> adata.obs["stage"] = [1, 2] * 50
        >>> scpln.model.setup_anndata(adata, labels_key="stage")
        >>> model = scpln.model.CountGMVAE(adata, n_latent=2, n_hidden=8)
        >>> model.train(max_epochs=2, progress=False)
        >>> model.predict().dtype
        dtype('int64')
        >>> sorted(set(model.predict(reject=0.05)), key=str)
        [1, 2, 'unknown']
        """
        limits = None if reject is None else self._limits(in_range("reject", reject, 0, 1))
        posterior, _ = self._infer(adata, indices, batch_size=batch_size)
        components, distances = self._component_distances(posterior)
        values = restore(self.label_names, self.label_dtype)
        extra = self.component_names[len(values) :]
        if extra or limits is not None:
            values = np.array([*values.astype(object), *extra, self.rejected_name], dtype=object)
        if limits is not None:
            components = np.where(distances > limits[components], len(values) - 1, components)
        return values[components]

    def get_component_parameters(self) -> dict[str, Any]:
        """Parameters of the mixture.

        Returns
        -------
        ``weights`` π (K,), ``means`` m (K × q) and ``covariances`` V (K × q × q), with ``names`` of the components.
        """
        self._require_trained()
        with torch.no_grad():
            return {
                "names": self.component_names,
                "weights": self._mixture.log_weights.exp().cpu().double().numpy(),
                "means": self._mixture.loc.cpu().double().numpy(),
                "covariances": self._mixture.covariance.cpu().double().numpy(),
            }

    def get_cluster_summary(self, adata: AnnData | None = None) -> pd.DataFrame:
        """Size of each component, with one row for each.

        Returns
        -------
        ``n_cells`` whose most probable component it is, ``mean_probability`` of q(k | y) over cells, and ``weight`` π.
        """
        probabilities = self.get_cluster_probabilities(adata)
        return self._cluster_summary(probabilities.to_numpy())

    def get_n_effective_clusters(self, adata: AnnData | None = None) -> float:
        """Effective number of clusters, exp of the entropy of the mean q(k | y): from 1 to K."""
        mean = self.get_cluster_probabilities(adata).to_numpy().mean(0)
        return effective_number(mean)

    def prior_predictive_sample(
        self,
        n_samples: int = 1,
        component: Any = None,
        *,
        seed: int | None = None,
        return_latent: bool = False,
    ) -> NDArray | tuple[NDArray, NDArray]:
        """Draw counts of new cells from the prior predictive distribution: z from p(z), then y from p(y | z).

        Their size factor and continuous covariates are those of an average cell, others the reference category.

        Parameters
        ----------
        n_samples
            Cells.
        component
            Name (text), label or number of the component to draw from; by default any, by their weights.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.
        return_latent
            Whether to return their latent states too.

        Returns
        -------
        Counts (n_samples × genes); with `return_latent` also latent states (n_samples × q).

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such component, a number is that of one component and the label of another, or `n_samples` is
            not a whole number of at least 1.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.CountGMVAE(adata, n_components=2, n_latent=2, n_hidden=8)
        >>> model.train(max_epochs=2, progress=False)
        >>> model.prior_predictive_sample(5, component="0").shape
        (5, 30)
        """
        self._require_trained()
        number = None if component is None else self._component(component)
        return self._sample_new_cells(n_samples, number, seed=seed, return_latent=return_latent)

    def sample(
        self,
        n_samples: int = 1,
        component: Any = None,
        *,
        seed: int | None = None,
        return_latent: bool = False,
    ) -> NDArray | tuple[NDArray, NDArray]:
        """Deprecated name of `prior_predictive_sample`."""
        deprecated("sample()", "prior_predictive_sample()")
        return self.prior_predictive_sample(n_samples, component, seed=seed, return_latent=return_latent)

    @torch.no_grad()
    def _sample_prior(self, prior: Prior, n: int, component: int | None, generator: torch.Generator) -> torch.Tensor:
        if component is None:
            return prior.sample(n, generator)
        return cast("Mixture", prior).sample_components(torch.full((n,), component), generator)

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """Numbers of components."""
        if not self._is_mixture:
            return super()._evaluation(adata, indices, n_samples, seed)
        probabilities = self.get_cluster_probabilities(adata, indices).to_numpy()
        return (
            super()
            ._evaluation(adata, indices, n_samples, seed)
            .plus(
                {
                    "n_components": probabilities.shape[1],
                    "n_used_components": len(np.unique(probabilities.argmax(1))),
                    "n_effective_clusters": effective_number(probabilities.mean(0)),
                }
            )
        )

    def _latent_and_clusters(self, adata: Data, indices: Any) -> tuple[NDArray | None, NDArray | None]:
        latent, clusters = super()._latent_and_clusters(adata, indices)
        if not self._is_mixture:
            return latent, clusters
        return latent, self.predict(adata, indices)

    def _component(self, component: Any) -> int:
        names = self.component_names
        label = int(match([as_text(component)], names)[0])
        if isinstance(component, int | np.integer) and not isinstance(component, bool) and 0 <= component < len(names):
            if self.label_names and label not in (-1, component):
                msg = (
                    f"component={component} may be the label {names[label]!r} or component number {component}, "
                    f"{names[component]!r}. Pass the name of the one that you mean, as text."
                )
                raise ValueError(msg)
            return int(component)
        if label >= 0:
            return label
        msg = f"component={component!r} is not one of {names}."
        raise ValueError(msg)

    def _terms_of_divergence(
        self, posterior: Posterior, divergence: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Shares of the component, and of the latent state given the component."""
        if not self._is_mixture:
            return super()._terms_of_divergence(posterior, divergence)
        of_components = self._mixture.component_divergence(posterior.responsibilities(self.prior_on_cpu))
        return {"kl_z": divergence - of_components, "kl_k": of_components}

    @property
    def prior_on_cpu(self) -> Mixture:
        """A copy of the mixture in float64, where posteriors are."""
        return copy.deepcopy(self._mixture).cpu().double()

    def _add_clusters(self, annotation: Annotation, adata: Data) -> None:
        """Add clusters, their probabilities and components to what is written."""
        probabilities = self.get_cluster_probabilities(adata)
        annotation.obs["cluster"] = pd.Categorical(probabilities.idxmax(axis=1), categories=self.component_names)
        annotation.obsm["cluster_probs"] = probabilities.to_numpy(dtype=np.float32)
        annotation.uns |= {
            "components": self.get_component_parameters(),
            "n_effective_clusters": effective_number(probabilities.to_numpy().mean(0)),
        }

    def _cell_names(self, adata: Data | None, indices: Any) -> pd.Index:
        names = self._data_or_own(adata).obs_names
        positions = cell_positions(indices, len(names))
        return names if positions is None else names[positions]

    def _cluster_summary(self, probabilities: NDArray[np.float64]) -> pd.DataFrame:
        sizes = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
        weights = self.get_component_parameters()["weights"]
        columns = {"n_cells": sizes, "mean_probability": probabilities.mean(0), "weight": weights}
        return pd.DataFrame(columns, index=pd.Index(self.component_names, name="component"))


def effective_number(mean: NDArray[np.float64]) -> float:
    """Effective number of clusters of the mean probabilities."""
    present = mean[mean > 0]
    return float(np.exp(-(present * np.log(present)).sum()))
