"""The stages of fitting PLN-PCA: a Gaussian for each cell, then, if wanted, a flow or an encoder."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scpln.inference import (
    Ascent,
    Minibatches,
    elbo,
    elbo_likelihood,
    fit,
    fit_likelihood,
    identified_rotation,
    imitate,
    infer,
    infer_likelihood,
    refine,
    sampled_elbo,
    standardize_context,
    start_gaussian,
    train_approximation,
)
from scpln.module import FlowPosterior, GaussianPosterior, Generative, LinearDecoder, PLNPCAModule
from scpln.module.likelihoods import Poisson

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.inference import CountData, FitResult, NotFiniteError
    from scpln.inference import Posterior as GaussianFamily
    from scpln.module import Approximation, Likelihood, Posterior

    OnStep = Callable[[int, float], None]

#: Draws that a flow's bound is the mean of.
ELBO_DRAWS = 200
#: Fewest steps of stochastic training, and passes over the data that these should make.
STEPS, EPOCHS = 1000, 10
#: Groups of draws of each cell in a step: of one draw each, or one group of several.
GROUPS = 4


@dataclass(frozen=True)
class NewtonOptions:
    """How Gaussian posteriors are fitted: arguments of `PLNPCA.train`."""

    max_epochs: int
    tol: float
    batch_size: int | None
    seed: int
    n_threads: int | None


@dataclass(frozen=True)
class GradientOptions:
    """How a flow or an encoder is trained: arguments of `PLNPCA.train`, with their defaults filled in."""

    n_steps: int
    n_samples: int
    n_importance_samples: int
    learning_rate: float
    reestimate: bool
    two_step: bool
    batch_size: int
    seed: int

    @classmethod
    def of(
        cls,
        n_cells: int,
        *,
        n_steps: int | None,
        n_samples: int | None,
        n_importance_samples: int,
        batch_size: int,
        learning_rate: float,
        reestimate: bool,
        two_step: bool,
        seed: int,
    ) -> GradientOptions:
        """Options for so many cells."""
        return cls(
            n_steps=n_steps or max(STEPS, -(-EPOCHS * n_cells // batch_size)),
            n_samples=n_samples or (GROUPS if n_importance_samples == 1 else 1),
            n_importance_samples=n_importance_samples,
            learning_rate=learning_rate,
            reestimate=reestimate,
            two_step=two_step,
            batch_size=batch_size,
            seed=seed,
        )


@dataclass
class Outcome:
    """How the stages of a training ended: what they were told, and what they say."""

    converged: bool
    reason: str
    options: dict[str, Any]
    history: dict[str, list[float]]
    failure: NotFiniteError | None = None

    def then(self, ascent: Ascent, failure: NotFiniteError | None, options: GradientOptions) -> None:
        """Add stochastic training to the stages."""
        self.converged &= not (ascent.interrupted or ascent.failed)
        self.reason = f"{self.reason}; {ascent.reason}"
        self.options |= asdict(options)
        self.history |= {"stochastic_bound": ascent.bound, "stochastic_seconds": ascent.seconds}
        self.failure = failure


def fit_gaussians(
    data: CountData,
    n_latent: int,
    family: GaussianFamily,
    likelihood: Likelihood,
    options: NewtonOptions,
    on_step: OnStep | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> FitResult:
    """Fit B, C, a Gaussian of each cell and the parameters of the likelihood, which are set in place."""
    is_poisson = isinstance(likelihood, Poisson)
    settings: dict[str, Any] = {
        "posterior": family,
        "batch_size": options.batch_size,
        "n_threads": options.n_threads,
        "max_iter": options.max_epochs,
        "tol": options.tol,
        "seed": options.seed,
        "on_iteration": on_step,
    }
    if not likelihood.is_count:
        start = start_gaussian(data, n_latent, likelihood, posterior=family, n_threads=options.n_threads)
    else:
        if on_stage is not None and not is_poisson:
            on_stage("Poisson start")
        start = fit(data, n_latent, **settings)
        if is_poisson or start.interrupted:
            return start
    if on_stage is not None:
        on_stage(f"{type(likelihood).__name__} likelihood")
    return fit_likelihood(data, start, likelihood, **settings)


def gaussian_module(result: FitResult, likelihood: Likelihood, approximation: Approximation | None) -> PLNPCAModule:
    """Module with fitted parameters and Gaussians."""
    decoder = LinearDecoder(result.coefficients, result.loadings)
    module = PLNPCAModule(Generative(decoder, likelihood).double(), approximation)
    module.set_cells(result.mean, result.covariance, result.elbo)
    module.rotation.copy_(torch.from_numpy(result.rotation))
    return module


def in_diagonal_axes(result: FitResult) -> FitResult:
    """The same fit in the coordinates in which a mean-field posterior is diagonal."""
    w = result.rotation
    gaussian = GaussianPosterior(result.mean, result.covariance).rotate(w.T)
    return replace(
        result,
        loadings=result.loadings @ w.T,
        mean=gaussian.mean.astype(np.float32),
        covariance=gaussian.packed_covariance.astype(np.float32),
        rotation=np.eye(len(w)),
    )


def start_shared(
    data: CountData,
    module: PLNPCAModule,
    options: GradientOptions,
    n_threads: int | None = None,
    on_step: OnStep | None = None,
) -> Ascent:
    """Let a module's encoder imitate the Gaussians that it has, or its flow learn the scale of their features."""
    approximation = module.approximation
    assert approximation is not None
    gaussian = GaussianPosterior(module.mean, module.covariance)
    if approximation.encodes:
        return imitate(data, approximation, gaussian, **_settings(options, n_threads, on_step))
    standardize_context(data, approximation, gaussian, options.batch_size)
    return Ascent()


def train_shared(
    data: CountData,
    module: PLNPCAModule,
    options: GradientOptions,
    n_threads: int | None = None,
    on_step: OnStep | None = None,
) -> Ascent:
    """Train a module's flow or encoder, and its other parameters, from where `start_shared` left them."""
    assert module.approximation is not None
    working = copy.deepcopy(module.generative).float()
    try:
        return train_approximation(
            data,
            working,
            module.approximation,
            GaussianPosterior(module.mean, module.covariance),
            n_samples=options.n_samples,
            n_importance=options.n_importance_samples,
            reestimate=options.reestimate,
            encoder_fixed=options.two_step,
            **_settings(options, n_threads, on_step),
        )
    finally:
        if options.reestimate:
            module.generative.load_state_dict(working.state_dict())


def finish_shared(data: CountData, module: PLNPCAModule, n_threads: int | None = None) -> None:
    """Turn the loadings to their identified rotation, and store the posteriors of the training cells."""
    assert module.approximation is not None
    module.requires_grad_(False)
    loadings = module.loadings.numpy()
    frame = torch.from_numpy(identified_rotation(loadings))
    module.loadings.copy_(torch.from_numpy(loadings) @ frame)
    module.approximation.frame.copy_(frame)
    gaussian, context = encode(module, data, GaussianPosterior(module.mean, module.covariance))
    values = bound(module.generative, data, module.compose(gaussian, context), n_threads=n_threads)
    module.set_cells(gaussian.mean.astype(np.float32), gaussian.packed_covariance.astype(np.float32), values, context)


def _settings(options: GradientOptions, n_threads: int | None, on_step: OnStep | None) -> dict[str, Any]:
    """What every stage of stochastic training takes."""
    return {
        "n_steps": options.n_steps,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "n_threads": n_threads,
        "on_step": on_step,
    }


def infer_posterior(
    module: PLNPCAModule,
    data: CountData,
    family: GaussianFamily,
    *,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> Posterior:
    """Posteriors of other cells, with all parameters as they are."""
    gaussian = None
    if module.approximation is None or not module.approximation.encodes:
        model = module.generative if module.reference is None else module.reference
        gaussian = _optimal_gaussians(
            model, data, family, module.rotation.numpy(), batch_size=batch_size, n_threads=n_threads
        )
        if module.approximation is None:
            return gaussian
    return module.compose(*encode(module, data, gaussian))


def refine_posterior(
    module: PLNPCAModule,
    data: CountData,
    posterior: Posterior,
    family: GaussianFamily,
    n_steps: int,
    *,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> Posterior:
    """Posteriors that are improved cell by cell: Gaussians to their optimum, those under a flow by gradient steps."""
    if isinstance(posterior, FlowPosterior):
        model = copy.deepcopy(module.generative).float()
        return refine(data, model, posterior, n_steps=n_steps, diagonal=family == "meanfield", n_threads=n_threads)
    axes = module.rotation if module.approximation is None else module.approximation.frame
    return _optimal_gaussians(module.generative, data, family, axes.numpy(), batch_size=batch_size, n_threads=n_threads)


def _optimal_gaussians(
    model: Generative,
    data: CountData,
    family: GaussianFamily,
    rotation: NDArray[np.float64],
    *,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> GaussianPosterior:
    b, c = model.decoder.coefficients.numpy(), model.decoder.loadings.numpy()
    settings: dict[str, Any] = {
        "posterior": family,
        "rotation": rotation,
        "batch_size": batch_size,
        "n_threads": n_threads,
    }
    if isinstance(model.likelihood, Poisson):
        return GaussianPosterior(*infer(data, b, c, **settings))
    return GaussianPosterior(*infer_likelihood(data, b, c, model.likelihood, **settings))


def encode(
    module: PLNPCAModule, data: CountData, gaussian: GaussianPosterior | None
) -> tuple[GaussianPosterior, torch.Tensor]:
    """Gaussians of cells and the context of the flow, batch by batch."""
    means, covariances, contexts = [], [], []
    for cells, batch in Minibatches(data, data.block_size()).in_order():
        encoded, context = module.encode(batch, None if gaussian is None else gaussian[cells])
        means.append(encoded.mean)
        covariances.append(encoded.packed_covariance)
        contexts.append(context)
    return GaussianPosterior(np.concatenate(means), np.concatenate(covariances)), torch.cat(contexts)


def bound(
    model: Generative,
    data: CountData,
    posterior: Posterior,
    *,
    positions: NDArray[np.intp] | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Evidence lower bound of each cell: exact for Gaussians, the mean over draws for flows."""
    if not isinstance(posterior, GaussianPosterior):
        return sampled_elbo(data, model, posterior, n_samples=ELBO_DRAWS, positions=positions, n_threads=n_threads)
    b, c = model.decoder.coefficients.numpy(), model.decoder.loadings.numpy()
    gaussian = posterior.mean, posterior.packed_covariance
    settings: dict[str, Any] = {"batch_size": batch_size, "n_threads": n_threads}
    if isinstance(model.likelihood, Poisson):
        return elbo(data, b, c, *gaussian, **settings)
    return elbo_likelihood(data, b, c, model.likelihood, *gaussian, **settings)
