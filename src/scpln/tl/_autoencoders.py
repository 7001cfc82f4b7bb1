"""Autoencoders as one call: data in, the same data annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ._docstrings import documented
from ._one_call import one_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@documented
def count_vae(
    adata: AnnData,
    *,
    n_latent: int = 10,
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    n_hidden: int = 128,
    n_layers: int = 1,
    likelihood: str = "nb",
    k_max: int | None = None,
    dispersion: Literal["gene", "gene-batch", "gene-cell"] = "gene",
    scale_activation: Literal["exp", "softmax"] = "exp",
    posterior: Literal["fullrank", "meanfield", "flow"] = "fullrank",
    flow: str | None = None,
    size_factors: bool = True,
    is_count_data: bool = True,
    round_counts: bool = False,
    key_added: str | None = None,
    diagnostics: bool = False,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Variational autoencoder of counts: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    {n_latent}
    {registration}
    {networks}
    {posterior}
    {size_factors}
    {is_count_data}
    {round_counts}
    {output}
    {more}
        ``encoder_hidden``, ``decoder_hidden``, ``flow_hidden``, ``dropout_rate``, …; ``max_epochs``, ``batch_size``,
        ``learning_rate``, ``early_stopping``, ``accelerator``, ``checkpoint_dir``, ``seed``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        Latent states: posterior means (n × q).
    {loadings}
    {elbo}

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> scpln.tl.count_vae(adata, n_latent=2, n_hidden=16, max_epochs=5, progress=False)
    >>> adata.obsm["X_countvae"].shape
    (200, 2)
    """
    return one_call(count_vae.__name__, **locals())


@documented
def count_gmvae(
    adata: AnnData,
    *,
    n_components: int | None = None,
    n_latent: int = 10,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    unlabeled_category: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    covariance: Literal["full", "diagonal"] = "full",
    component_posteriors: bool = False,
    n_hidden: int = 128,
    n_layers: int = 1,
    likelihood: str = "nb",
    k_max: int | None = None,
    dispersion: Literal["gene", "gene-batch", "gene-cell"] = "gene",
    scale_activation: Literal["exp", "softmax"] = "exp",
    posterior: Literal["fullrank", "meanfield", "flow"] = "fullrank",
    flow: str | None = None,
    size_factors: bool = True,
    is_count_data: bool = True,
    round_counts: bool = False,
    key_added: str | None = None,
    diagnostics: bool = False,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Gaussian-mixture variational autoencoder of counts, which clusters cells: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    n_components
        Components K of the mixture, at least the number of labels. None lets a held-out bound choose; with labels, as
        many as these.
    {n_latent}
    {registration}
    labels_key
        Column of ``obs`` with known labels of some cells, missing for the others. Each label then has a component of its
        own, in which the cells that have it are trained.
    unlabeled_category
        Category of `labels_key` whose cells have no label, such as ``"Unknown"``, besides those with a missing value.
    covariance
        Whether components have full or diagonal covariances.
    component_posteriors
        Whether the posterior of the latent state is another one for each component. It takes K times as long.
    {networks}
    {posterior}
    {size_factors}
    {is_count_data}
    {round_counts}
    {output}
    {more}
        ``weights``, ``encoder_hidden``, ``decoder_hidden``, ``dropout_rate``, …; ``max_epochs``, ``batch_size``,
        ``learning_rate``, ``early_stopping``, ``accelerator``, ``checkpoint_dir``, ``seed``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        Latent states: posterior means (n × q).
    ``obs["{key_added}_cluster"]``, ``obsm["{key_added}_cluster_probs"]``
        Most probable component of each cell (its label, where components stand for labels), and the probabilities of all
        of them (n × K).
    {loadings}
    {elbo}
        And the components' weights, means and covariances.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> scpln.tl.count_gmvae(adata, n_components=3, n_latent=2, n_hidden=16, max_epochs=5, progress=False)
    >>> adata.obsm["X_countgmvae"].shape, adata.obsm["countgmvae_cluster_probs"].shape
    ((200, 2), (200, 3))
    >>> list(adata.obs["countgmvae_cluster"].cat.categories)
    ['0', '1', '2']
    """
    return one_call(count_gmvae.__name__, **locals())


@documented
def count_vqvae(
    adata: AnnData,
    *,
    n_codes: int = 4,
    codebook_size: int = 16,
    quantizer: Literal["ema", "fsq"] = "ema",
    prior: Literal["autoregressive", "independent", "uniform"] = "autoregressive",
    prior_given: Literal["batch", "labels"] | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    n_hidden: int = 128,
    n_layers: int = 1,
    likelihood: str = "nb",
    k_max: int | None = None,
    dispersion: Literal["gene", "gene-batch", "gene-cell"] = "gene",
    scale_activation: Literal["exp", "softmax"] = "exp",
    size_factors: bool = True,
    is_count_data: bool = True,
    round_counts: bool = False,
    key_added: str | None = None,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Vector-quantized variational autoencoder of counts, which gives each cell a few discrete codes: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    n_codes, codebook_size
        Codes M of each cell, and values K that each of them can have.
    quantizer
        Codebooks that follow averages (``"ema"``), or a fixed grid (``"fsq"``).
    prior, prior_given
        Of the codes: ``"autoregressive"``, ``"independent"`` or ``"uniform"``; and what it is given: ``"batch"``, ``"labels"`` or nothing.
    {registration}
    labels_key
        Column of ``obs`` with labels of cells, for ``prior_given="labels"``.
    {networks}
    {size_factors}
    {is_count_data}
    {round_counts}
    key_added, copy
        Start of the names of results, by default ``"countvqvae"``; and whether to return an annotated copy instead of annotating `adata`.
    {more}
        ``code_dim``, ``gradient``, ``commitment``, ``decay``, ``code_dropout``, …; ``max_epochs``, ``batch_size``, ``learning_rate``, ``early_stopping``,
        ``accelerator``, ``checkpoint_dir``, ``seed``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        Vectors of the codes of each cell (n × q).
    ``obsm["{key_added}_codes"]``
        Its codes (n × M), the numbers 0 to K − 1.
    ``obs["{key_added}_elbo"]``
        Each cell's contribution to the bound, nats.
    ``var["{key_added}_inverse_dispersion"]``, ``var["{key_added}_zero_inflation"]``
        Parameters that the likelihood has by gene.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, bound per cell, history, keys used.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> scpln.tl.count_vqvae(adata, n_codes=2, codebook_size=4, n_hidden=16, max_epochs=5, progress=False)
    >>> adata.obsm["countvqvae_codes"].shape
    (200, 2)
    """
    return one_call(count_vqvae.__name__, diagnostics=False, **locals())
