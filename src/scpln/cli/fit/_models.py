"""The models that ``scpln fit`` fits: which options each has, and which arguments these become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scpln.cli._errors import CommandError

if TYPE_CHECKING:
    import argparse

LIKELIHOODS = ("poisson", "nb", "zip", "zinb", "bernoulli", "gaussian")
POSTERIORS = ("fullrank", "meanfield", "flow")
FLOWS = ("iaf", "maf", "realnvp", "nsf", "planar", "radial", "sylvester")
DISPERSIONS = ("gene", "gene-batch", "gene-cell")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
WITH_PARAMETERS = ("nb", "zip", "zinb", "gaussian")
"""What the models take, by their names: written here too, since importing them takes seconds. The last: the likelihoods
with parameters besides the rate."""


@dataclass(frozen=True)
class Kind:
    """A model on the command line: its class in `scpln.model`, what it is, and its likelihoods, the default first."""

    class_name: str
    description: str
    likelihoods: tuple[str, ...]


AUTOENCODER_LIKELIHOODS = ("nb", "poisson", "zip", "zinb", "constrained_poisson", "bernoulli", "gaussian")
MODELS = {
    "plnpca": Kind("PLNPCA", "Poisson log-normal PCA", LIKELIHOODS),
    "countvae": Kind("CountVAE", "variational autoencoder", AUTOENCODER_LIKELIHOODS),
    "countgmvae": Kind("CountGMVAE", "the same with a mixture prior, which clusters cells", AUTOENCODER_LIKELIHOODS),
}

AUTOENCODERS = ("countvae", "countgmvae")
BELONGS = {
    ("plnpca",): ("amortized", "n_steps", "n_importance_samples"),
    AUTOENCODERS: (
        "n_hidden",
        "n_layers",
        "dispersion",
        "k_max",
        "early_stopping",
        "accelerator",
        "checkpoint_dir",
        "resume",
    ),
    ("countgmvae",): ("n_components", "labels_key"),
}
"""Options that some models have only; they are None unless given."""

REGISTRATION = {
    "layer": "layer",
    "batch_key": "batch_key",
    "labels_key": "labels_key",
    "size_factor_key": "size_factor_key",
    "categorical_covariate": "categorical_covariate_keys",
    "continuous_covariate": "continuous_covariate_keys",
}
PARAMETERS = (
    "n_latent",
    "likelihood",
    "posterior",
    "flow",
    "amortized",
    "n_hidden",
    "n_layers",
    "dispersion",
    "k_max",
    "n_components",
)
TRAINING = (
    "max_epochs",
    "n_steps",
    "n_importance_samples",
    "batch_size",
    "learning_rate",
    "early_stopping",
    "accelerator",
    "checkpoint_dir",
    "resume",
    "seed",
    "n_threads",
)
"""Where options go: arguments of the set-up, of the constructor and of ``train``, of which only those given are passed on."""


def check_options(args: argparse.Namespace) -> None:
    """Fill in the model's own defaults, and refuse options that would have no effect on it."""
    _check_model(args)
    args.likelihood = args.likelihood or MODELS[args.model].likelihoods[0]
    if args.flow is not None and args.posterior != "flow":
        msg = f"--flow {args.flow} needs --posterior flow"
        raise CommandError(msg)
    if args.dispersion not in (None, "gene") and args.likelihood not in WITH_PARAMETERS:
        msg = (
            f"--dispersion {args.dispersion} has no effect with --likelihood {args.likelihood}, whose only parameter is the "
            f"rate: leave it out, or choose --likelihood {', '.join(WITH_PARAMETERS)}"
        )
        raise CommandError(msg)
    if args.resume and args.checkpoint_dir is None:
        msg = "--resume goes on from a checkpoint; say where it is with --checkpoint-dir"
        raise CommandError(msg)
    if args.model == "plnpca":
        _check_stochastic(args)


def registration(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the set-up."""
    given = {name: getattr(args, option) for option, name in REGISTRATION.items()}
    return {**given, "is_count_data": args.likelihood != "gaussian"}


def parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the model's constructor."""
    return _given(args, PARAMETERS)


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``train``."""
    return _given(args, TRAINING)


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _check_model(args: argparse.Namespace) -> None:
    """Refuse options and likelihoods of another model."""
    for models, names in BELONGS.items():
        for name in names:
            if getattr(args, name) is not None and args.model not in models:
                option = f"--{'no-' if getattr(args, name) is False else ''}{name.replace('_', '-')}"
                msg = (
                    f"{option} has no effect on --model {args.model}: leave it out, or fit "
                    f"{' or '.join(f'--model {model}' for model in models)}"
                )
                raise CommandError(msg)
    if args.likelihood is not None and args.likelihood not in MODELS[args.model].likelihoods:
        others = [f"--model {name}" for name, kind in MODELS.items() if args.likelihood in kind.likelihoods]
        msg = (
            f"--model {args.model} has no likelihood {args.likelihood}: choose from "
            f"{', '.join(MODELS[args.model].likelihoods)}, or fit {' or '.join(others)}"
        )
        raise CommandError(msg)


def _check_stochastic(args: argparse.Namespace) -> None:
    """Refuse options of stochastic training where PLN-PCA takes none."""
    if args.posterior == "flow" or args.amortized or (args.n_importance_samples or 1) > 1:
        return
    for option, value in {"--n-steps": args.n_steps, "--learning-rate": args.learning_rate}.items():
        if value is not None:
            msg = (
                f"{option} is for stochastic training, and {args.posterior} Gaussians take none; add --posterior flow, "
                "--amortized or --n-importance-samples, or leave it out"
            )
            raise CommandError(msg)
