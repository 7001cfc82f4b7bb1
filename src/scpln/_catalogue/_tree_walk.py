"""The row of the tree walk."""

from __future__ import annotations

from ._entry import Entry, Option, Result
from ._gene_space import PRIOR_PRECISION
from ._shared import TREE

TREE_WALK = Entry(
    "treewalk",
    "scpln.model.TreeWalk",
    "counts on a tree, split along hidden walks",
    "A model of counts on a tree, in which the count of each node is split among its children in a hidden order, or along a hidden walk over the whole tree.",
    function="tree_walk",
    page="models/treewalk",
    options=(
        TREE,
        Option(
            "walk",
            "an order of the children of each node; none, which is the Dirichlet-tree multinomial; or a walk over all inner nodes",
            "choice",
            choices=("local", "exchangeable", "global"),
            default="local",
        ),
        Option(
            "max_children", "most children of a node whose orders are summed over, up to 12", metavar="C", default=10
        ),
        Option(
            "deviation_precision",
            "inverse variance of the normal prior of all that tells it from the Dirichlet tree",
            "number",
            default=3.0,
        ),
        Option("n_state", "numbers of the recurrent state of global walks", metavar="H", default=8),
        PRIOR_PRECISION,
    ),
    defaults={"max_epochs": 1000, "n_threads": "all"},
    has_latent=False,
    results=(
        Result(('obs["KEY_elbo"]',), "each cell's contribution to the bound, nats"),
        Result(('obsm["KEY_proportions"]',), "centred log-ratios of the shares of siblings, of every node"),
        Result(('obsm["KEY_visit_ranks"]',), "mean places of inner nodes in global walks", always=False),
    ),
    figures=("tree",),
)
