"""The stages of fitting PLN-PCA: a Gaussian for each cell, then, if wanted, a flow or an encoder."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from scpln.core import hold_interrupts
from scpln.inference import gaussian_elbo, identified_rotation, infer_gaussians, sampled_elbo
from scpln.inference.mixture import Components, infer_mixture
from scpln.model.base import warn_stuck
from scpln.module import (
    GaussianMixture,
    GaussianPosterior,
    Generative,
    LinearDecoder,
    MixturePosterior,
    PLNPCAModule,
    StandardNormal,
    mixture_posterior,
)
from scpln.train import (
    Ascent,
    Minibatches,
    distill_gaussians,
    refine,
    standardize_context,
    torch_threads,
    train_approximation,
)
from scpln.utils import slow_bar

from ._axes import rotated_packed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.inference import FitResult, GaussianFamilyName
    from scpln.module import Approximation, Likelihood, Posterior

    from ._options import GradientOptions

    OnStep = Callable[[int, float], None]

#: Draws that a flow's bound is the mean of.
ELBO_DRAWS = 200
#: Seed of the draws that stored bounds of flows are the mean of.
STORED_SEED = 0


def gaussian_module(result: FitResult, likelihood: Likelihood, approximation: Approximation | None) -> PLNPCAModule:
    """Module with fitted parameters and Gaussians."""
    decoder = LinearDecoder(result.coefficients, result.loadings)
    module = PLNPCAModule(Generative(decoder, likelihood).double(), approximation)
    module.set_cells(result.mean, result.covariance, result.elbo)
    module.rotation.copy_(torch.from_numpy(result.rotation))
    if result.spread is not None:
        module.set_spread(result.spread)
    return module


def start_shared(
    data: CountData,
    module: PLNPCAModule,
    options: GradientOptions,
    n_threads: int | None = None,
    on_step: OnStep | None = None,
) -> Ascent:
    """Distill a module's Gaussians into its encoder, or standardise the features of its flow."""
    approximation = module.approximation
    assert approximation is not None
    gaussian = GaussianPosterior(module.mean, module.covariance)
    if approximation.encodes:
        return distill_gaussians(data, approximation, gaussian, **_settings(options, n_threads, on_step))
    standardize_context(data, approximation, gaussian, options.batch_size)
    return Ascent()


def train_shared(
    data: CountData,
    module: PLNPCAModule,
    options: GradientOptions,
    density: Callable[[Generative], torch.Tensor] | None = None,
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
            log_prior=density,
            **_settings(options, n_threads, on_step),
        )
    finally:
        if options.reestimate:
            module.generative.load_state_dict(working.state_dict())


def finish_shared(data: CountData, module: PLNPCAModule, n_threads: int | None = None) -> bool:
    """Turn the loadings to their identified rotation, and store the posteriors of the training cells, as `store` does."""
    assert module.approximation is not None
    module.requires_grad_(False)
    with hold_interrupts() as held:
        loadings = module.loadings.numpy()
        frame = torch.from_numpy(identified_rotation(loadings))
        module.loadings.copy_(torch.from_numpy(loadings) @ frame)
        if len(module.spread):
            module.set_spread(rotated_packed(module.spread.numpy(), frame.numpy().T))
        module.approximation.frame.copy_(frame)
        gaussian, context = encode(module, data, GaussianPosterior(module.mean, module.covariance), n_threads)
    return store(module, data, module.compose(gaussian, context), n_threads) and not held.pressed


def store(module: PLNPCAModule, data: CountData, posterior: Posterior, n_threads: int | None) -> bool:
    """Keep the posteriors of the training cells, and their bounds: NaN, and False returned, if Ctrl-C ends these."""
    mean, covariance, context = _to_keep(module, posterior)
    module.set_cells(mean, covariance, np.full(len(mean), np.nan), context)
    try:
        values = bound(module.generative, data, posterior, n_threads=n_threads)
    except KeyboardInterrupt:
        return False
    module.set_cells(mean, covariance, values, context)
    return True


def _to_keep(module: PLNPCAModule, posterior: Posterior) -> tuple[Any, Any, Any]:
    """Means, covariances and context of posteriors, as the module keeps them, in single precision."""
    if isinstance(posterior, MixturePosterior):
        parts = posterior.components
        mean, covariance = (
            np.stack(values, 1) for values in ([p.mean for p in parts], [p.packed_covariance for p in parts])
        )
        return (
            mean.astype(np.float32),
            covariance.astype(np.float32),
            posterior.responsibilities(module.generative.prior).astype(np.float32),
        )
    gaussian, context = posterior.gaussian, posterior.context
    assert gaussian is not None
    context = None if context is None else context.float()
    return gaussian.mean.astype(np.float32), gaussian.packed_covariance.astype(np.float32), context


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
    family: GaussianFamilyName,
    *,
    names: Sequence[Any] | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> Posterior:
    """Posteriors of other cells, with all parameters as they are. Warns of those that did not converge, by their `names`."""
    if isinstance(module.generative.prior, GaussianMixture):
        found = mixture_of(module, data, names=names, batch_size=batch_size, n_threads=n_threads)
        return mixture_posterior(*found)
    gaussian = None
    if module.approximation is None or not module.approximation.encodes:
        model = module.generative if module.reference is None else module.reference
        gaussian = _optimal_gaussians(
            model, data, family, module.rotation.numpy(), names=names, batch_size=batch_size, n_threads=n_threads
        )
        if module.approximation is None:
            return gaussian
    return module.compose(*encode(module, data, gaussian, n_threads))


def refine_posterior(
    module: PLNPCAModule,
    data: CountData,
    posterior: Posterior,
    family: GaussianFamilyName,
    n_steps: int,
    *,
    seed: int = 0,
    names: Sequence[Any] | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> Posterior:
    """Posteriors that are improved cell by cell: Gaussians to their optimum, those under a flow by gradient steps.

    Those under a mixture are at their optimum.
    """
    if isinstance(posterior, MixturePosterior):
        return posterior
    if not posterior.is_gaussian:
        model = copy.deepcopy(module.generative).float()
        return refine(
            data, model, posterior, n_steps=n_steps, diagonal=family == "meanfield", seed=seed, n_threads=n_threads
        )
    axes = module.rotation if module.approximation is None else module.approximation.frame
    settings: dict[str, Any] = {"names": names, "batch_size": batch_size, "n_threads": n_threads}
    return _optimal_gaussians(module.generative, data, family, axes.numpy(), **settings)


def mixture_of(
    module: PLNPCAModule,
    data: CountData,
    *,
    names: Sequence[Any] | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of the components, and means and covariances under those that are most probable, as the module keeps them."""
    prior = cast("GaussianMixture", module.generative.prior)
    components = Components(
        *(value.detach().cpu().double().numpy() for value in (prior.loc, prior.covariance, prior.log_weights.exp()))
    )
    settings: dict[str, Any] = {"batch_size": batch_size, "n_threads": n_threads}
    stuck = partial(warn_stuck, names=names)
    linear = linear_parameters(module.generative)
    found = infer_mixture(data, *linear, module.generative.likelihood, components, on_stuck=stuck, **settings)
    return found.probabilities, found.mean, found.covariance


def _optimal_gaussians(
    model: Generative,
    data: CountData,
    family: GaussianFamilyName,
    rotation: NDArray[np.float64],
    *,
    names: Sequence[Any] | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> GaussianPosterior:
    b, c = linear_parameters(model)
    settings: dict[str, Any] = {
        "posterior": family,
        "rotation": rotation,
        "batch_size": batch_size,
        "n_threads": n_threads,
        "on_stuck": partial(warn_stuck, names=names),
    }
    return GaussianPosterior(*infer_gaussians(data, b, c, model.likelihood, **settings))


def encode(
    module: PLNPCAModule, data: CountData, gaussian: GaussianPosterior | None, n_threads: int | None = None
) -> tuple[GaussianPosterior, torch.Tensor]:
    """Gaussians of cells and the context of the flow, batch by batch; on one thread unless more are given."""
    means, covariances, contexts = [], [], []
    with torch_threads(n_threads or 1):
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
    seed: int = STORED_SEED,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Evidence lower bound of each cell: exact for Gaussians and mixtures of them, the mean over draws for flows."""
    if isinstance(posterior, MixturePosterior):
        return _bound_of_mixture(model, data, posterior, batch_size=batch_size, n_threads=n_threads)
    if not posterior.is_gaussian:
        draws: dict[str, Any] = {"n_samples": ELBO_DRAWS, "seed": seed, "positions": positions}
        with slow_bar("Bounds", data.n_cells, unit="cell") as done:
            return sampled_elbo(data, model, posterior, **draws, n_threads=n_threads, on_cells=done)
    b, c = linear_parameters(model)
    gaussian = posterior.mean, posterior.packed_covariance
    return gaussian_elbo(data, b, c, model.likelihood, *gaussian, batch_size=batch_size, n_threads=n_threads)


def _bound_of_mixture(
    model: Generative, data: CountData, posterior: MixturePosterior, **settings: int | None
) -> NDArray[np.float64]:
    r""":math:`\sum_k q(k) E_{q(z \mid k)}[\log p(y \mid z)] - KL(q(k) q(z \mid k) \,\|\, \pi_k p(z \mid k))`, which is below the bound of the mixture."""
    b, c = linear_parameters(model)
    divergence, standard = posterior.divergence(model.prior), StandardNormal(posterior.n_latent)
    assert divergence is not None
    total = -divergence
    for weights, part in zip(posterior.weights.numpy().T, posterior.components, strict=True):
        own = np.flatnonzero(weights)
        if not len(own):
            continue
        some, cells = part[own], data if len(own) == data.n_cells else data.subset(own)
        elbo = gaussian_elbo(cells, b, c, model.likelihood, some.mean, some.packed_covariance, **settings)
        total[own] += weights[own] * (elbo + some.divergence(standard))
    return total


def linear_parameters(model: Generative) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """B (p, d) and C (p, q) of a model whose decoder is linear, wherever its parameters are."""
    linear = model.decoder.linear_map()
    assert linear is not None
    coefficients, loadings = (value.detach().cpu().numpy() for value in linear)
    return coefficients, loadings


def on_cpu(module: PLNPCAModule) -> PLNPCAModule:
    """The module where its solvers compute: itself, or a copy of one whose parameters are elsewhere."""
    return module if module.device.type == "cpu" else copy.deepcopy(module).cpu()
