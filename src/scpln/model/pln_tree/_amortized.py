"""Posteriors of samples from an encoder, which is trained under given parameters."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from scpln.module import Approximation, TreeEncoder
from scpln.train import NotFiniteError, torch_random, train_approximation
from scpln.utils import positive_integer, positive_number, progress_bar, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.core import CountData, TreeContrasts
    from scpln.inference.tree import TreeResult
    from scpln.module import PLNTreeModule
    from scpln.train import Ascent

#: Steps of Adam, its largest learning rate, and samples that are drawn in each step.
STEPS, LEARNING_RATE, SAMPLES_IN_STEP = 1000, 4e-3, 64


@dataclass(frozen=True)
class EncoderOptions:
    """How an encoder is trained: arguments of `PLNTree.train`."""

    n_steps: int
    learning_rate: float
    seed: int

    @classmethod
    def of(cls, n_steps: int | None, learning_rate: float, seed: int, *, amortized: bool) -> EncoderOptions:
        """Checked, with defaults filled in; a warning says if there is no encoder."""
        steps = positive_integer("n_steps", STEPS if n_steps is None else n_steps)
        rate = positive_number("learning_rate", learning_rate, most=1)
        given = {"n_steps": n_steps is not None, "learning_rate": rate != LEARNING_RATE}
        names = [name for name, is_given in given.items() if is_given]
        if names and not amortized:
            warn(
                f"train({'=..., '.join(names)}=...) has no effect: a Gaussian of its own for each cell is found without "
                "stochastic steps. Leave it out, or make the model with amortized=True."
            )
        return cls(steps, rate, seed)


def new_approximation(
    contrasts: TreeContrasts, n_covariates: int, hidden: Sequence[int], seed: int = 0
) -> Approximation:
    """An encoder that is not trained."""
    with torch_random(seed):
        return Approximation(contrasts.n_leaves, TreeEncoder(contrasts, n_covariates, hidden=hidden), None)


def train_encoder(
    name: str, data: CountData, module: PLNTreeModule, options: EncoderOptions, n_threads: int | None, *, progress: bool
) -> tuple[Ascent, NotFiniteError | None]:
    """Train a module's encoder on samples that the model draws, with all parameters of the model as they are, and what it failed with, if it did."""
    assert module.approximation is not None
    encoder = module.approximation.source
    assert isinstance(encoder, TreeEncoder)
    encoder.set_model(module.coefficients, torch.cholesky_inverse(module.scale))
    settings: dict[str, Any] = asdict(options) | {"n_threads": n_threads, "batch_size": SAMPLES_IN_STEP}
    generative = copy.deepcopy(module.generative)
    try:
        with progress_bar(f"{name}, encoder", options.n_steps, unit="step", show=progress) as bar:
            ascent = train_approximation(
                data,
                generative,
                module.approximation,
                None,
                n_samples=1,
                n_importance=1,
                reestimate=False,
                simulated=True,
                on_step=bar.update,
                **settings,
            )
            bar.finish(ascent.reason)
    except NotFiniteError as error:
        return error.ascent, error
    finally:
        module.requires_grad_(False)
    return ascent, None


def amortized(fit: TreeResult, ascent: Ascent) -> TreeResult:
    """The fit of the parameters, with what was done for the encoder after it."""
    return replace(
        fit,
        converged=fit.converged and not (ascent.interrupted or ascent.failed),
        reason=f"{fit.reason}; {ascent.reason}",
        history=fit.history | {"stochastic_bound": ascent.bound, "stochastic_seconds": ascent.seconds},
    )
