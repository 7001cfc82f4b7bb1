"""The vector-quantized variational autoencoder of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scvi
import torch
from scvi import REGISTRY_KEYS

from scpln.data import cell_positions, has_entries, read_labels, setup_args, states
from scpln.inference.codes import code_bounds, improve_codes
from scpln.model.abilities import LikelihoodParameters, Predictive, PriorPredictive
from scpln.model.autoencoder import Architecture, resolve_likelihood
from scpln.model.base import Annotation
from scpln.module.codes import VQVAEModule
from scpln.module.encoders import CodeEncoder
from scpln.train import Minibatches, torch_threads
from scpln.utils import as_bool, resolve_seed

from ._generation import Generation
from ._options import CodeOptions
from ._training import CodeTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.model.autoencoder import Dispersion, ScaleActivation, Start
    from scpln.module import Posterior
    from scpln.module.codes import GradientName

    from ._options import GivenName, PriorName, QuantizerName


class CountVQVAE(Generation, CodeTraining, LikelihoodParameters, Predictive, PriorPredictive):
    r"""Vector-quantized variational autoencoder of counts: the state of a cell is a few codes.

    .. math::
        k_{im} = \arg\min_k \|h_m(y_i, x_i) - E_{mk}\|, \quad z_i = (E_{1 k_{i1}}, \dots, E_{M k_{iM}}), \quad
        \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j + W_j \cdot h(z_i, x_i), \quad y_{ij} \sim p(y \mid \eta_{ij})

    with an encoder that gives vectors at M positions, a codebook E of K vectors at each, and the decoder of `CountVAE`. Each cell is one of :math:`K^M` states, and one of K with one
    position. Every number that is reported is a bound,

    .. math:: \log p(y_i) \ge \log p(y_i \mid z(k_i)) + \log p(k_i),

    with a prior of codes that is learned of the training cells' codes; a uniform one is −M log K. So numbers of codes, and this model and others, can be compared.

    Parameters
    ----------
    adata
        Annotated data, after `scpln.model.setup_anndata`.
    n_codes
        Positions M.
    codebook_size
        Codes K at each position.
    code_dim
        Dimensions D of a code's vector, of ``"ema"``; by default 16 divided by M, and at least 2. Of ``"fsq"`` they follow from K.
    quantizer
        What the codes are: ``"ema"``, codebooks that follow the means of what they are chosen for, by exponential moving averages; or ``"fsq"``, finite scalar
        quantization, a fixed grid on which no code can be lost.
    prior
        Of the codes: ``"autoregressive"``, each given those before it, by a masked network; ``"independent"``, shares at each position; or ``"uniform"``.
    prior_given
        What the prior is given: ``"batch"``, or ``"labels"``, over which bounds sum, so that cells need none; by default nothing. Both are
        columns that `scpln.model.setup_anndata` was told, and what `sample` may ask for.
    gradient
        How the encoder learns past the choice of a code: ``"straight_through"`` or ``"rotation"`` (the rotation trick). Of ``"fsq"``, straight through.
    commitment
        Weight β of the squared distance of what the encoder gives from its codes, of ``"ema"``.
    decay
        Share γ that codebooks keep of their averages in a step.
    restart
        Whether codes that are hardly chosen any more begin anew at a cell of the present batch.
    code_dropout
        Probability by which a cell is decoded from its first codes alone in training, so that the first ones say the most.
    n_hidden, n_layers, encoder_hidden, decoder_hidden, likelihood, k_max, dispersion, scale_activation, size_factors, encode_covariates, dropout_rate
        As of `CountVAE`.
    registry
        For loading; leave it out.

    References
    ----------
    A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), Neural discrete representation learning, NeurIPS. F. Mentzer, D. Minnen, E. Agustsson and M. Tschannen (2024),
    Finite scalar quantization: VQ-VAE made simple, ICLR.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.CountVQVAE(adata, n_codes=2, codebook_size=4, n_hidden=16)
    >>> model.train(max_epochs=5, progress=False)
    >>> model.get_codes().shape
    (200, 2)
    >>> model.annotate()
    >>> adata.obsm["X_countvqvae"].shape, adata.obsm["countvqvae_codes"].shape
    ((200, 16), (200, 2))
    """

    module: VQVAEModule

    def __init__(
        self,
        adata: AnnData | None = None,
        n_codes: int = 4,
        codebook_size: int = 16,
        *,
        code_dim: int | None = None,
        quantizer: QuantizerName = "ema",
        prior: PriorName = "autoregressive",
        prior_given: GivenName | None = None,
        gradient: GradientName = "straight_through",
        commitment: float = 1.0,
        decay: float = 0.9,
        restart: bool = True,
        code_dropout: float = 0.1,
        n_hidden: int = 128,
        n_layers: int = 1,
        encoder_hidden: Sequence[int] | None = None,
        decoder_hidden: Sequence[int] | None = None,
        likelihood: str = "nb",
        k_max: int | None = None,
        dispersion: Dispersion = "gene",
        scale_activation: ScaleActivation = "exp",
        size_factors: bool = True,
        encode_covariates: bool = True,
        dropout_rate: float = 0.0,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        likelihood, scale_activation = resolve_likelihood(likelihood, scale_activation, loading=registry is not None)
        self.options = CodeOptions.of(
            n_codes=n_codes,
            codebook_size=codebook_size,
            code_dim=code_dim,
            quantizer=quantizer,
            prior=prior,
            prior_given=prior_given,
            gradient=gradient,
            commitment=commitment,
            decay=decay,
            restart=restart,
            code_dropout=code_dropout,
        )
        self.architecture = Architecture.of(
            n_latent=self.options.n_latent,
            n_hidden=n_hidden,
            n_layers=n_layers,
            encoder_hidden=encoder_hidden,
            decoder_hidden=decoder_hidden,
            likelihood=likelihood,
            k_max=k_max,
            posterior="meanfield",
            flow=None,
            n_transforms=None,
            flow_hidden=None,
            dispersion=dispersion,
            scale_activation=scale_activation,
            encode_covariates=encode_covariates,
            dropout_rate=dropout_rate,
        )
        self.size_factors = size_factors = as_bool("size_factors", size_factors)
        self._check_data()
        self.module = self._untrained()  # type: ignore[assignment]
        n_codes, codebook_size, restart = self.options.n_codes, self.options.codebook_size, self.options.restart
        n_hidden, n_layers, k_max = int(n_hidden), int(n_layers), self.architecture.k_max
        self.init_params_ = self._get_init_params(locals())

    def _check_data(self) -> None:
        super()._check_data()
        if self.options.prior_given is not None:
            name = f"{self.options.prior_given}_key"
            if setup_args(self.registry)[name] is None:
                msg = f"prior_given={self.options.prior_given!r} needs a column of obs: name it in setup_anndata(..., {name}=...)."
                raise ValueError(msg)
            self._require_labels(self._n_groups > 0)

    def _require_labels(self, found: bool) -> None:
        if not found:
            msg = "prior_given='labels' needs labels of some cells, and all are missing in the labels_key of setup_anndata. Leave it out."
            raise ValueError(msg)

    def _make_module(
        self, start: Start | None = None, labels: NDArray[np.int64] | None = None, seed: int = 0
    ) -> VQVAEModule:
        n_genes, n_covariates, n_batches = self._sizes()
        likelihood = self.architecture.make_likelihood(n_genes)
        encoding = self.architecture.encoder_arguments(n_genes, n_covariates, has_entries(self.registry))
        del encoding["diagonal"]
        return VQVAEModule(
            self.architecture.make_decoder(likelihood, n_covariates, n_batches),
            likelihood,
            CodeEncoder(**encoding),
            self.options.make_quantizer(),
            self.options.make_prior(self._n_groups),
            int(self.summary_stats.n_cells),
            commitment=self.options.commitment if self.options.quantizer == "ema" else 0.0,
            code_dropout=self.options.code_dropout,
        )

    @property
    def _n_groups(self) -> int:
        """Groups that the prior of codes may be given."""
        given = self.options.prior_given
        if given == "batch":
            return self._sizes()[2] if self.query_ is None else int(self.query_["n_batches"])
        return 1 if given is None else len(states(self.registry)[REGISTRY_KEYS.LABELS_KEY]["categorical_mapping"])

    def _groups_to_learn(self, data: CountData) -> NDArray[np.int64] | None:
        if self.options.prior_given != "labels" or self.query_ is not None:
            return self._groups_of(data)
        assert self.adata is not None
        labels = read_labels(self.adata, self.registry)
        self._require_labels(labels is not None and bool((labels[0] >= 0).any()))
        return None if labels is None else labels[0]

    def _groups_of(self, data: CountData) -> NDArray[np.int64] | None:
        """Groups (n,) that the prior is given in bounds: batches that it knows, over which it sums for others, as over labels."""
        if self.options.prior_given != "batch" or data.batches is None:
            return None
        return np.where(data.batches < self._n_groups, data.batches, -1)

    @torch.no_grad()
    def _codes_of(self, data: CountData, batch_size: int | None = None) -> NDArray[np.int64]:
        with torch_threads(scvi.settings.num_threads or 1):
            batches = Minibatches(data, data.block_size(batch_size)).in_order()
            parts = [self.module.encode(batch.to(self.module.device))["codes"].cpu() for _, batch in batches]
        return torch.cat(parts).numpy()

    def _bounds_of(self, data: CountData, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        groups, n_threads = self._groups_of(data), scvi.settings.num_threads or 1
        return code_bounds(data, self.module, codes, groups, n_threads=n_threads).elbo

    def _infer(
        self,
        adata: AnnData | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool | Literal["exact"] = False,
        seed: int | None = None,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """The state of each cell, and if asked for its bound; codes are refined by passes over all positions."""
        data, codes = self._data_and_codes(adata, indices, batch_size=batch_size, refine=refine, seed=seed)
        posterior = self.module.compose({"codes": torch.from_numpy(codes)})
        return posterior, self._bounds_of(data, codes) if with_elbo else np.empty(0)

    def _data_and_codes(
        self,
        adata: AnnData | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> tuple[CountData, NDArray[np.int64]]:
        """Counts of the chosen cells, and their codes."""
        self._require_trained()
        (batch_size, refine), _ = self._check_inference(batch_size, refine), resolve_seed(seed)
        adata = self._data_or_own(adata)
        data = self._read(adata, cell_positions(indices, adata.n_obs)).data
        codes = self._codes_of(data, batch_size)
        if refine:
            n_threads = scvi.settings.num_threads or 1
            codes = improve_codes(data, self.module, codes, self._groups_of(data), n_sweeps=refine, n_threads=n_threads)
        return data, codes

    def _annotation(self, adata: AnnData, diagnostics: bool) -> Annotation:
        if as_bool("diagnostics", diagnostics):
            msg = "CountVQVAE has no diagnostics of posteriors: all probability is at a cell's codes. Leave diagnostics out."
            raise ValueError(msg)
        data, codes = self._data_and_codes(adata, None)
        values = self._bounds_of(data, codes)
        return Annotation(
            latent=self.module.compose({"codes": torch.from_numpy(codes)}).mean.astype(np.float32),
            obs={"elbo": values},
            obsm={"codes": codes},
            var=self.get_gene_parameters(),
            uns={
                "elbo": self._mean_bound(values, adata.obs_names),
                "n_codes": self.options.n_codes,
                "codebook_size": self.options.codebook_size,
            },
        )
