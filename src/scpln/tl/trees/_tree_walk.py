"""The tree walk as one call: data in, the same data annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scpln.tl._docstrings import documented
from scpln.tl._one_call import one_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@documented
def tree_walk(
    adata: AnnData,
    tree: Any = None,
    *,
    walk: Literal["local", "exchangeable", "global"] = "local",
    max_children: int = 10,
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
    """Counts on a tree, split in hidden orders or along hidden walks: set up, train and annotate in one call.

    {steps}

    Parameters
    ----------
    {adata}
    tree
        Tree whose leaves are the columns of the table: columns of ``var`` from coarse to fine, a ``networkx.DiGraph``, Newick text or a path to a file of
        it, a ``skbio.TreeNode``, or a name in ``vart``. By default the levels that `scpln.tl.composition` kept, the only tree in ``vart``, or names such as ``"a|b|c"``.
    walk
        ``"local"``, an order of the children of each node; ``"exchangeable"``, none: the Dirichlet-tree multinomial; or ``"global"``, a walk over all inner nodes,
        whose splits depend on each other.
    max_children
        Most children of a node whose orders are summed over, up to 12.
    {registration}
        Size factors have no part in this model, which is given totals, and `offset_key` is refused.
    {round_counts}
    key_added, copy
        Start of the names of results, by default ``"treewalk"``; and whether to return an annotated copy instead of annotating `adata`.
    {more}
        ``n_state``, ``prior_precision``, ``deviation_precision``; ``max_epochs``, ``tol``, ``n_walks``, ``seed``, ``progress``, …

    Returns
    -------
    {annotated}

    ``obsm["{key_added}_proportions"]``
        Centred log-ratios within siblings of posterior mean shares (n × nodes), with the nodes in the order of ``uns["{key_added}"]["tree"]["names"]``.
    ``obs["{key_added}_elbo"]``
        Log-likelihood of each sample given its total, or its lower bound of global walks, nats.
    ``obsm["{key_added}_visit_ranks"]``
        Of global walks, posterior mean places of inner nodes.
    ``uns["{key_added}"]``
        What was fitted and how: parameters, the tree, mean counts and proportions of its nodes, history, keys used.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=50, n_vars=6, n_latent=2)
    >>> adata.var["clade"] = ["x", "x", "x", "y", "y", "z"]
    >>> scpln.tl.tree_walk(adata, tree="clade", progress=False)
    >>> adata.obsm["treewalk_proportions"].shape
    (50, 9)
    """
    return one_call(tree_walk.__name__, diagnostics=False, **locals())
