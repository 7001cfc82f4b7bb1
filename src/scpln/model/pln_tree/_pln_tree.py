"""The Poisson log-normal model of counts on a tree."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from scpln.core import after_training
from scpln.inference.tree import SHRINKAGE, fit_pln_tree
from scpln.model.abilities import Bounds, ExactSampling, KeptPosteriors, PriorPredictive
from scpln.model.base import ENCODER_HIDDEN, REFINE, WIDEST, Annotation, warn_stuck
from scpln.model.pln import MOST_PRECISE, check_size, training_options
from scpln.module import PLNTreeModule
from scpln.utils import as_bool, as_integers, check_belongs, in_range, positive_integer, progress_bar, resolve_seed

from ._amortized import LEARNING_RATE, EncoderOptions, amortized, new_approximation, train_encoder
from ._proportions import TreeTables
from ._source import check_table, contrasts_of
from ._states import chain_of, encoded, infer, packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scpln.data import Cells, Data
    from scpln.data.trees import TreeSource
    from scpln.inference.tree import TreeResult
    from scpln.module import Posterior

#: Most samples that the prior of the covariance may count for.
MOST_SHRUNK = 1e6


class PLNTree(TreeTables, KeptPosteriors, ExactSampling, PriorPredictive, Bounds):
    r"""The Poisson log-normal model of counts on a tree: taxa by sample, or cell types by donor, with their hierarchy.

    .. math::
        y_{i,k} \sim \text{Poisson}(e^{o_i + z_{ik}}) \;\text{(children k of the root)}, \quad
        y_{i,\text{children of } v} \sim \text{Multinomial}(y_{iv}, \text{softmax}(z_{i,\text{children of } v}))

    with known log size factors o. Levels of the tree are a Markov chain of Gaussians, :math:`z^1 \sim N(B_1 x, \Sigma_1)`, :math:`z^l \mid z^{l-1} \sim N(A_l
    z^{l-1} + B_l x, \Sigma_l)`, in log-ratios of siblings, of which none is redundant. So that all levels are one Gaussian with a structured covariance, and each sample
    has one Gaussian posterior of them all, found by Newton's method without draws, or given by an encoder. Leaves are Poisson, too, and with one level this is `PLN`.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata`.
    tree
        Tree whose leaves are the columns of the table: columns of ``var`` from coarse to fine, a ``networkx.DiGraph`` of edges from parent to child, text in Newick
        format or a path to a file of it, a ``skbio.TreeNode``, or the name of a tree in ``vart`` of a ``TreeData``. By default what the table has itself: the only
        tree in ``vart``, the levels that `scpln.tl.composition` kept, or names such as ``"a|b|c"``. A node with one child, which has its count, is left out.
    shrinkage
        Samples that the prior of the covariance counts for, which says that log-ratios have no correlations, and one variance in each level that is estimated first. 0 for
        none, with which bounds of new samples are poor unless there are many more samples than leaves.
    prior_precision
        Inverse variance λ of a normal prior N(0, 1/λ) of all coefficients but intercepts, as for `PLN`.
    amortized
        Whether an encoder gives the posteriors, :math:`q(z^L) \prod_l q(z^l \mid z^{l+1})` from the counts, in place of an optimum for each sample; their bound is lower (with ``refine=1`` or more,
        methods take the optimum). It is trained after the parameters, which stay those of the optimal posteriors, on samples that the model draws: tables seldom have enough of them.
    encoder_hidden
        Widths of the encoder's hidden layers, by default 128 and 128.
    registry
        For loading; leave it out.

    References
    ----------
    A. Chaussard, A. Bonnet, E. Gassiat and S. Le Corff (2025), Tree-based variational inference for Poisson log-normal models, Statistics and Computing 35: 135.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=4, n_latent=1)
    >>> adata.var["family"] = ["a", "a", "b", "b"]
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLNTree(adata, ["family"])
    >>> model.train(progress=False)
    >>> model.get_proportions(clr=True).shape  # a, b, and four leaves
    (100, 6)
    >>> model.annotate()
    >>> adata.obsm["X_plntree"].shape, adata.obsm["plntree_proportions"].shape
    ((100, 4), (100, 6))
    """

    module: PLNTreeModule

    def __init__(
        self,
        adata: Data | None = None,
        tree: TreeSource = None,
        *,
        shrinkage: float = SHRINKAGE,
        prior_precision: float = 1e-2,
        amortized: bool = False,
        encoder_hidden: Sequence[int] | None = None,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        self.shrinkage = in_range("shrinkage", shrinkage, 0, MOST_SHRUNK)
        self.prior_precision = in_range("prior_precision", prior_precision, 0, MOST_PRECISE)
        self.amortized = as_bool("amortized", amortized)
        check_belongs(self.amortized, "amortized=True", encoder_hidden=encoder_hidden)
        self._encoder_hidden = as_integers("encoder_hidden", encoder_hidden, most=WIDEST) or ENCODER_HIDDEN
        check_size(self, "fullrank")
        check_table(self)
        self.contrasts = contrasts_of(self, adata, tree)
        self.module = self._new_module()
        self.init_params_ = self._get_init_params(locals())
        self.init_params_["non_kwargs"]["tree"] = self.contrasts.tree.to_state()

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-4,
        n_steps: int | None = None,
        learning_rate: float = LEARNING_RATE,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over coefficients, covariance and posteriors, and train the encoder under them if the model has one.

        Ctrl-C stops early and keeps the best parameters so far. Training again starts anew.

        Parameters
        ----------
        max_epochs
            At most so many iterations; by default 1,000.
        tol
            Converged when an iteration gains less than this, nats per sample, averaged over ten.
        n_steps
            Steps of stochastic gradients that train the encoder; by default 1,000.
        learning_rate
            Largest learning rate of Adam, which rises over 20 steps and falls to 0 like a cosine.
        seed
            Of the draws that the encoder is trained on, and the summary of the posteriors is made from. By default ``scvi.settings.seed``, or 0.
        n_threads
            Threads, between which samples are shared out; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.

        Raises
        ------
        FloatingPointError
            Training of the encoder met a bound or a gradient that was not finite, in several steps in a row. The model then has the last good one.
        """
        progress, options = as_bool("progress", progress), training_options(max_epochs, tol, seed, n_threads)
        encoder = EncoderOptions.of(n_steps, learning_rate, options["seed"], amortized=self.amortized)
        cells = self._read(None)
        with progress_bar(type(self).__name__, options["max_epochs"], at_most=True, show=progress) as bar:
            fit = fit_pln_tree(
                cells.data,
                self.contrasts,
                shrinkage=self.shrinkage,
                prior_precision=self.prior_precision,
                max_iter=options["max_epochs"],
                tol=options["tol"],
                n_threads=options["n_threads"],
                on_iteration=bar.update,
            )
            bar.finish(fit.reason)
        warn_stuck(fit.stuck, len(cells.names), cells.names)
        module = self._new_module(options["seed"])
        module.set_parameters(fit.coefficients, np.linalg.cholesky(fit.chain.dense))
        module.set_cells(*packed(fit, cells.data, fit.coefficients), fit.elbo)
        failure = None
        if self.amortized:
            name = type(self).__name__
            ascent, failure = train_encoder(name, cells.data, module, encoder, options["n_threads"], progress=progress)
            posterior, bounds = encoded(module, self.contrasts, fit.chain, cells.data)
            module.set_cells(posterior.mean, posterior.packed_covariance, bounds)
            fit, options = amortized(fit, ascent), options | asdict(encoder)
        self._conclude(cells, module, fit, options)
        if failure is not None:
            raise failure

    def _conclude(self, cells: Cells, module: PLNTreeModule, fit: TreeResult, options: dict[str, Any]) -> None:
        """Keep what was fitted, and say how it went."""
        self.module = module
        bounds = module.elbo.cpu().numpy()
        found = self._judged(bounds, cells.names, converged=fit.converged, reason=fit.reason)
        found["n_parameters"] = fit.coefficients.size + fit.chain.n_parameters
        summary, found["reason"] = after_training(
            lambda: self._summarize_posteriors(cells.data, module.posterior, options["seed"], options["n_threads"]),
            {"reliability": None},
            found["reason"],
        )
        self._finish_training(cells, {**found, **summary, **options}, dict(fit.history))

    def sample(self, n_samples: int = 1, *, seed: int | None = None) -> pd.DataFrame:
        """Draw counts of new samples, with the size factors and covariates of training samples that are chosen at random.

        Parameters
        ----------
        n_samples
            New samples.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Samples × leaves.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the model was loaded without its AnnData.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=4, n_latent=1)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNTree(adata, "((gene_0,gene_1)a,(gene_2,gene_3)b)root;")
        >>> model.train(progress=False)
        >>> model.sample(3).shape, model.vamp_sample(3).shape
        ((3, 4), (3, 4))
        """
        return self._new_samples(n_samples, seed, around=False)

    def vamp_sample(self, n_samples: int = 1, *, seed: int | None = None) -> pd.DataFrame:
        """Draw counts of samples that are like training samples: states from their posteriors, in place of the prior (the variational mixture of posteriors).

        Parameters
        ----------
        n_samples, seed
            As in `sample`.

        Returns
        -------
        Samples × leaves.
        """
        return self._new_samples(n_samples, seed, around=True)

    def _new_samples(self, n_samples: int, seed: int | None, *, around: bool) -> pd.DataFrame:
        self._require_trained()
        n, seed = positive_integer("n_samples", n_samples), resolve_seed(seed)
        data, random = self._read(None).data, np.random.default_rng(seed)
        chosen = random.integers(0, data.n_cells, n)
        noise = random.standard_normal((n, len(self.genes)))
        if around:
            posterior = self._infer(None, None)[0]
            scales = posterior[chosen].scale.numpy()  # type: ignore[attr-defined]
            z = posterior.mean[chosen] + np.einsum("njk,nk->nj", scales, noise)
        else:
            z = noise @ self.module.scale.cpu().numpy().T
        eta, _ = self.module.decode(z, data.design[chosen])
        counts = self.module.draw(eta + torch.as_tensor(data.offsets[chosen, None]), int(random.integers(2**31)))
        return pd.DataFrame(counts, columns=self.genes)

    def _new_module(self, seed: int = 0) -> PLNTreeModule:
        """Module that is not trained."""
        size = self.contrasts, len(self.covariates)
        return PLNTreeModule(*size, new_approximation(*size, self._encoder_hidden, seed) if self.amortized else None)

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = self._new_module()
        self.module.load(tensors)

    def _params(self) -> dict[str, Any]:
        """The same without the tree, which has a place of its own."""
        return {name: value for name, value in super()._params().items() if name != "tree"}

    @property
    def _closer_posteriors(self) -> str:  # type: ignore[override]
        return REFINE if self.amortized else "draw from the exact ones with sample_exact_posterior"

    def _infer(
        self,
        adata: Data | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool | Literal["exact"] = False,
        seed: int | None = None,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """As of other models; with any `refine`, of an encoder too, the optimal posteriors."""
        found = super()._infer(adata, indices, batch_size=batch_size, refine=refine, with_elbo=with_elbo, seed=seed)
        if not (self.amortized and refine):
            return found
        cells = self._read(adata, self._positions(adata, indices))
        return infer(self.module, self.contrasts, cells.data, cells.names, optimal=True)

    def _infer_new(self, cells: Cells) -> tuple[Posterior, NDArray[np.float64]]:
        return infer(self.module, self.contrasts, cells.data, cells.names)

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        posterior, values = self._infer(adata, None)
        tree, chain = self.contrasts.tree, chain_of(self.module, self.contrasts)
        levels = range(1, len(chain.levels) + 1)
        counts = np.asarray(self._read(adata, None).data.counts.mean(0)).ravel()
        shares = self.get_proportions(adata, of="all").to_numpy().mean(0)
        return Annotation(
            latent=posterior.mean.astype(np.float32),
            obs={"elbo": values, **self._diagnostic_columns(posterior, values, adata, diagnostics)},
            obsm={"proportions": self.get_proportions(adata, clr=True).to_numpy(np.float32)},
            varm={"log_rates": self._log_rates_by_level()},
            uns={
                "elbo": self._mean_bound(values, adata.obs_names),
                "covariates": self.covariates,
                "tree": tree.to_state(),
                "nodes": {"mean_counts": self._of_nodes(counts), "proportions": self._of_nodes(shares)},
                "coefficients": self.get_coefficients().to_numpy(),
                "covariances": {f"level_{level}": self.get_level_covariance(level).to_numpy() for level in levels},
                "transitions": {
                    f"level_{level}": self.get_level_transitions(level).to_numpy() for level in levels if level > 1
                },
            },
        )

    def _of_nodes(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of values of genes below each node, the root first."""
        return np.concatenate([[values.sum()], self.contrasts.node_counts(values[None])[0]])
