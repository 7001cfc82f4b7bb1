"""The Poisson log-normal model of counts on a tree as one call: data in, the same data annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln.tl._docstrings import documented
from scpln.tl._one_call import one_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@documented
def pln_tree(
    adata: AnnData,
    tree: Any = None,
    *,
    shrinkage: float = 20,
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
    diagnostics: bool = False,
    copy: bool = False,
    **more: Any,
) -> AnnData | None:
    """Poisson log-normal model of counts on a tree: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    tree
        Tree whose leaves are the columns of the table: columns of ``var`` from coarse to fine, a ``networkx.DiGraph``, Newick text or a path to a file of it, a
        ``skbio.TreeNode``, or a name in ``vart``; by default that of the table. See :class:`scpln.model.PLNTree`.
    shrinkage
        Samples that the prior of the covariance counts for.
    {registration}
    {round_counts}
    {output}
    {more}
        ``prior_precision``, ``amortized``, ``encoder_hidden``; ``max_epochs``, ``tol``, ``n_threads``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["X_{key_added}"]``
        How log-rates of the first level, and log-ratios of siblings below it, differ in each sample from what its size factor and covariates say: posterior
        means (n × leaves).
    ``obsm["{key_added}_proportions"]``
        Centred log-ratios of every node among its siblings, free of the noise of counting (n × nodes), whose names are ``uns["{key_added}"]["tree"]["names"][1:]``.
    ``varm["{key_added}_log_rates"]``
        Log-rate of the ancestor of each leaf on each level, of an average sample (leaves × levels).
    ``obs["{key_added}_elbo"]``
        Each sample's contribution to the bound, nats.
    ``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
        How close its posterior is to the exact one, with `diagnostics`.
    ``uns["{key_added}"]``
        What was fitted and how: ``tree`` (names of nodes, and the position of the parent of each), ``nodes`` (their mean counts and proportions),
        ``coefficients`` (nodes × covariates), ``covariances`` and ``transitions`` of each level, history, keys used.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=4, n_latent=1)
    >>> adata.var["family"] = ["a", "a", "b", "b"]
    >>> scpln.tl.pln_tree(adata, ["family"], progress=False)
    >>> adata.obsm["plntree_proportions"].shape
    (100, 6)
    """
    return one_call(pln_tree.__name__, **locals())
