"""PLN-PCA: counts whose log-rates are linear in a few latent dimensions."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import scvi
import torch

from scpln.inference import NotFiniteError
from scpln.module import FLOWS, Approximation, PLNPCAModule, check_flow

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
from ._cost import announce, network_weights, newton_cost, steps_cost
from ._data import cell_positions
from ._differential import Differential
from ._exact import ExactSampling
from ._linear import LinearDecoder
from ._manager import adopt, states
from ._modalities import modality_sizes, modality_slices
from ._observation import check_observation, genes_by_quadrature, make_observation
from ._plnpca_fit import (
    ELBO_DRAWS,
    GradientOptions,
    NewtonOptions,
    Outcome,
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
from ._progress import progress_bar
from ._query import NOTHING_NEW, QueryMapping
from ._query_fit import fit_coefficients, store_posteriors, train_inputs
from ._setup import register_mudata
from ._warn import warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from scpln.inference import Ascent
    from scpln.module import Likelihood, Posterior

    from ._cost import Cost
    from ._data import Cells
    from ._fields import Data

MAX_EPOCHS = 500
#: Flow, and widths of the hidden layers of its networks and of an encoder, unless the user says otherwise.
FLOW = "sylvester"
FLOW_HIDDEN, ENCODER_HIDDEN = [64, 64], [128, 128]
#: Cells in a step of stochastic training, and its largest learning rate.
CELLS_IN_STEP, LEARNING_RATE = 512, 4e-3

Family = Literal["fullrank", "meanfield", "flow"]


class PLNPCA(QueryMapping, LinearDecoder, Differential, Bounds, ExactSampling):
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
        AnnData after `scpln.model.setup_anndata`; or MuData after `scpln.model.setup_mudata`, whose modalities share each
        cell's latent state, while each has size factors, loadings and a likelihood of its own. What a cell lacks adds
        nothing to its bound.
    n_latent
        Latent dimensions q, at most the number of cells and of genes.
    posterior
        Family of the posteriors: ``"fullrank"``, Gaussians with any covariance; ``"meanfield"``, with diagonal ones, all
        in the same axes, which gives a lower bound; ``"flow"``, a normalizing flow on top of full-rank Gaussians, which
        starts at these and raises the bound.
    likelihood
        Distribution of the counts: ``"poisson"``, ``"nb"`` (negative binomial), ``"zip"`` and ``"zinb"`` (with zero
        inflation), each with parameters of every gene; ``"bernoulli"``, for whether a count is not zero; or
        ``"gaussian"``, for real-valued data (``setup_anndata(..., is_count_data=False)``). Of modalities, one for all, or
        a mapping with one for each, ``{"rna": "poisson", "prot": "nb"}``.
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
    _takes_mudata = True

    def __init__(
        self,
        adata: Data | None = None,
        n_latent: int = 10,
        *,
        posterior: Family = "fullrank",
        likelihood: str | Mapping[str, str] = "poisson",
        amortized: bool = False,
        flow: str | None = None,
        n_transforms: int | None = None,
        flow_hidden: Sequence[int] | None = None,
        encoder_hidden: Sequence[int] | None = None,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("posterior", posterior, get_args(Family))
        likelihood = check_observation(likelihood, self._sizes_of_modalities, is_count_data=self.is_count_data)
        n_latent = positive_integer("n_latent", n_latent)
        if registry is None:  # cells that are mapped onto a reference may be few
            self._check_n_latent(n_latent)
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
        self.module = self._new_module()
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

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        modalities: Mapping[str, str | Mapping[str, str | None] | None] | Sequence[str],
        batch_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        source_registry: dict[str, Any] | None = None,
    ) -> None:
        """Register a MuData: the same as `scpln.model.setup_mudata`, which see.

        `source_registry` takes over the genes and categories of another registration, as scvi-tools does when it loads
        a model.
        """
        manager = register_mudata(
            mdata,
            source_registry,
            modalities=modalities,
            batch_key=batch_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        )
        adopt(cls, mdata, manager)

    @property
    def _sizes_of_modalities(self) -> dict[str, int]:
        """Number of genes of each modality of a MuData."""
        return modality_sizes(states(self.registry))

    def _new_likelihood(self) -> Likelihood:
        """The law of the model's genes, as it starts."""
        return make_observation(self.likelihood, self._sizes_of_modalities, len(self.genes))

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
        if not self._is_stochastic(gradient):
            _warn_without_effect(
                n_steps=n_steps is not None,
                n_samples=n_samples is not None,
                learning_rate=learning_rate != LEARNING_RATE,
                reestimate=not reestimate,
            )
        if two_step and not self.amortized:
            msg = "two_step=True trains an encoder in two steps, and this model has none. Make it with amortized=True."
            raise ValueError(msg)
        cells = self._read(None)
        if self.query_ is not None:
            self._train_on_reference(cells, newton, gradient, progress)
            return
        announce(self._cost(newton, gradient), self.summary_stats.n_cells, len(self.genes))
        likelihood = self._new_likelihood()
        family, name = self._gaussian_family, f"{type(self).__name__}, {self._gaussian_family} Gaussians"
        with progress_bar(name, newton.max_epochs, at_most=True, show=progress) as bar:
            result = fit_gaussians(cells.data, self.n_latent, family, likelihood, newton, bar.update, bar.stage)
            bar.finish(result.reason)
        approximation = None if result.interrupted else self._new_approximation(gradient.n_importance_samples, seed)
        outcome = Outcome(result.converged, result.reason, asdict(newton), dict(result.history))
        if approximation is None:
            module = gaussian_module(result, likelihood, None)
        else:
            module = gaussian_module(in_diagonal_axes(result), likelihood, approximation)
            outcome.then(*self._train_shared(cells, module, gradient, newton.n_threads, progress), gradient)
        self._conclude(cells, module, outcome, newton)

    def get_cost_estimate(
        self,
        max_epochs: int = MAX_EPOCHS,
        *,
        n_steps: int | None = None,
        n_samples: int | None = None,
        n_importance_samples: int = 1,
        batch_size: int | None = None,
        n_threads: int | None = None,
    ) -> Cost:
        """What `train` will take with these arguments: ``seconds``, and ``memory`` in bytes besides the data.

        From the sizes of the data and the model, and how fast the machine does a few milliseconds of the same arithmetic.
        How many iterations it takes to converge is not known beforehand: expect to be wrong by a factor of two or three.
        `train` says so itself, as information in the log, when it expects to take more than a minute.

        Parameters
        ----------
        max_epochs, n_steps, n_samples, n_importance_samples, batch_size, n_threads
            As in `train`.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> print(model.get_cost_estimate())
        about 1 s and 30 MB
        """
        threads = n_threads or scvi.settings.num_threads
        newton = NewtonOptions(max_epochs=max_epochs, tol=1e-4, batch_size=batch_size, seed=0, n_threads=threads)
        gradient = GradientOptions.of(
            self.summary_stats.n_cells,
            n_steps=n_steps,
            n_samples=n_samples,
            n_importance_samples=n_importance_samples,
            batch_size=batch_size or CELLS_IN_STEP,
            learning_rate=LEARNING_RATE,
            reestimate=True,
            two_step=False,
            seed=0,
        )
        return self._cost(newton, gradient)

    def _is_stochastic(self, gradient: GradientOptions) -> bool:
        """Whether something is left for stochastic gradients after the Gaussians."""
        return self.posterior == "flow" or self.amortized or gradient.n_importance_samples > 1

    def _cost(self, newton: NewtonOptions, gradient: GradientOptions) -> Cost:
        """What training will take."""
        n, p, q = self.summary_stats.n_cells, len(self.genes), self.n_latent
        cost = newton_cost(
            n,
            p,
            q,
            len(self.covariates),
            max_iter=newton.max_epochs,
            n_by_quadrature=genes_by_quadrature(self.likelihood, self._sizes_of_modalities, p),
            n_threads=newton.n_threads,
        )
        if not self._is_stochastic(gradient):
            return cost
        encoder = network_weights([p, *self._sizes["encoder_hidden"], q * (q + 3) // 2]) if self.amortized else 0.0
        n_draws = gradient.n_samples * gradient.n_importance_samples
        return cost + steps_cost(
            n,
            p,
            n_steps=(1 + self.amortized) * gradient.n_steps,
            batch_size=gradient.batch_size,
            n_draws=n_draws,
            weights=encoder / n_draws,  # once for each cell
            flow=self.flow,
            n_evaluated=0 if self.flow is None else ELBO_DRAWS,
            n_features=q * (q + 3),
        )

    def _train_shared(
        self, cells: Cells, module: PLNPCAModule, options: GradientOptions, n_threads: int | None, progress: bool
    ) -> tuple[Ascent, NotFiniteError | None]:
        """Train a flow or an encoder, and what it failed with, if it did; what was reached is in the module."""
        name, failure = f"{type(self).__name__}, {self._kind}", None
        try:
            start = f"{name}, learning the Gaussians (−KL)"
            with progress_bar(start, options.n_steps, unit="step", show=progress and self.amortized) as bar:
                ascent = start_shared(cells.data, module, options, n_threads, bar.update)
                bar.finish(ascent.reason)
            if not ascent.interrupted:
                with progress_bar(name, options.n_steps, unit="step", show=progress) as bar:
                    ascent = train_shared(cells.data, module, options, n_threads, bar.update)
                    bar.finish(ascent.reason)
        except NotFiniteError as error:
            if len(error.cells):
                error.add_note(f"These cells are {cells.names[error.cells[:5]].to_list()}.")
            ascent, failure = error.ascent, error
        finish_shared(cells.data, module, n_threads)
        return ascent, failure

    def _train_on_reference(
        self, cells: Cells, newton: NewtonOptions, gradient: GradientOptions, progress: bool
    ) -> None:
        """Learn what is new about cells that were mapped onto a reference, and their posteriors."""
        name, growth, family = f"{type(self).__name__}, new coefficients", self._growth, self._gaussian_family
        module = copy.deepcopy(self.module)
        growth.restart(module)
        outcome = Outcome(True, NOTHING_NEW, asdict(newton), {})
        if growth.is_new.any():
            with progress_bar(name, newton.max_epochs, at_most=True, show=progress) as bar:
                fit = fit_coefficients(module, cells.data, growth, family, newton, bar.update)
                bar.finish(fit.reason)
            outcome = Outcome(fit.converged, fit.reason, asdict(newton), dict(fit.history))
            if self.amortized and not fit.interrupted:
                with progress_bar(f"{name} and inputs", gradient.n_steps, unit="step", show=progress) as bar:
                    settings = gradient, newton.n_threads, bar.update
                    ascent, failure = train_inputs(module, cells.data, growth, fit.prior, *settings)
                    bar.finish(ascent.reason)
                outcome.then(ascent, failure, gradient)
        store_posteriors(module, cells.data, family, newton.n_threads)
        self._conclude(cells, module, outcome, newton)

    def _conclude(self, cells: Cells, module: PLNPCAModule, outcome: Outcome, newton: NewtonOptions) -> None:
        """Keep what was trained, and say how it went; then raise what it failed with, if it did."""
        self.module = module
        training = {
            "converged": outcome.converged,
            "reason": outcome.reason,
            "elbo": float(module.elbo.mean()),
            **self._summarize_posteriors(cells.data, module.posterior, newton.seed, newton.n_threads),
            **outcome.options,
        }
        self._finish_training(cells, training, outcome.history)
        if outcome.failure is not None:
            raise outcome.failure

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
                n_groups=len(self._sizes_of_modalities),
                **self._sizes,
            )

    def _new_module(self, approximation: Approximation | None = None) -> PLNPCAModule:
        """Module that is not trained."""
        return PLNPCAModule.empty(
            len(self.genes),
            len(self.covariates),
            self.n_latent,
            likelihood=self._new_likelihood(),
            approximation=approximation,
        )

    def _empty_module(self, tensors: dict[str, torch.Tensor]) -> PLNPCAModule:
        shared = any(name.startswith("approximation.") for name in tensors)
        importance = int(shared) + 1
        return self._new_module(self._new_approximation(importance) if shared else None)

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = self._empty_module(tensors)
        self.module.load(tensors)

    def _infer(
        self,
        adata: Data | None,
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

    def _annotation(self, adata: Data, diagnostics: bool | None) -> Annotation:
        posterior, values = self._infer(adata, None, with_elbo=True)
        uns: dict[str, Any] = {"variance_explained": self.get_variance_explained().to_numpy()}
        if self.modalities:
            uns["modalities"] = self.modalities
            uns["variance_explained_by_modality"] = {
                name: self.get_variance_explained(name).to_numpy() for name in self.modalities
            }
        return Annotation(
            latent=posterior.mean.astype(np.float32),
            elbo=values,
            obs=self._diagnostic_columns(posterior, values, adata, diagnostics),
            var=self.get_gene_parameters(),
            varm={"loadings": self.get_loadings()},
            uns=uns,
            modalities=modality_slices(states(self.registry)),
        )


def _warn_without_effect(**given: bool) -> None:
    """Say which arguments of stochastic training were given for nothing."""
    names = [name for name, is_given in given.items() if is_given]
    if names:
        warn(
            f"train({'=..., '.join(names)}=...) has no effect: a Gaussian of its own for each cell is found without "
            "stochastic steps. Leave it out, or make the model with posterior='flow' or amortized=True, or train with "
            "n_importance_samples=8, say."
        )


def _check_belongs(used: bool, where: str, **arguments: object) -> None:
    """Refuse arguments of something that the model does not have."""
    for name, value in arguments.items():
        if value is not None and not used:
            msg = f"{name}={value!r} needs {where}."
            raise ValueError(msg)
