"""The variational tree walk: counts on a tree, split along walks that nobody sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from scpln.core import Tree, after_training
from scpln.data import setup_args
from scpln.data.trees import read_tree
from scpln.inference import finite_mean, judged
from scpln.inference.treewalk import MOST_CHILDREN, GlobalWalk, LocalWalk
from scpln.model.base import Objective
from scpln.model.pln import MOST_PRECISE, training_options
from scpln.module.treewalk import GlobalWalkModule
from scpln.train import torch_random
from scpln.utils import as_bool, in_range, one_of, positive_integer

from ._local_module import LocalWalkModule
from ._results import WalkResults
from ._training import Stochastic, fit_walk

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

#: Kinds of walks; the default first.
WalkName = Literal["local", "exchangeable", "global"]
#: Most numbers of the state.
MOST_STATES = 1000


class TreeWalk(WalkResults):
    r"""Counts on a tree: the count of each node is split among its children in a hidden order, or along a hidden walk over the whole tree.

    .. math::
        p(y \mid N) = \prod_v \sum_\sigma p(\sigma) \prod_k \text{BetaBinomial}\Bigl(n_{\sigma_k} \Bigm| N_v - \sum_{j < k} n_{\sigma_j},
        \alpha_{\sigma_k S_k}, \beta_{\sigma_k S_k}\Bigr)

    over inner nodes v with counts :math:`N_v`, and orders σ of the children of each, which are Plackett–Luce. The concentrations of a split depend on the
    child and on which siblings S were placed before, not on their order, so that the sum over all orders is exact, by dynamic programming over subsets.
    Without such dependence, the model is the Dirichlet-tree multinomial. Global walks visit all inner nodes, parents before children, and the splits of a node depend
    on a recurrent state of what was visited before:

    .. math::
        p(y \mid N) = \sum_z p(z) \prod_v \text{DirichletMultinomial}\bigl(y_{\text{children of } v} \bigm| y_v, e^{x a + w h_v(z)}\bigr), \quad
        p(z_t \mid z_{<t}) \propto e^{-\lambda d(z_{t-1}, z_t) + a_{z_t}}

    of which a lower bound is maximised, with walks drawn given the counts of each sample. All of them say how counts are split, given the total of each sample, which
    is not modelled.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata`, for instance of `scpln.tl.composition`. Covariates (the design) change the concentrations.
        Size factors have no part in it.
    tree
        Tree whose leaves are the columns of the table: columns of ``var`` from coarse to fine, a ``networkx.DiGraph``, Newick text or a path to a file of
        it, a ``skbio.TreeNode``, or a name in the ``vart`` of a ``TreeData``. By default the one in ``vart``, the levels that `scpln.tl.composition` kept, or names
        such as ``"a|b|c"``. Nodes with one child are left out.
    walk
        ``"local"``, an order of the children of each node; ``"exchangeable"``, no order: the Dirichlet-tree multinomial; or ``"global"``, a walk over all inner
        nodes, whose splits depend on each other.
    max_children
        Most children of a node whose orders are summed over, up to 12; the time of a fit doubles with each. More are placed in one order, of their
        counts in all samples, the largest first: a generalised Dirichlet-multinomial split. Of ``walk="local"`` only.
    n_state
        Numbers of the state, of ``walk="global"`` only.
    prior_precision
        Inverse variance of the normal prior of coefficients other than intercepts.
    deviation_precision
        Inverse variance of the normal priors of all that tells the model from the Dirichlet-tree: what the siblings placed before do to a
        split, log-weights of the orders, and the policy and the state of global walks. The larger, the closer to the Dirichlet tree.
    registry
        For loading; leave it out.

    References
    ----------
    R. J. Connor and J. E. Mosimann (1969), Concepts of independence for proportions with a generalization of the Dirichlet distribution, JASA 64: 194-206. S. Y. Dennis (1991), On
    the hyper-Dirichlet type 1 and hyper-Liouville distributions, Communications in Statistics 20: 4069-4081. R. L. Plackett (1975), The analysis of permutations, Applied
    Statistics 24: 193-202.

    Examples
    --------
    >>> import numpy as np, scpln
    >>> cells = scpln.datasets.simulate(n_obs=2000, n_vars=10, n_latent=2)
    >>> cells.obs["library"] = np.arange(2000) % 20
    >>> cells.obs["type"] = np.random.default_rng(0).choice(["B", "CD4 T", "CD8 T", "NK"], 2000)
    >>> cells.obs["class"] = cells.obs["type"].str.split().str[-1]
    >>> adata = scpln.tl.composition(cells, "library", ["class", "type"])
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.TreeWalk(adata)
    >>> model.train(progress=False)
    >>> model.get_proportions().columns.tolist()
    ['root', 'B', 'NK', 'T', 'CD4 T', 'CD8 T']
    >>> model.annotate()
    >>> adata.obsm["treewalk_proportions"].shape
    (20, 6)
    """

    _objective = Objective("elbo", "nats per cell")

    def __init__(
        self,
        adata: AnnData | None = None,
        tree: Any = None,
        *,
        walk: WalkName = "local",
        max_children: int = 10,
        n_state: int = 8,
        prior_precision: float = 1e-2,
        deviation_precision: float = 3.0,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("walk", walk, get_args(WalkName))
        self.walk: WalkName = walk
        self.max_children = positive_integer("max_children", max_children, most=MOST_CHILDREN)
        self.n_state = positive_integer("n_state", n_state, most=MOST_STATES)
        self.prior_precision = in_range("prior_precision", prior_precision, 0, MOST_PRECISE)
        self.deviation_precision = in_range("deviation_precision", deviation_precision, 0, MOST_PRECISE)
        self._check_data()
        found = Tree.from_state(tree) if adata is None else read_tree(adata, tree)
        self.tree = found.without_only_children()
        self._leaves = np.array([self.genes.index(name) for name in self.tree.leaf_names])
        self.module = self._new_module()
        self.init_params_ = self._get_init_params(locals())
        self.init_params_["non_kwargs"]["tree"] = found.to_state()

    def _check_data(self) -> None:
        if not self.is_count_data:
            msg = "TreeWalk splits counts, and these data were set up as other values. Set up raw counts: scpln.model.setup_anndata(adata, layer=...)."
            raise ValueError(msg)
        if setup_args(self.registry).get("offset_key") is not None:
            msg = "TreeWalk is given the total of each sample, and has no place for offsets of entries. Set up the data without offset_key."
            raise ValueError(msg)
        if len(self.genes) < 2:
            msg = "TreeWalk needs a table of two columns or more: one count is not split."
            raise ValueError(msg)

    @property
    def uses_size_factors(self) -> bool:
        """Whether the model is given size factors: no, it is given the total counts of samples."""
        return False

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-5,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
        n_walks: int = 4,
        batch_size: int = 64,
        learning_rate: float = 1e-2,
    ) -> None:
        """Maximise the log-likelihood, plus the log-prior, of the split of each node, one after the other; or the bound, plus the log-prior, of global walks.

        Global walks begin at the Dirichlet tree, and take stochastic gradients (Adam; leave-one-out REINFORCE for the walks). Ctrl-C stops early and keeps the best parameters so far. Training again starts anew.

        Parameters
        ----------
        max_epochs
            At most so many iterations for each node, or epochs of global walks; by default 1,000, and of global walks as many as make 2,000 steps.
        tol
            A node has converged when an iteration gains less than this, nats per cell; global walks, when means over 100 steps gain less five times in a row.
        seed
            Of global walks: first values, order of samples, draws. By default ``scvi.settings.seed``, or 0.
        n_threads
            Threads of global walks; one computes the rest.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.
        n_walks, batch_size, learning_rate
            Of global walks: walks of each sample in a step, from 2 on, samples in a step, and the largest learning rate.
        """
        stochastic = Stochastic.checked(n_walks, batch_size, learning_rate)
        if max_epochs is None and self.walk == "global":
            max_epochs = stochastic.default_epochs(self.summary_stats.n_cells)
        progress, options = as_bool("progress", progress), training_options(max_epochs, tol, seed, n_threads)
        cells = self._read(None)
        data = self._tree_counts(cells.data)
        self.module, converged, reason, history = fit_walk(self, data, options, stochastic, progress=progress)

        def summarize() -> dict[str, Any]:
            values = self._walk(options["seed"]).elbo(data)
            is_sure, why = judged(converged, reason, values)
            return {"elbo": finite_mean(values), "converged": is_sure, "reason": why}

        summary, ended = after_training(summarize, {"elbo": float("nan"), "converged": converged}, reason)
        training = {"reason": ended, **summary, "n_parameters": self._n_parameters()}
        more = vars(stochastic) if self.walk == "global" else {}
        self._finish_training(cells, {**training, **options, **more}, {"objective": history})

    def _n_parameters(self) -> int:
        """Those that were estimated, without those of the approximate posterior of walks."""
        if isinstance(self.module, GlobalWalkModule):
            every = self.module.named_parameters()
            return sum(value.numel() for name, value in every if not name.startswith("proposal."))
        n_columns, found = len(self.covariates), 0
        for v in self.tree.inner:
            c = len(self.tree.children[v])
            found += n_columns * c
            if self.walk == "local":
                found += c if c > self.max_children else 2 * c + 2 * c * (c - 1)
        return found

    def _new_module(self) -> torch.nn.Module:
        """Module that is not trained."""
        if self.walk == "global":
            with torch_random(0):
                return GlobalWalkModule(self.tree, len(self.covariates), self.n_state).requires_grad_(False)
        return LocalWalkModule(self.tree, len(self.covariates))

    def _walk(self, seed: int) -> LocalWalk | GlobalWalk:
        """The walk with the parameters of the module."""
        if isinstance(self.module, GlobalWalkModule):
            return GlobalWalk(self.tree, self.module, seed)
        walk: LocalWalk = self.module.walk()
        return walk

    def _params(self) -> dict[str, Any]:
        return {name: value for name, value in super()._params().items() if name != "tree"}

    def _data_in_words(self) -> dict[str, str]:
        tree = self.tree
        words = f"{len(tree.leaves):,} leaves, {len(tree.inner):,} inner nodes, {tree.depths.max()} levels"
        return {**super()._data_in_words(), "tree": words}
