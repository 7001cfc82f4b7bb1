"""PLN-PCA: counts whose log-rates are linear in a few latent dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import scvi
import torch

from scpln.data import adopt, has_entries, modality_sizes, modality_slices, register_mudata, states
from scpln.inference import GenePriorName
from scpln.model.abilities import (
    Differential,
    ExactSampling,
    GroupTests,
    LikelihoodParameters,
    Loadings,
    PriorPredictive,
    Uncertainty,
)
from scpln.model.base import (
    DEEPEST,
    ENCODER_HIDDEN,
    FLOW,
    FLOW_HIDDEN,
    REFINE,
    WIDEST,
    Annotation,
    PosteriorName,
    check_likelihood,
    likelihood_of_genes,
)
from scpln.module import FLOWS, Approximation, PLNPCAModule, check_flow
from scpln.train import torch_random
from scpln.utils import as_bool, as_integers, one_of, positive_integer, positive_integer_or_none, resolve_seed

from ._clusters import PLNPCAClusters
from ._fit import ELBO_DRAWS, STORED_SEED, bound, infer_posterior, on_cpu, refine_posterior
from ._options import InferenceName, check_inference, check_parts
from ._representation import Representation
from ._stages import weighted_bounds
from ._training import PLNPCATraining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from scpln.data import Data
    from scpln.module import Likelihood, Posterior


class PLNPCA(
    PLNPCAClusters,
    Representation,
    Uncertainty,
    Loadings,
    LikelihoodParameters,
    Differential,
    GroupTests,
    PLNPCATraining,
    ExactSampling,
    PriorPredictive,
):
    r"""Poisson log-normal principal component analysis of counts.

    .. math::
        z_i \sim N(0, I_q), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j, \quad
        y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    with known log size factors o and design x, or another likelihood with log-rate η. Each cell has a posterior of z,
    and the evidence lower bound is maximised over those and the coefficients B and loadings C. C is rotated so that its
    columns are orthogonal, in the order of the variance that they explain, with the largest entry of each positive;
    latent states are in these coordinates.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata`; or MuData after `scpln.model.setup_mudata`, whose modalities share each
        cell's latent state, while each has size factors, loadings and a likelihood of its own. What a cell lacks adds
        nothing to its bound.
    n_latent
        Most latent dimensions q, at most the number of cells and of genes. Under a learned prior, those that explain
        nothing vanish; see `n_latent_kept`.
    posterior
        Variational family: ``"fullrank"``, Gaussians with any covariance; ``"meanfield"``, with diagonal ones, all
        in the same axes, which gives a lower bound; ``"flow"``, a normalizing flow on top of full-rank Gaussians, which
        starts at these and raises the bound.
    prior
        Prior of what genes have: ``"learned"``, loadings :math:`C_{jk} \sim N(0, \tau_k^2)`, with a variance of each
        dimension that is learned from all genes and vanishes where it explains nothing, and coefficients of covariates
        around their mean; or ``"none"``, maximum likelihood, under which loadings of genes that few cells have may
        grow without limit.
    inference
        How B and C are estimated: ``"variational"``, by the bound, or ``"importance"``, by the importance-weighted bound, from where the former ends,
        with fewer than about ten dimensions; `get_elbo` then returns that bound. It goes with ``prior="none"``, Poisson counts and full-rank Gaussians.
    likelihood
        Distribution of the counts: ``"poisson"``, ``"nb"`` (negative binomial), ``"zip"`` and ``"zinb"`` (with zero inflation),
        ``"poisson_lognormal"`` (with a normal disturbance of every log-rate), each with parameters of every gene;
        ``"bernoulli"``, for whether a count is not zero; or ``"gaussian"``, for real-valued data (``is_count_data=False`` of
        ``setup_anndata``). Of modalities, one for all, or a mapping with one for each, ``{"rna": "poisson", "prot": "nb"}``.
    amortized
        Whether an encoder gives the posteriors, from the counts, in place of an optimum for each cell. New cells then
        take one pass through it; their bound is lower.
    n_components
        Components K of a Gaussian mixture as prior of z, :math:`z_i \sim \sum_k \pi_k N(m_k, V_k)`, the model's own clusters
        (`get_cluster_probabilities`, `predict`). It is fitted to the cells' posteriors under N(0, I) with their
        covariances, then B and C under it; each cell has a Gaussian for each of its four most probable components. None lets
        a held-out bound choose K; 1 is N(0, I). It goes with ``posterior="fullrank"``.
    flow
        Kind of flow for ``posterior="flow"``: ``"sylvester"`` (the default: the closest for its time), ``"nsf"`` (neural
        splines), ``"iaf"`` and ``"maf"`` (inverse and masked autoregressive), ``"realnvp"``, ``"planar"`` or
        ``"radial"``. ``"iaf"``, ``"maf"`` and ``"realnvp"`` need two dimensions.
    n_transforms, flow_hidden
        Transforms of the flow, by default 3 to 8 according to its kind, and widths of the hidden layers of its networks, by default 64 and 64.
    encoder_hidden
        Widths of the encoder's hidden layers, by default 128 and 128.
    registry
        For loading; leave it out.

    References
    ----------
    J. Chiquet, M. Mariadassou and S. Robin (2018), Variational inference for probabilistic Poisson PCA, Annals of
    Applied Statistics 12(4): 2674-2698. D. Rezende and S. Mohamed (2015), Variational inference with normalizing flows,
    ICML.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=50, n_latent=3)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLNPCA(adata, n_latent=3)
    >>> model.train(progress=False)
    >>> model.get_loadings().shape
    (50, 3)
    >>> model.annotate()
    >>> adata.obsm["X_plnpca"].shape
    (300, 3)
    """

    module: PLNPCAModule
    _takes_mudata = True
    _former_defaults: ClassVar[dict[str, Any]] = {"prior": "none"}
    _elbo_draws = ELBO_DRAWS

    def __init__(
        self,
        adata: Data | None = None,
        n_latent: int = 10,
        *,
        n_components: int | None = 1,
        posterior: PosteriorName = "fullrank",
        prior: GenePriorName = "learned",
        inference: InferenceName = "variational",
        likelihood: str | Mapping[str, str] = "poisson",
        amortized: bool = False,
        flow: str | None = None,
        n_transforms: int | None = None,
        flow_hidden: Sequence[int] | None = None,
        encoder_hidden: Sequence[int] | None = None,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("posterior", posterior, get_args(PosteriorName))
        one_of("prior", prior, get_args(GenePriorName))
        one_of("inference", inference, get_args(InferenceName))
        likelihood = check_likelihood(likelihood, self._sizes_of_modalities, is_count_data=self.is_count_data)
        n_latent = positive_integer("n_latent", n_latent)
        if registry is None:  # cells that are mapped onto a reference may be few
            self._check_n_latent(n_latent)
        self.n_latent = n_latent
        self.posterior: PosteriorName = posterior
        self.prior: GenePriorName = prior
        self.inference: InferenceName = inference
        self.likelihood = likelihood
        self.amortized = amortized = as_bool("amortized", amortized)
        of_flow = {"flow": flow, "n_transforms": n_transforms, "flow_hidden": flow_hidden}
        check_parts(posterior == "flow", amortized, encoder_hidden=encoder_hidden, **of_flow)
        self._n_components = n_components = self._check_n_components(n_components, posterior, amortized=self.amortized)
        is_plain = not (self._sizes_of_modalities or has_entries(self.registry))
        of_model = {"likelihood": likelihood, "posterior": posterior, "prior": prior}
        check_inference(inference, is_plain=is_plain, **of_model, n_components=n_components, amortized=amortized)
        self.flow = None
        if posterior == "flow":
            self.flow = FLOW if flow is None else flow
            one_of("flow", self.flow, list(FLOWS))
            check_flow(self.flow, n_latent)
        flow_hidden = as_integers("flow_hidden", flow_hidden, most=WIDEST)
        encoder_hidden = as_integers("encoder_hidden", encoder_hidden, most=WIDEST)
        self._sizes: dict[str, Any] = {
            "n_transforms": positive_integer_or_none("n_transforms", n_transforms, most=DEEPEST),
            "flow_hidden": flow_hidden or FLOW_HIDDEN,
            "encoder_hidden": encoder_hidden or ENCODER_HIDDEN,
        }
        self.module = self._new_module()
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        modalities: Mapping[str, str | Mapping[str, str | None] | None] | Sequence[str],
        design: str | None = None,
        batch_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        round_counts: bool = False,
        source_registry: dict[str, Any] | None = None,
    ) -> None:
        """Register a MuData as `scpln.model.setup_mudata` does, which see; `source_registry` is for loading a model."""
        manager = register_mudata(
            mdata,
            source_registry,
            modalities=modalities,
            design=design,
            batch_key=batch_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
            round_counts=round_counts,
        )
        adopt(cls, mdata, manager)

    @property
    def _sizes_of_modalities(self) -> dict[str, int]:
        """Number of genes of each modality of a MuData."""
        return modality_sizes(states(self.registry))

    @property
    def _closer_posteriors(self) -> str:  # type: ignore[override]
        return REFINE if self.amortized else 'take posterior="flow"' if self.posterior != "flow" else "more n_steps"

    def _new_likelihood(self) -> Likelihood:
        """The likelihood of the model's genes, as it starts."""
        return likelihood_of_genes(self.likelihood, self._sizes_of_modalities, len(self.genes))

    def _new_approximation(self, n_importance_samples: int, seed: int = 0) -> Approximation | None:
        """What cells share besides B and C; None if each has a Gaussian of its own.

        The importance-weighted bound has its optimum at other Gaussians, which an affine flow moves these to.
        """
        flow = self.flow
        if flow is None and not self.amortized and n_importance_samples > 1:
            flow = "affine"
        if flow is None and not self.amortized:
            return None
        with torch_random(seed):
            return Approximation.build(
                len(self.genes),
                len(self.covariates),
                self.n_latent,
                amortized=self.amortized,
                diagonal=self.posterior == "meanfield",
                flow=flow,
                n_groups=len(self._sizes_of_modalities),
                by_entry=has_entries(self.registry),
                **self._sizes,
            )

    def _new_module(self, approximation: Approximation | None = None, n_components: int | None = None) -> PLNPCAModule:
        """Module that is not trained."""
        return PLNPCAModule.empty(
            len(self.genes),
            len(self.covariates),
            self.n_latent,
            likelihood=self._new_likelihood(),
            approximation=approximation,
            prior=self._new_prior(n_components),
        )

    def _empty_module(self, tensors: dict[str, torch.Tensor]) -> PLNPCAModule:
        shared, loc = any(name.startswith("approximation.") for name in tensors), tensors.get("generative.prior.loc")
        module = self._new_module(self._new_approximation(2) if shared else None, None if loc is None else len(loc))
        if "spread" in tensors:
            module.register_buffer("spread", torch.zeros_like(tensors["spread"]))
        return module

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = self._empty_module(tensors)
        self.module.load(tensors)

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
        """Posterior and, if asked for, bound of each cell: stored ones of training cells, or new ones."""
        self._require_trained()
        batch_size, refine = self._check_inference(batch_size, refine)
        seed, positions = resolve_seed(seed), self._positions(adata, indices)
        stored = self._is_training_data(adata, positions)
        if stored and not refine:
            posterior, values = self.module.posterior(positions), self.module.elbo.cpu().numpy()
            values = values if positions is None else values[positions]
            known = not np.isnan(values).any()  # Ctrl-C may end training before they are there
            known &= not (self._is_weighted and with_elbo == "exact")
            if not with_elbo or (known and (seed == STORED_SEED or self.module.has_exact_bound(posterior))):
                return posterior, values
        cells = self._read(adata, positions)
        data, module = cells.data, on_cpu(self.module)
        settings = {"batch_size": batch_size, "n_threads": scvi.settings.num_threads}
        if stored:
            posterior = module.posterior(positions)
        else:
            posterior = infer_posterior(module, data, self._gaussian_family, names=cells.names, **settings)
        if refine:
            options = {"seed": seed, "names": cells.names, **settings}
            posterior = refine_posterior(module, data, posterior, self._gaussian_family, refine, **options)
        values = np.empty(0)
        if self._is_weighted and with_elbo is True:
            draws = int(self.training_["bound_samples"]), int(self.training_["seed"])
            values, _ = weighted_bounds(module, data, posterior, *draws, positions, scvi.settings.num_threads)
        elif with_elbo is True or (with_elbo and module.has_exact_bound(posterior)):
            values = bound(module.generative, data, posterior, positions=positions, seed=seed, **settings)
        return posterior, values

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        posterior, values = self._infer(adata, None, with_elbo=True)
        uns: dict[str, Any] = {
            "elbo": self._mean_bound(values, adata.obs_names),
            "n_latent_kept": self.n_latent_kept,
            "variance_explained": self.get_variance_explained().to_numpy(),
        }
        if self.modalities:
            uns["modalities"] = self.modalities
            uns["variance_explained_by_modality"] = {
                name: self.get_variance_explained(name).to_numpy() for name in self.modalities
            }
        annotation = Annotation(
            latent=self._expression_space().coordinates(on_cpu(self.module), posterior),
            obsm={"state": posterior.mean.astype(np.float32)},
            obs={"elbo": values, **self._diagnostic_columns(posterior, values, adata, diagnostics)},
            var=self.get_gene_parameters(),
            varm=self._loading_tables(self.module.posterior().mean),
            uns=uns,
            modalities=modality_slices(states(self.registry)),
        )
        if self._is_mixture:
            self._add_clusters(annotation, adata)
        return annotation
