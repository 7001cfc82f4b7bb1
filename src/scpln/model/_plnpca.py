"""PLN-PCA: counts whose log-rates are linear in a few latent dimensions."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import scvi
import torch

from scpln.inference import NotFiniteError
from scpln.module import FLOWS, LIKELIHOODS, Approximation, PLNPCAModule, check_flow, make_likelihood

from ._annotation import Annotation
from ._arguments import (
    as_integers,
    one_of,
    positive_integer,
    positive_integer_or_none,
    positive_number,
    resolve_seed,
)
from ._bounds import Bounds
from ._data import cell_positions
from ._exact import ExactSampling
from ._linear import LinearDecoder
from ._plnpca_fit import (
    GradientOptions,
    NewtonOptions,
    bound,
    finish_shared,
    fit_gaussians,
    gaussian_module,
    in_diagonal_axes,
    infer_posterior,
    refine_posterior,
    start_shared,
    train_shared,
)
from ._predictive import Predictive
from ._progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.inference import Ascent
    from scpln.module import Posterior

    from ._data import Cells

MAX_EPOCHS = 500
#: Flow, and widths of the hidden layers of its networks and of an encoder, unless the user says otherwise.
FLOW = "sylvester"
FLOW_HIDDEN, ENCODER_HIDDEN = [64, 64], [128, 128]
#: Cells in a step of stochastic training, and its largest learning rate.
CELLS_IN_STEP, LEARNING_RATE = 512, 4e-3

Family = Literal["fullrank", "meanfield", "flow"]


class PLNPCA(LinearDecoder, Predictive, Bounds, ExactSampling):
    r"""Poisson log-normal principal component analysis of counts.

    .. math::
        z_i \sim N(0, I_q), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j, \quad
        y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    with known log size factors o and design x, or another likelihood with log-rate η. Each cell has a posterior of z,
    and the evidence lower bound is maximised over those and the coefficients B and loadings C. C is rotated so that its
    columns are orthogonal, in the order of the variance that they explain, with the largest entry of each positive;
    latent states are in these coordinates.

    Parameters
    ----------
    adata
        Annotated data, after `scpln.model.setup_anndata`.
    n_latent
        Latent dimensions q, at most the number of cells and of genes.
    posterior
        Family of the posteriors: ``"fullrank"``, Gaussians with any covariance; ``"meanfield"``, with diagonal ones, all
        in the same axes, which gives a lower bound; ``"flow"``, a normalizing flow on top of full-rank Gaussians, which
        starts at these and raises the bound.
    likelihood
        Distribution of the counts: ``"poisson"``, ``"nb"`` (negative binomial), ``"zip"`` and ``"zinb"`` (with zero
        inflation), each with parameters of every gene; ``"bernoulli"``, for whether a count is not zero; or
        ``"gaussian"``, for real-valued data (``setup_anndata(..., is_count_data=False)``).
    amortized
        Whether an encoder gives the posteriors, from the counts, in place of an optimum for each cell. New cells then
        take one pass through it; their bound is lower.
    flow
        Kind of flow for ``posterior="flow"``: ``"sylvester"`` (the default: the closest for its time), ``"nsf"`` (neural
        splines), ``"iaf"`` and ``"maf"`` (inverse and masked autoregressive), ``"realnvp"``, ``"planar"`` or
        ``"radial"``. ``"iaf"``, ``"maf"`` and ``"realnvp"`` need two dimensions.
    n_transforms, flow_hidden
        Transforms of the flow, by default 3 to 8 according to its kind, and widths of the hidden layers of its networks, by default 64 and 64.
    encoder_hidden
        Widths of the encoder's hidden layers, by default 128 and 128.
    registry
        For loading; leave it out.

    References
    ----------
    J. Chiquet, M. Mariadassou and S. Robin (2018), Variational inference for probabilistic Poisson PCA, Annals of
    Applied Statistics 12(4): 2674-2698. D. Rezende and S. Mohamed (2015), Variational inference with normalizing flows,
    ICML.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=50, n_latent=3)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLNPCA(adata, n_latent=3)
    >>> model.train(progress=False)
    >>> model.get_loadings().shape
    (50, 3)
    >>> model.annotate()
    >>> adata.obsm["X_plnpca"].shape
    (300, 3)
    """

    module: PLNPCAModule

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 10,
        *,
        posterior: Family = "fullrank",
        likelihood: str = "poisson",
        amortized: bool = False,
        flow: str | None = None,
        n_transforms: int | None = None,
        flow_hidden: Sequence[int] | None = None,
        encoder_hidden: Sequence[int] | None = None,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("posterior", posterior, get_args(Family))
        one_of("likelihood", likelihood, list(LIKELIHOODS))
        n_latent = positive_integer("n_latent", n_latent)
        self._check_n_latent(n_latent)
        self._check_is_count_data(likelihood)
        self.n_latent = n_latent
        self.posterior: Family = posterior
        self.likelihood = likelihood
        self.amortized = amortized
        _check_belongs(
            posterior == "flow", "posterior='flow'", flow=flow, n_transforms=n_transforms, flow_hidden=flow_hidden
        )
        _check_belongs(amortized, "amortized=True", encoder_hidden=encoder_hidden)
        self.flow = None
        if posterior == "flow":
            self.flow = FLOW if flow is None else flow
            one_of("flow", self.flow, list(FLOWS))
            check_flow(self.flow, n_latent)
        flow_hidden = as_integers("flow_hidden", flow_hidden)
        encoder_hidden = as_integers("encoder_hidden", encoder_hidden)
        self._sizes: dict[str, Any] = {
            "n_transforms": positive_integer_or_none("n_transforms", n_transforms),
            "flow_hidden": flow_hidden or FLOW_HIDDEN,
            "encoder_hidden": encoder_hidden or ENCODER_HIDDEN,
        }
        self.module = PLNPCAModule.empty(len(self.genes), len(self.covariates), n_latent, likelihood=likelihood)
        self.init_params_ = self._get_init_params(locals())

    def _check_n_latent(self, n_latent: int) -> None:
        """These data must be able to have that many dimensions."""
        n, p = self.summary_stats.n_cells, self.summary_stats.n_vars
        if n_latent > min(n, p):
            msg = (
                f"n_latent={n_latent}, but it can be at most {min(n, p):,}, the smaller of the numbers of cells ({n:,}) "
                f"and genes ({p:,})."
            )
            raise ValueError(msg)

    def _check_is_count_data(self, likelihood: str) -> None:
        """Real-valued data are for the Gaussian likelihood, and counts for the others."""
        if LIKELIHOODS[likelihood].is_count == self.is_count_data:
            return
        if self.is_count_data:
            msg = (
                f"likelihood={likelihood!r} is for real-valued data, and these are registered as counts. Choose another "
                "likelihood, or register log-normalised values with setup_anndata(..., is_count_data=False)."
            )
        else:
            msg = (
                f"likelihood={likelihood!r} is for counts, and these data are registered with is_count_data=False. "
                "Choose likelihood='gaussian', or register raw counts."
            )
        raise ValueError(msg)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-4,
        n_steps: int | None = None,
        n_samples: int | None = None,
        n_importance_samples: int = 1,
        learning_rate: float = LEARNING_RATE,
        reestimate: bool = True,
        two_step: bool = False,
        batch_size: int | None = None,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over coefficients, loadings and posteriors.

        Gaussian posteriors are found by Newton's method, in closed form for Poisson counts and by quadrature for other
        likelihoods. A flow, an encoder, or training on the importance-weighted bound starts from these, and goes on by
        stochastic gradients.

        Ctrl-C stops early and keeps the best parameters so far (before the first iteration, the model stays as it
        was). Training again starts anew.

        Parameters
        ----------
        max_epochs
            At most so many passes over the data for the Gaussians; by default 500.
        tol
            These have converged when an iteration gains less than this many nats per cell, averaged over ten, or when
            the gradient promises less than a twentieth of it.
        n_steps
            Steps of stochastic training; by default 1,000, or as many as make ten passes over the data.
        n_samples
            Draws of each cell's posterior in a step, or groups of draws if these are importance-weighted; by default 4,
            or 1 group.
        n_importance_samples
            Above 1, train on the importance-weighted bound with so many draws in a group. It is closer to the
            log-likelihood, so that B and C are less biased.
        learning_rate
            Largest learning rate of Adam, which rises over 20 steps and falls to 0 like a cosine.
        reestimate
            Whether B, C and the likelihood's parameters move in stochastic training, or stay as the Gaussians gave them.
        two_step
            Whether an encoder only learns the Gaussian posteriors, and then stays as it is while B and C are
            re-estimated under it (a posterior smoothed over cells); otherwise all of them are trained together.
        batch_size
            Cells that are in memory at a time, for data on disk; by default as many as suit the processor's cache. In
            stochastic training, cells in a step; by default 512.
        seed
            Seed of the starting point, the order of cells and the draws; by default ``scvi.settings.seed``, or 0.
        n_threads
            Threads; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.

        Raises
        ------
        FloatingPointError
            Stochastic training met a bound or a gradient that was not finite, in several steps in a row. The model then
            has the last good parameters.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2, posterior="flow")
        >>> model.train(n_steps=50, progress=False)
        >>> model.stop_reason
        'converged: ...; 50 stochastic steps'
        """
        seed, batch_size = resolve_seed(seed), positive_integer_or_none("batch_size", batch_size)
        newton = NewtonOptions(
            max_epochs=positive_integer("max_epochs", MAX_EPOCHS if max_epochs is None else max_epochs),
            tol=positive_number("tol", tol),
            batch_size=batch_size,
            seed=seed,
            n_threads=positive_integer_or_none("n_threads", n_threads) or scvi.settings.num_threads,
        )
        gradient = GradientOptions.of(
            self.summary_stats.n_cells,
            n_steps=positive_integer_or_none("n_steps", n_steps),
            n_samples=positive_integer_or_none("n_samples", n_samples),
            n_importance_samples=positive_integer("n_importance_samples", n_importance_samples),
            learning_rate=positive_number("learning_rate", learning_rate),
            reestimate=reestimate,
            two_step=two_step,
            batch_size=batch_size or CELLS_IN_STEP,
            seed=seed,
        )
        if two_step and not self.amortized:
            msg = "two_step=True trains an encoder in two steps, and this model has none. Make it with amortized=True."
            raise ValueError(msg)
        cells = self._read(None)
        likelihood = make_likelihood(self.likelihood, cells.data.n_genes)
        with progress_bar(type(self).__name__, newton.max_epochs, show=progress) as bar:
            result = fit_gaussians(cells.data, self.n_latent, self._gaussian_family, likelihood, newton, bar.update)
            bar.finish(result.reason)
        approximation = None if result.interrupted else self._new_approximation(gradient.n_importance_samples, seed)
        options: dict[str, Any] = asdict(newton)
        outcome: dict[str, Any] = {"converged": result.converged, "reason": result.reason}
        history = dict(result.history)
        failure = None
        if approximation is None:
            self.module = gaussian_module(result, likelihood, None)
        else:
            module = gaussian_module(in_diagonal_axes(result), likelihood, approximation)
            ascent, failure = self._train_shared(cells, module, gradient, newton.n_threads, progress)
            self.module = module
            options |= asdict(gradient)
            stopped = ascent.interrupted or ascent.failed
            outcome = {
                "converged": result.converged and not stopped,
                "reason": f"{result.reason}; {ascent.reason}",
            }
            history |= {"stochastic_bound": ascent.bound, "stochastic_seconds": ascent.seconds}
        outcome |= {
            "elbo": float(self.module.elbo.mean()),
            "posterior": self._summarize_posteriors(cells.data, self.module.posterior, seed, newton.n_threads),
        }
        self._finish_training(cells, {**outcome, **options}, history)
        if failure is not None:
            raise failure

    def _train_shared(
        self, cells: Cells, module: PLNPCAModule, options: GradientOptions, n_threads: int | None, progress: bool
    ) -> tuple[Ascent, NotFiniteError | None]:
        """Train a flow or an encoder, and what it failed with, if it did; what was reached is in the module."""
        name, failure = f"{type(self).__name__}, {self._kind}", None
        try:
            with progress_bar(f"{name}, start", options.n_steps, show=progress and self.amortized) as bar:
                ascent = start_shared(cells.data, module, options, n_threads, bar.update)
                bar.finish(ascent.reason)
            if not ascent.interrupted:
                with progress_bar(name, options.n_steps, show=progress) as bar:
                    ascent = train_shared(cells.data, module, options, n_threads, bar.update)
                    bar.finish(ascent.reason)
        except NotFiniteError as error:
            if len(error.cells):
                error.add_note(f"These cells are {cells.names[error.cells[:5]].to_list()}.")
            ascent, failure = error.ascent, error
        finish_shared(cells.data, module, n_threads)
        return ascent, failure

    @property
    def _kind(self) -> str:
        """What cells share, in a few words."""
        kinds = [*(["encoder"] if self.amortized else []), *([self.flow] if self.flow else [])]
        return " and ".join(kinds) or "affine map"

    @property
    def _gaussian_family(self) -> Literal["fullrank", "meanfield"]:
        """Family of the Gaussians that a posterior is or starts from."""
        return "meanfield" if self.posterior == "meanfield" else "fullrank"

    def _new_approximation(self, n_importance_samples: int, seed: int = 0) -> Approximation | None:
        """What cells share besides B and C; None if each has a Gaussian of its own.

        The importance-weighted bound has its optimum at other Gaussians, which an affine flow moves these to.
        """
        flow = self.flow
        if flow is None and not self.amortized and n_importance_samples > 1:
            flow = "affine"
        if flow is None and not self.amortized:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Approximation.build(
                len(self.genes),
                len(self.covariates),
                self.n_latent,
                amortized=self.amortized,
                diagonal=self.posterior == "meanfield",
                flow=flow,
                **self._sizes,
            )

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        shared = any(name.startswith("approximation.") for name in tensors)
        importance = int(shared) + 1
        approximation = self._new_approximation(importance) if shared else None
        self.module = PLNPCAModule.empty(
            len(self.genes),
            len(self.covariates),
            self.n_latent,
            likelihood=self.likelihood,
            approximation=approximation,
        )
        self.module.load(tensors)

    def _infer(
        self,
        adata: AnnData | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool = False,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """Posterior and, if asked for, bound of each cell: stored ones of training cells, or new ones."""
        self._require_trained()
        stored = self._is_training_data(adata)
        if stored and not refine:
            chosen = cell_positions(indices, len(self.module.elbo))
            values = self.module.elbo.cpu().numpy()
            return self.module.posterior(chosen), values if chosen is None else values[chosen]
        adata = self._data_or_own(adata)
        positions = cell_positions(indices, adata.n_obs)
        data = self._read(adata, positions).data
        settings = {"batch_size": batch_size, "n_threads": scvi.settings.num_threads}
        if stored:
            posterior = self.module.posterior(positions)
        else:
            posterior = infer_posterior(self.module, data, self._gaussian_family, **settings)
        if refine:
            refine = positive_integer("refine", refine)
            posterior = refine_posterior(self.module, data, posterior, self._gaussian_family, refine, **settings)
        values = np.empty(0)
        if with_elbo:
            values = bound(self.module.generative, data, posterior, positions=positions, **settings)
        return posterior, values

    def _annotation(self, adata: AnnData, diagnostics: bool | None) -> Annotation:
        posterior, values = self._infer(adata, None, with_elbo=True)
        return Annotation(
            latent=posterior.mean.astype(np.float32),
            elbo=values,
            obs=self._diagnostic_columns(posterior, values, adata, diagnostics),
            var=self.get_gene_parameters(),
            varm={"loadings": self.get_loadings()},
            uns={"variance_explained": self.get_variance_explained().to_numpy()},
        )


def _check_belongs(used: bool, where: str, **arguments: object) -> None:
    """Refuse arguments of something that the model does not have."""
    for name, value in arguments.items():
        if value is not None and not used:
            msg = f"{name}={value!r} needs {where}."
            raise ValueError(msg)
