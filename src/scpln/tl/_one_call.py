"""Models as one call: data in, the same data annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scpln._catalogue import of_function
from scpln.utils import as_bool

from ._docstrings import documented
from ._fit import fit, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from scpln.data import Data


@documented
def plnpca(
    adata: AnnData | MuData,
    *,
    n_latent: int = 10,
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    modalities: Mapping[str, str | Mapping[str, str | None] | None] | Sequence[str] | None = None,
    posterior: Literal["fullrank", "meanfield", "flow"] = "fullrank",
    likelihood: str | Mapping[str, str] = "poisson",
    amortized: bool = False,
    flow: str | None = None,
    is_count_data: bool = True,
    round_counts: bool = False,
    key_added: str | None = None,
    diagnostics: bool = False,
    copy: bool = False,
    **more: Any,
) -> AnnData | MuData | None:
    """Poisson log-normal PCA: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
        Or a MuData, with `modalities`.
    {n_latent}
    {registration}
    modalities
        Of a MuData, the modalities to model together and where the counts of each are: see
        :func:`scpln.model.setup_mudata`. Its batches and covariates are columns of ``mdata.obs``.
    {posterior}
    likelihood
        Distribution of the counts: ``"poisson"``, ``"nb"``, ``"zip"``, ``"zinb"``, ``"poisson_lognormal"`` or ``"bernoulli"``;
        or ``"gaussian"``, for other values. Of modalities, one for all, or a mapping with one for each.
    amortized
        Whether an encoder gives the posteriors from the counts, in place of an optimum for each cell.
    {is_count_data}
    {round_counts}
    {output}
    {more}
        ``prior``, ``n_transforms``, ``flow_hidden``, ``encoder_hidden``; ``max_epochs``, ``n_steps``, ``n_importance_samples``,
        ``seed``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        Cells for neighbours, clusters and embeddings: principal components of the expression that their latent states
        stand for (n × components kept), see :meth:`scpln.model.PLNPCA.get_latent_representation`.
    ``obsm["{key_added}_state"]``
        Latent states: posterior means (n × q), components ordered by the variance of log-rates that they explain.
    ``obs["{key_added}_cluster"]``, ``obsm["{key_added}_cluster_probs"]``
        With a mixture prior (``n_components``): most probable component of each cell, and the probabilities of all of them
        (n × K).
    ``varm["{key_added}_loadings"]``
        Loadings (p × q); of a MuData, those of each modality in the modality.
    ``varm["{key_added}_expression_loadings"]``
        The same on the scale of expression, log(1 + rate), by which figures rank genes (p × q).
    {elbo}

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
    >>> adata.obsm["X_plnpca"].shape
    (700, 5)

    Two modalities together:

    >>> mdata = scpln.datasets.simulate_multimodal(100, {"rna": 30, "prot": 8}, density={"prot": 0.9})
    >>> scpln.tl.plnpca(
    ...     mdata, modalities=["rna", "prot"], n_latent=2, likelihood={"rna": "poisson", "prot": "nb"}, progress=False
    ... )
    >>> mdata.obsm["X_plnpca"].shape, mdata["prot"].varm["plnpca_loadings"].shape
    ((100, 2), (8, 2))
    """
    return _one_call(plnpca.__name__, **locals())


@documented
def pln(
    adata: AnnData,
    *,
    covariance: Literal["full", "diagonal", "spherical", "fixed", "kernel"] = "full",
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    posterior: Literal["fullrank", "meanfield"] = "fullrank",
    given: Any = None,
    round_counts: bool = False,
    key_added: str | None = None,
    diagnostics: bool = False,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Poisson log-normal model in gene space: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    covariance
        Family of the covariance between genes; ``"fixed"`` and ``"kernel"`` take a matrix, `given`.
    {registration}
    posterior
        Variational family: ``"fullrank"``, Gaussians with any covariance, or ``"meanfield"``, with diagonal ones, whose bound is
        much lower here.
    given
        Matrix of genes × genes, or the name of an entry of ``varp``.
    {round_counts}
    {output}
    {more}
        ``prior_precision``; ``max_epochs``, ``tol``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        How the log-rates of each cell differ from what its size factor and covariates say: posterior means (n × p).
    ``varp["{key_added}_correlation"]``
        Correlation of log-rates between genes (p × p).
    ``varm["{key_added}_coefficients"]``
        Coefficients of the design's columns (p × d), whose names are in ``uns["{key_added}"]["covariates"]``.
    ``obs["{key_added}_elbo"]``
        Each cell's contribution to the bound, nats.
    ``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
        How close its posterior is to the exact one, with `diagnostics`.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, bound per cell, history, keys used.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> scpln.tl.pln(adata, progress=False)
    >>> adata.varp["pln_correlation"].shape
    (8, 8)
    """
    return _one_call(pln.__name__, **locals())


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
    return _one_call(count_vae.__name__, **locals())


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
    return _one_call(count_gmvae.__name__, **locals())


def _one_call(
    function: str,
    /,
    adata: Data,
    *,
    key_added: str | None,
    diagnostics: bool,
    copy: bool,
    more: dict[str, Any],
    **named: Any,
) -> Any:
    """Fit the model of a function with the arguments that it was called with."""
    entry = of_function(function)
    model_class = entry.load_class()
    adata = adata.copy() if as_bool("copy", copy) else adata
    steps = split(model_class, adata, {**named, **more})
    key_added = entry.key if key_added is None else key_added
    fit(model_class, adata, steps, key_added=key_added, diagnostics=diagnostics)
    return adata if copy else None
