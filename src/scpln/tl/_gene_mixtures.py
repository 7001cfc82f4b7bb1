"""Mixtures and discriminant analysis in gene space as one call: data in, the same data annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ._docstrings import documented
from ._one_call import one_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData


@documented
def pln_mixture(
    adata: AnnData,
    *,
    n_components: int | Sequence[int] | None = None,
    covariance: Literal["full", "diagonal", "spherical", "factor"] = "full",
    n_factors: int | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    posterior: Literal["fullrank", "meanfield"] = "fullrank",
    round_counts: bool = False,
    key_added: str | None = None,
    diagnostics: bool = False,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Mixture of Poisson log-normal models in gene space: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    n_components
        Components K; several numbers, or None, to choose one by ICL.
    covariance
        Family of the components' covariances between genes.
    n_factors
        Factors of ``"factor"``.
    {registration}
    posterior
        Variational family: ``"fullrank"``, Gaussians with any covariance, or ``"meanfield"``, with diagonal ones.
    {round_counts}
    {output}
    {more}
        ``prior_precision``; ``max_epochs``, ``tol``, ``seed``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obs["{key_added}_cluster"]``, ``obsm["{key_added}_cluster_probs"]``
        Most probable component of each cell, and the probabilities of all of them (n × K).
    ``obsm["X_{key_added}"]``
        How the log-rates of each cell differ from what its size factor and covariates say: posterior means (n × p).
    ``varm["{key_added}_means"]``
        Mean log-rates of the components (p × K).
    ``varm["{key_added}_coefficients"]``
        Coefficients of the design's columns (p × d), whose names are in ``uns["{key_added}"]["covariates"]``.
    ``obs["{key_added}_elbo"]``
        Each cell's contribution to the bound, nats.
    ``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
        How close its posterior is to the exact one, with `diagnostics`.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, components, what each number of them is worth, history, keys used.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> scpln.tl.pln_mixture(adata, n_components=2, covariance="spherical", progress=False)
    >>> adata.obsm["plnmixture_cluster_probs"].shape
    (100, 2)
    """
    return one_call(pln_mixture.__name__, **locals())


@documented
def pln_lda(
    adata: AnnData,
    labels_key: str,
    *,
    unlabeled_category: str | None = None,
    priors: Literal["empirical", "uniform"] | Mapping[Any, float] = "empirical",
    covariance: Literal["full", "diagonal", "spherical"] = "full",
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    posterior: Literal["fullrank", "meanfield"] = "fullrank",
    round_counts: bool = False,
    key_added: str | None = None,
    diagnostics: bool = False,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Discriminant analysis of counts by a Poisson log-normal model: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    labels_key
        Column of ``obs`` with labels; cells where it is missing are labelled.
    unlabeled_category
        Category of the labels whose cells have no label, such as ``"Unknown"``.
    priors
        Probabilities of the labels: ``"empirical"``, ``"uniform"``, or a mapping.
    covariance
        Family of the covariance between genes within labels.
    {registration}
    posterior
        Variational family: ``"fullrank"``, Gaussians with any covariance, or ``"meanfield"``, with diagonal ones.
    {round_counts}
    {output}
    {more}
        ``prior_precision``; ``max_epochs``, ``tol``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obs["{key_added}_cluster"]``, ``obsm["{key_added}_cluster_probs"]``
        Most probable label of each cell by its counts, and the probabilities of all (n × labels).
    ``obsm["X_{key_added}"]``
        Cells along the discriminant axes (n × axes).
    ``varm["{key_added}_means"]``, ``varm["{key_added}_axes"]``
        Mean log-rates of the labels (p × labels), and the axes (p × axes).
    ``varm["{key_added}_coefficients"]``, ``varp["{key_added}_correlation"]``
        Coefficients of the design's columns (p × d), and correlation of log-rates between genes within labels (p × p).
    ``obs["{key_added}_elbo"]``
        Each cell's contribution to the bound without its label, nats.
    ``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
        How close its posterior is to the exact one, with `diagnostics`.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, components, history, keys used.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> adata.obs["side"] = ["left" if z > 0 else "right" for z in adata.obsm["true_latent"][:, 0]]
    >>> scpln.tl.pln_lda(adata, "side", progress=False)
    >>> adata.obs["plnlda_cluster"].cat.categories.to_list()
    ['left', 'right']
    """
    return one_call(pln_lda.__name__, **locals())
