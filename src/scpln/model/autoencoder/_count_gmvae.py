"""The variational autoencoder of counts whose latent states form clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from scvi import REGISTRY_KEYS

from scpln.data import has_entries, read_labels, setup_args, states
from scpln.model.abilities import Clusters, effective_number
from scpln.module import ComponentEncoder, GaussianMixture, Generative, MixtureVAEModule, VAEModule
from scpln.utils import as_bool, one_of, positive_integer_or_none, warn

from ._architecture import Architecture, resolve_likelihood
from ._autoencoder import Autoencoder
from ._mixture_start import start_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.model.base import Annotation, PosteriorName
    from scpln.module import AutoencoderModule

    from ._architecture import Dispersion, ScaleActivation
    from ._start import Start
    from ._training import StartKind

Covariance = Literal["full", "diagonal"]

#: Components before training, where the data are to say how many.
_BEFORE_TRAINING = 10

#: So many components there may always be; more only of as many cells.
MOST_COMPONENTS = 1_000


#: So many validation cells at least say how far cells are from components; of fewer, all training cells do.
FEWEST_HELD_OUT = 50


class CountGMVAE(Clusters, Autoencoder):
    r"""Gaussian-mixture variational autoencoder of counts: it clusters cells while it learns their latent states.

    .. math::
        k_i \sim \pi, \quad z_i \sim N(m_{k_i}, V_{k_i}), \quad
        \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j + W_j \cdot h(z_i, x_i), \quad y_{ij} \sim p(y \mid \eta_{ij})

    as `CountVAE`, with K components in place of one prior. The sum over components is exact, with one posterior of z
    for each cell,

    .. math:: \text{ELBO}_i = E_{q(z \mid y_i)}\Big[\log p(y_i \mid z) + \log \sum_k \pi_k N(z; m_k, V_k)
        - \log q(z \mid y_i)\Big],

    whose best probabilities of the components are the responsibilities
    :math:`q(k \mid y_i) = E_{q(z \mid y_i)}[p(k \mid z)]`, :math:`p(k \mid z) \propto \pi_k N(z; m_k, V_k)`; or, with
    ``component_posteriors=True``, with a posterior for each component,

    .. math::
        \text{ELBO}_i = \sum_k q(k \mid y_i) \, E_{q(z \mid y_i, k)}[\log p(y_i \mid z) + \log N(z; m_k, V_k)
        - \log q(z \mid y_i, k)] - KL(q(k \mid y_i) \,\|\, \pi).

    The latter is what training maximises and its history shows; `get_elbo` is that of the mixture
    :math:`\sum_k q(k \mid y_i) q(z \mid y_i, k)`, which is above it.

    Components start from a mixture that is fitted to the posteriors of a PLN-PCA, with their covariances, by expectation
    maximisation from k-means and from Leiden's groups, of which the better bound is taken. They have a weak prior, worth
    one cell each, that keeps them in reach of the others, and variances above a floor.

    If `setup_anndata` was given a ``labels_key``, the model is semi-supervised: each label has a component of its own,
    cells with a label belong to it in training, and those without (missing values, or the ``unlabeled_category``) are
    inferred.

    Parameters
    ----------
    adata
        Annotated data, after `scpln.model.setup_anndata`.
    n_components
        Components K, at least the number of labels. None lets a held-out bound choose; with labels, as many as these.
    n_latent
        Latent dimensions q.
    covariance
        Whether components have full or diagonal covariances.
    weights
        Weights π of the components: ``"learned"``, ``"uniform"``, or K numbers that add up to 1.
    component_posteriors
        Whether q(z | y, k) is another one for each component. It takes K times as long.
    n_hidden, n_layers, encoder_hidden, decoder_hidden, likelihood, k_max, posterior, flow, n_transforms, flow_hidden
        As for `CountVAE`.
    dispersion, scale_activation, size_factors, encode_covariates, dropout_rate
        As for `CountVAE`.
    registry
        For loading; leave it out.

    References
    ----------
    C. Grønbech, M. Vording, P. Timshel, C. Sønderby, T. Pers and O. Winther (2020), scVAE: variational auto-encoders
    for single-cell gene expression data, Bioinformatics 36(16): 4415-4422. D. Kingma, D. Rezende, S. Mohamed and
    M. Welling (2014), Semi-supervised learning with deep generative models, NeurIPS.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.CountGMVAE(adata, n_components=3, n_latent=2, n_hidden=16)
    >>> model.train(max_epochs=5, progress=False)
    >>> model.get_cluster_probabilities().shape
    (200, 3)
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        n_components: int | None = None,
        n_latent: int = 10,
        *,
        covariance: Covariance = "full",
        weights: Literal["learned", "uniform"] | Sequence[float] = "learned",
        component_posteriors: bool = False,
        n_hidden: int = 128,
        n_layers: int = 1,
        encoder_hidden: Sequence[int] | None = None,
        decoder_hidden: Sequence[int] | None = None,
        likelihood: str = "nb",
        k_max: int | None = None,
        posterior: PosteriorName = "fullrank",
        flow: str | None = None,
        n_transforms: int | None = None,
        flow_hidden: Sequence[int] | None = None,
        dispersion: Dispersion = "gene",
        scale_activation: ScaleActivation = "exp",
        size_factors: bool = True,
        encode_covariates: bool = True,
        dropout_rate: float = 0.0,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        likelihood, scale_activation = resolve_likelihood(likelihood, scale_activation, loading=registry is not None)
        self.architecture = Architecture.of(
            n_latent=n_latent,
            n_hidden=n_hidden,
            n_layers=n_layers,
            encoder_hidden=encoder_hidden,
            decoder_hidden=decoder_hidden,
            likelihood=likelihood,
            k_max=k_max,
            posterior=posterior,
            flow=flow,
            n_transforms=n_transforms,
            flow_hidden=flow_hidden,
            dispersion=dispersion,
            scale_activation=scale_activation,
            encode_covariates=encode_covariates,
            dropout_rate=dropout_rate,
        )
        one_of("covariance", covariance, get_args(Covariance))
        self.size_factors = size_factors = as_bool("size_factors", size_factors)
        self.full_covariance = covariance == "full"
        self.label_names, self.label_dtype = self._known_labels()
        n_components = positive_integer_or_none("n_components", n_components)
        self._n_components = self._check_n_components(n_components, weights)
        self.weights = weights = weights if isinstance(weights, str) else [float(weight) for weight in weights]
        self.component_posteriors = component_posteriors = as_bool("component_posteriors", component_posteriors)
        self._check_data()
        self.module = self._untrained()
        n_latent, n_hidden, n_layers, k_max = self.n_latent, int(n_hidden), int(n_layers), self.architecture.k_max
        self.init_params_ = self._get_init_params(locals())

    def _known_labels(self) -> tuple[list[str], str]:
        """Labels that cells may have, as text, and the type that they had."""
        if setup_args(self.registry)["labels_key"] is None:
            return [], "text"
        state = states(self.registry)[REGISTRY_KEYS.LABELS_KEY]
        return list(state["categorical_mapping"]), state.get("dtype", "text")  # which earlier versions did not keep

    def _check_n_components(self, n_components: int | None, weights: str | Sequence[float]) -> int | None:
        n_labels = len(self.label_names)
        if n_components is None:
            n_components = n_labels or None
        elif n_components < n_labels:
            msg = (
                f"n_components={n_components}, but each of the {n_labels} labels in labels_key needs a component: "
                f"{self.label_names[:8]}{', …' if n_labels > 8 else ''}."
            )
            raise ValueError(msg)
        most = max(int(self.summary_stats.n_cells), MOST_COMPONENTS)
        if n_components is not None and n_components > most and self.adata is not None:
            msg = f"n_components={n_components:,}, but it can be at most {most:,}; clusters are of several cells each."
            raise ValueError(msg)
        if isinstance(weights, str):
            one_of("weights", weights, ["learned", "uniform"])
            return n_components
        try:
            values = np.asarray(weights, dtype=float)
        except (TypeError, ValueError):
            values = np.empty(0)
        if (
            n_components is None
            or values.shape != (n_components,)
            or not (values > 0).all()
            or abs(values.sum() - 1) > 1e-6
        ):
            msg = (
                f"weights={weights!r}, but they must be 'learned', 'uniform' or one number above 0 for each of "
                f"the components (n_components={n_components}), which add up to 1."
            )
            raise ValueError(msg)
        return n_components

    def _labels(self) -> NDArray[np.int64] | None:
        assert self.adata is not None
        labels = read_labels(self.adata, self.registry)
        if labels is None:
            return None
        if self.query_ is None and (labels[0] < 0).all():
            key = setup_args(self.registry)["labels_key"]
            found = "has no labels but missing ones" if key in self.adata.obs else "is not there"
            warn(
                f"adata.obs[{key!r}], the labels_key that this model was set up with, {found}: the model is trained "
                "without labels, and its components need not stand for them. Put labels of some cells there, or make a "
                "model after setup_anndata without labels_key."
            )
        return labels[0]

    def _make_module(
        self, start: Start | None = None, labels: NDArray[np.int64] | None = None, seed: int = 0
    ) -> AutoencoderModule:
        if start is None:
            return self._sized_module(self._n_components or _BEFORE_TRAINING)
        found = start_components(start.gaussian, self._n_components, labels, seed=seed)
        module = self._sized_module(found.n_components)
        cast("GaussianMixture", module.generative.prior).place(found.loc, found.covariance, found.weights)
        return module

    def _check_start(self, start: StartKind) -> None:
        super()._check_start(start)
        if start == "random" and self._n_components is None:
            msg = "start='random' does not say how many components there are. Pass n_components=, or start='plnpca'."
            raise ValueError(msg)

    def _empty_module(self, tensors: dict[str, torch.Tensor]) -> AutoencoderModule:
        return self._sized_module(len(tensors["generative.prior.loc"]))

    def _sized_module(self, n_components: int) -> VAEModule | MixtureVAEModule:
        n_genes, n_covariates, n_batches = self._sizes()
        likelihood = self.architecture.make_likelihood(n_genes)
        decoder = self.architecture.make_decoder(likelihood, n_covariates, n_batches)
        weights = None if self.weights == "learned" else self.weights
        prior = GaussianMixture(n_components, self.n_latent, full=self.full_covariance, weights=weights)
        generative, n_cells = Generative(decoder, likelihood, prior), self.summary_stats.n_cells
        encoded = n_genes, n_covariates, has_entries(self.registry)
        if not self.component_posteriors:
            return VAEModule(generative, self.architecture.make_approximation(*encoded), n_cells)
        encoder = ComponentEncoder(n_components, **self.architecture.encoder_arguments(*encoded))
        return MixtureVAEModule(generative, encoder, self.architecture.make_flow(encoder.n_features), n_cells)

    @property
    def _n_posteriors(self) -> int:
        return (self.n_components or _BEFORE_TRAINING) if self.component_posteriors else 1

    @property
    def n_components(self) -> int | None:
        """Number of components K; None as long as training has to choose it."""
        return self._mixture.n_components if self.is_trained_ else self._n_components

    def _training_summary(self, data: CountData) -> dict[str, Any]:
        probabilities = self._encode(data).responsibilities(self.prior_on_cpu)
        return {
            "n_components": self._mixture.n_components,
            "n_effective_clusters": effective_number(probabilities.mean(0)),
            "n_empty_components": int(
                (np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) == 0).sum()
            ),
        }

    def _summary_of_states(self, data: CountData) -> dict[str, Any]:
        held_out = self.validation_indices  # which are as far from the components as new cells are
        some = data.subset(held_out) if len(held_out) >= FEWEST_HELD_OUT else data
        return {"distances": self._quantiles_of_distances(self._encode(some))}

    def _status(self) -> dict[str, str]:
        status = super()._status()
        if not self.is_trained_:
            return status
        effective = self.training_.get("n_effective_clusters")  # None where the summary after training failed
        words = "" if effective is None else f", {effective:.1f} effective"
        return {**status, "clusters": f"{self.n_components} components{words}"}

    def _annotation(self, adata: AnnData, diagnostics: bool) -> Annotation:
        annotation = super()._annotation(adata, diagnostics)
        self._add_clusters(annotation, adata)
        return annotation
