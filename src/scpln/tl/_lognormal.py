"""Poisson log-normal models as one call: data in, the same data annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ._docstrings import documented
from ._one_call import one_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData


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
    design: str | None = None,
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
    return one_call(plnpca.__name__, **locals())


@documented
def pln(
    adata: AnnData,
    *,
    covariance: Literal["full", "diagonal", "spherical", "fixed", "kernel", "basis", "factor"] = "full",
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    likelihood: str = "poisson",
    posterior: Literal["fullrank", "meanfield"] = "fullrank",
    inference: Literal["variational", "importance", "quadrature", "nuts", "score_function"] = "variational",
    given: Any = None,
    basis: Any = None,
    penalty: float | Sequence[float] | Literal["bic", "ebic", "stars"] | None = None,
    n_factors: int | None = None,
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
        Family of the covariance between genes; ``"fixed"`` and ``"kernel"`` take a matrix, `given`, and ``"basis"`` directions,
        `basis`.
    {registration}
    likelihood
        Distribution of the counts: ``"poisson"``, ``"nb"``, ``"zip"``, ``"zinb"``, ``"poisson_lognormal"`` (with ``"fixed"`` and ``"basis"``) or
        ``"bernoulli"``.
    posterior
        Variational family: ``"fullrank"``, Gaussians with any covariance, or ``"meanfield"``, with diagonal ones, whose bound is
        much lower here.
    inference
        How coefficients and covariance are estimated: by the bound (``"variational"``), the importance-weighted one, the exact log-likelihood
        (``"quadrature"``: diagonal and spherical covariances), Monte-Carlo expectation maximisation (``"nuts"``: few genes), or for a
        ``likelihood`` that is a function (``"score_function"``).
    given
        Matrix of genes × genes, or the name of an entry of ``varp``.
    basis
        Orthonormal directions, genes × q, the name of an entry of ``varm``, or a fitted model.
    penalty
        Of the entries of the inverse covariance, for a sparse network of genes: a number, several, or the rule by which one is chosen.
    n_factors
        Factors of ``"factor"``.
    {round_counts}
    {output}
    {more}
        ``prior_precision``, ``zero_inflation``; ``n_samples``, ``max_epochs``, ``tol``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        How the log-rates of each cell differ from what its size factor and covariates say: posterior means (n × p).
    ``varp["{key_added}_correlation"]``
        Correlation of log-rates between genes (p × p).
    ``varp["{key_added}_network"]``
        Partial correlations of genes with edges (p × p, sparse), with a `penalty`.
    ``varm["{key_added}_loadings"]``
        Loadings of factors (p × q), of ``"factor"``.
    ``varm["{key_added}_coefficients"]``
        Coefficients of the design's columns (p × d), whose names are in ``uns["{key_added}"]["covariates"]``.
    ``varm["{key_added}_inflation_coefficients"]``
        Coefficients of the logit of zero inflation, with ``zero_inflation="covariates"``.
    ``var["{key_added}_inverse_dispersion"]``, ``var["{key_added}_zero_inflation"]``
        Parameters that the likelihood has by gene.
    ``obs["{key_added}_zero_inflation"]``
        Probability of an excess zero of each cell, with ``zero_inflation="cell"``.
    ``obs["{key_added}_elbo"]``
        Each cell's contribution to the bound, or its log-likelihood by quadrature, nats.
    ``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
        How close its posterior is to the exact one, with `diagnostics`; ``…_ess`` also of importance weights and NUTS.
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
    return one_call(pln.__name__, **locals())


@documented
def pln_ar(
    adata: AnnData,
    order_key: str,
    group_key: str | None = None,
    *,
    autoregression: Literal["scalar", "diagonal"] = "scalar",
    covariance: Literal["full", "diagonal", "spherical"] = "full",
    likelihood: Literal["poisson", "nb", "bernoulli"] = "poisson",
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    round_counts: bool = False,
    key_added: str | None = None,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Poisson log-normal model of series in gene space, with autoregression: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    order_key, group_key
        Columns of ``obs`` with the time or position of each sample, and with the series that it is of; one series if None.
    autoregression
        ``"scalar"``, one number for all genes, or ``"diagonal"``, one for each.
    covariance
        Family of the covariance between genes.
    likelihood
        Distribution of the counts.
    {registration}
    {round_counts}
    key_added, copy
        Start of the names of results, by default ``"plnar"``; and whether to return an annotated copy instead of annotating `adata`.
    {more}
        ``prior_precision``; ``max_epochs``, ``tol``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        How the log-rates of each sample differ from what its size factor and covariates say: posterior means (n × p).
    ``var["{key_added}_autoregression"]``
        Autoregression of each gene over a time step, whose length is in ``uns["{key_added}"]["time_step"]``.
    ``varm["{key_added}_coefficients"]``, ``varp["{key_added}_correlation"]``
        Coefficients of the design's columns (p × d), and correlation of log-rates between genes at the same time (p × p).
    ``var["{key_added}_inverse_dispersion"]``
        Of the negative binomial.
    ``obs["{key_added}_elbo"]``
        Each sample's share of the bound of its series, nats.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, history, keys used.

    Examples
    --------
    >>> import numpy as np, scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> adata.obs["day"], adata.obs["subject"] = np.arange(100) // 4, np.arange(100) % 4
    >>> scpln.tl.pln_ar(adata, "day", "subject", progress=False)
    >>> adata.obsm["X_plnar"].shape
    (100, 8)
    """
    return one_call(pln_ar.__name__, diagnostics=False, **locals())
