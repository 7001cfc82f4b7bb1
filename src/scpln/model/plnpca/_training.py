"""The training of PLN-PCA, as a user calls it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import scvi

from scpln.core import Held, after_training
from scpln.model.base import announce
from scpln.utils import (
    MOST_DRAWS,
    as_bool,
    positive_integer,
    positive_integer_or_none,
    positive_number,
    resolve_seed,
    warn,
)

from ._cost import CELLS_IN_STEP, LEARNING_RATE, Costs
from ._mixture import with_mixture
from ._options import MAX_EPOCHS, TOLERANCE, GradientOptions, NewtonOptions, Outcome
from ._stages import train_approximation_of, train_by_importance, train_gaussians, train_on_reference

if TYPE_CHECKING:
    from scpln.data import Cells
    from scpln.inference import GenePriorName, StateDensity
    from scpln.model.base import PosteriorName
    from scpln.module import Approximation, Growth, Likelihood, PLNPCAModule

    from ._options import InferenceName


class PLNPCATraining(Costs):
    """Gaussians by Newton's method, then, if wanted, a flow or an encoder by stochastic gradients."""

    module: PLNPCAModule
    n_latent: int
    likelihood: str | dict[str, str]
    posterior: PosteriorName
    prior: GenePriorName
    inference: InferenceName
    amortized: bool
    flow: str | None
    _n_components: int | None
    _sizes: dict[str, Any]

    @property
    @abstractmethod
    def _is_mixture(self) -> bool:
        """Whether the prior is a mixture."""

    @property
    def _kind(self) -> str:
        """What cells share, in a few words."""
        kinds = [*(["encoder"] if self.amortized else []), *([self.flow] if self.flow else [])]
        return " and ".join(kinds) or "affine map"

    @property
    def _gaussian_family(self) -> Literal["fullrank", "meanfield"]:
        """Variational family of the Gaussians that a posterior is or starts from."""
        return "meanfield" if self.posterior == "meanfield" else "fullrank"

    @property
    @abstractmethod
    def _growth(self) -> Growth:
        """Where the module grew, compared with the reference's."""

    @abstractmethod
    def _state_density(self) -> StateDensity | None:
        """Where the training cells' states lie, or those of the reference if these were mapped; None if that is not known."""

    @abstractmethod
    def _new_likelihood(self) -> Likelihood:
        """The likelihood of the model's genes, as it starts."""

    @abstractmethod
    def _new_approximation(self, n_importance_samples: int, seed: int = 0) -> Approximation | None:
        """What cells share besides B and C; None if each has a Gaussian of its own."""

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = TOLERANCE,
        n_steps: int | None = None,
        n_samples: int | None = None,
        n_importance_samples: int = 1,
        learning_rate: float = LEARNING_RATE,
        reestimate: bool = True,
        two_step: bool = False,
        batch_size: int | None = None,
        block_size: int | None = None,
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
            the predicted gain is less than a twentieth of it.
        n_steps
            Steps of stochastic training; by default 1,000, or as many as make ten passes over the data.
        n_samples
            Draws of each cell's posterior in a step, or groups of draws if these are importance-weighted; by default 4,
            or 1 group. With ``inference="importance"``, draws of each cell in an iteration, and for its bound: by default 100,000 of
            all cells together, but 16 or more of each.
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
            Cells in a step of stochastic training; by default 512.
        block_size
            Cells that are in memory at a time, for data on disk; by default as many as suit the processor's cache.
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
        progress = as_bool("progress", progress)
        seed, batch_size = resolve_seed(seed), positive_integer_or_none("batch_size", batch_size)
        newton = NewtonOptions(
            max_epochs=positive_integer("max_epochs", MAX_EPOCHS if max_epochs is None else max_epochs),
            tol=positive_number("tol", tol),
            block_size=positive_integer_or_none("block_size", block_size),
            seed=seed,
            n_threads=positive_integer_or_none("n_threads", n_threads) or scvi.settings.num_threads,
        )
        gradient = GradientOptions.of(
            self.summary_stats.n_cells,
            n_steps=positive_integer_or_none("n_steps", n_steps),
            n_samples=positive_integer_or_none("n_samples", n_samples, most=MOST_DRAWS),
            n_importance_samples=positive_integer("n_importance_samples", n_importance_samples, most=MOST_DRAWS),
            learning_rate=positive_number("learning_rate", learning_rate, most=1),
            reestimate=as_bool("reestimate", reestimate),
            two_step=as_bool("two_step", two_step),
            batch_size=batch_size or CELLS_IN_STEP,
            seed=seed,
        )
        if not self._is_stochastic(gradient):
            newton = _with_block_size(newton, batch_size)
            _warn_without_effect(
                n_steps=n_steps is not None,
                n_samples=n_samples is not None and not self._is_weighted,
                learning_rate=learning_rate != LEARNING_RATE,
                reestimate=not reestimate,
            )
        if two_step and not self.amortized:
            msg = "two_step=True trains an encoder in two steps, and this model has none. Make it with amortized=True."
            raise ValueError(msg)
        self._check_draws(gradient)
        cells = self._read(None)
        if self.query_ is not None:
            name = f"{type(self).__name__}, new coefficients"
            given = self._growth, self._state_density(), self._gaussian_family, newton, gradient
            module, outcome = train_on_reference(name, cells, self.module, *given, progress=progress)
            self._conclude(cells, module, outcome, newton)
            return
        announce(self._cost(newton, gradient), self.summary_stats.n_cells, len(self.genes))
        self._conclude(cells, *self._fit(cells, newton, gradient, n_samples, progress=progress), newton)

    def _fit(
        self, cells: Cells, newton: NewtonOptions, gradient: GradientOptions, n_samples: int | None, *, progress: bool
    ) -> tuple[PLNPCAModule, Outcome]:
        """All stages of a training from scratch."""
        name = type(self).__name__
        module, outcome, fitted = train_gaussians(
            name,
            cells,
            self.n_latent,
            self._new_likelihood(),
            self._gaussian_family,
            newton,
            self.prior,
            lambda: self._new_approximation(gradient.n_importance_samples, gradient.seed),
            progress=progress,
        )
        if self._is_weighted and not fitted.interrupted:
            module = train_by_importance(name, cells, fitted, outcome, newton, n_samples, progress=progress)
        if self._is_mixture:
            assert fitted.prior is not None
            module, whole = with_mixture(cells, module, self._n_components, fitted.prior, newton)
            outcome.reason = outcome.reason if whole else Held(pressed=True).after(outcome.reason)
        if module.approximation is not None:
            name = f"{name}, {self._kind}"
            ascent, failure = train_approximation_of(
                name, cells, module, gradient, fitted, newton.n_threads, progress=progress
            )
            outcome.add_stochastic(ascent, failure, gradient)
        return module, outcome

    def _check_draws(self, gradient: GradientOptions) -> None:
        """Refuse stochastic training on the importance-weighted bound of a mixture, and beside the estimator by that bound."""
        if self.inference == "importance" and gradient.n_importance_samples > 1:
            msg = (
                f"n_importance_samples={gradient.n_importance_samples} is for stochastic training, and inference='importance' has none. "
                "Leave one of both out."
            )
            raise ValueError(msg)
        if self._is_mixture and gradient.n_importance_samples > 1:
            msg = (
                f"n_importance_samples={gradient.n_importance_samples} trains a flow, which a mixture of Gaussians has none of. "
                "Leave it out, or make the model with n_components=1."
            )
            raise ValueError(msg)

    @property
    def _is_weighted(self) -> bool:
        """Whether B and C maximise the importance-weighted bound, and that is what is said of cells."""
        return self.inference == "importance" and self.query_ is None

    def _is_stochastic(self, gradient: GradientOptions) -> bool:
        """Whether something is left for stochastic gradients after the Gaussians."""
        return self.posterior == "flow" or self.amortized or gradient.n_importance_samples > 1

    def _conclude(self, cells: Cells, module: PLNPCAModule, outcome: Outcome, newton: NewtonOptions) -> None:
        """Keep what was trained, and say how it went; then raise what it failed with, if it did."""
        self.module = module
        bounds = module.elbo.cpu().numpy()
        found = self._judged(bounds, cells.names, converged=outcome.converged, reason=outcome.reason)
        summary, found["reason"] = after_training(
            lambda: self._summarize_posteriors(cells.data, module.posterior, newton.seed, newton.n_threads),
            {"reliability": None},
            found["reason"],
        )
        self._finish_training(cells, {**found, **summary, **outcome.options}, outcome.history)
        if outcome.failure is not None:
            raise outcome.failure


def _with_block_size(options: NewtonOptions, batch_size: int | None) -> NewtonOptions:
    """Options of Gaussians alone, for which `batch_size` once was what `block_size` is."""
    if batch_size is None:
        return options
    warn(
        "train(batch_size=...) is the number of cells in a step of stochastic training, and there is none here. It is "
        "taken as block_size, the number of cells in memory at a time: pass block_size=... in its place.",
        FutureWarning,
    )
    return replace(options, block_size=options.block_size or batch_size)


def _warn_without_effect(**given: bool) -> None:
    """Say which arguments of stochastic training were given for nothing."""
    names = [name for name, is_given in given.items() if is_given]
    if names:
        warn(
            f"train({'=..., '.join(names)}=...) has no effect: a Gaussian of its own for each cell is found without "
            "stochastic steps. Leave it out, or make the model with posterior='flow' or amortized=True, or train with "
            "n_importance_samples=8, say."
        )
