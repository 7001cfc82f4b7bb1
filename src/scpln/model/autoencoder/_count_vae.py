"""The variational autoencoder of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln.data import has_entries
from scpln.module import Generative, VAEModule
from scpln.utils import as_bool

from ._architecture import Architecture, resolve_likelihood
from ._autoencoder import Autoencoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.model.base import PosteriorName

    from ._architecture import Dispersion, ScaleActivation
    from ._start import Start


class CountVAE(Autoencoder):
    r"""Variational autoencoder of counts.

    .. math::
        z_i \sim N(0, I_q), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j + W_j \cdot h(z_i, x_i), \quad
        y_{ij} \sim p(y \mid \eta_{ij})

    with known log size factors o, design x, and a multilayer perceptron h. An encoder, another network, gives the
    posterior :math:`q(z_i \mid y_i)` of any cell, and the evidence lower bound

    .. math:: \text{ELBO}_i = E_{q(z \mid y_i)}[\log p(y_i \mid z) + \log p(z) - \log q(z \mid y_i)]

    is maximised over both by stochastic gradients. Without hidden layers in the decoder (``n_layers=0``) this is
    PLN-PCA with an encoder.

    Parameters
    ----------
    adata
        Annotated data, after `scpln.model.setup_anndata`.
    n_latent
        Latent dimensions q.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder. 0 layers make the decoder linear.
    encoder_hidden, decoder_hidden
        Widths of the hidden layers of either, in place of these.
    likelihood
        Distribution of the counts: ``"nb"`` (negative binomial), ``"poisson"``, ``"zip"`` and ``"zinb"`` (with zero
        inflation), ``"poisson_lognormal"`` (with a normal disturbance of every log-rate); ``"bernoulli"``, for whether a
        count is not zero; or ``"gaussian"``, for real-valued data.
    k_max
        Give counts below `k_max` probabilities of their own, from the decoder, and let the likelihood be that of the
        rest, shifted: a piecewise-categorical likelihood.
    posterior
        Variational family: ``"fullrank"``, Gaussians with any covariance; ``"meanfield"``, with a diagonal one;
        ``"flow"``, a normalizing flow on top of full-rank Gaussians.
    flow, n_transforms, flow_hidden
        Kind of flow, ``"sylvester"`` by default (see `PLNPCA`), its transforms, and widths of its networks.
    dispersion
        Whether parameters of the likelihood besides the rate (inverse dispersion, zero inflation) are those of a gene
        (``"gene"``), of a gene in a batch (``"gene-batch"``), or of a gene in a cell, from the decoder
        (``"gene-cell"``).
    scale_activation
        How the decoder's output becomes rates: ``"exp"``, each gene's by itself; or ``"softmax"``, as in scvi-tools,
        shares of the total count of the cell's size factor, with any likelihood of counts.
    size_factors
        Whether log-rates have the known log size factors. Otherwise the latent state has to explain them. Bounds with
        and without are not comparable: the former are conditional on the size factors.
    encode_covariates
        Whether batch and covariates are inputs of the encoder too, besides the decoder.
    dropout_rate
        Probability by which hidden units are left out in training.
    registry
        For loading; leave it out.

    References
    ----------
    D. Kingma and M. Welling (2014), Auto-encoding variational Bayes, ICLR. C. Grønbech, M. Vording, P. Timshel,
    C. Sønderby, T. Pers and O. Winther (2020), scVAE: variational auto-encoders for single-cell gene expression data,
    Bioinformatics 36(16): 4415-4422.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.CountVAE(adata, n_latent=2, n_hidden=16)
    >>> model.train(max_epochs=5, progress=False)
    >>> model.annotate()
    >>> adata.obsm["X_countvae"].shape
    (200, 2)
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 10,
        *,
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
        self.size_factors = size_factors = as_bool("size_factors", size_factors)
        self._check_data()
        self.module = self._untrained()
        n_latent, n_hidden, n_layers, k_max = self.n_latent, int(n_hidden), int(n_layers), self.architecture.k_max
        self.init_params_ = self._get_init_params(locals())

    def _make_module(
        self, start: Start | None = None, labels: NDArray[np.int64] | None = None, seed: int = 0
    ) -> VAEModule:
        n_genes, n_covariates, n_batches = self._sizes()
        likelihood = self.architecture.make_likelihood(n_genes)
        decoder = self.architecture.make_decoder(likelihood, n_covariates, n_batches)
        approximation = self.architecture.make_approximation(n_genes, n_covariates, has_entries(self.registry))
        return VAEModule(Generative(decoder, likelihood), approximation, self.summary_stats.n_cells)
