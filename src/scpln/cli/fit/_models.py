"""What the options of ``scpln fit`` come to: arguments of a model, once those without effect are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln._catalogue import MODELS, N_LATENT, OF_VALUES, WITH_PARAMETERS, in_words, keys_of, options
from scpln.cli._errors import CommandError

from ._modalities import check_modalities, is_mudata, joint_likelihood, modalities, named_likelihoods

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData
    from mudata import MuData

    from scpln._catalogue import Entry

ARGUMENTS = {
    "layer": "layer",
    "round_counts": "round_counts",
    "batch_key": "batch_key",
    "size_factor_key": "size_factor_key",
    "offset_key": "offset_key",
    "mask_key": "mask_key",
    "design": "design",
    "categorical_covariate": "categorical_covariate_keys",
    "continuous_covariate": "continuous_covariate_keys",
    **{
        name: name
        for name in ("n_latent", "posterior", "flow", "max_epochs", "batch_size", "learning_rate", "seed", "n_threads")
    },
}
"""Arguments that options of all models become; those of some models have their names. Only those given are passed on."""


def check_options(args: argparse.Namespace) -> None:
    """Fill in the model's own defaults, and refuse options that would have no effect on it."""
    entry = MODELS[args.model]
    _check_belongs(args)
    check_modalities(args, entry)
    _use_present_names(args, entry)
    args.likelihood = args.likelihood or next(iter(entry.likelihoods), None)
    args.posterior = args.posterior or next(iter(entry.posteriors), None)
    _check_latent(args, entry)
    _check_choice(args, "likelihood", named_likelihoods(args))
    _check_choice(args, "posterior", [args.posterior])
    if args.flow is not None and args.posterior != "flow":
        msg = f"--flow {args.flow} needs --posterior flow"
        raise CommandError(msg)
    if _given(args, "dispersion") not in (None, "gene") and args.likelihood not in WITH_PARAMETERS:
        msg = (
            f"--dispersion {args.dispersion} has no effect with --likelihood {args.likelihood}, whose only parameter is the "
            f"rate: leave it out, or choose --likelihood {', '.join(WITH_PARAMETERS)}"
        )
        raise CommandError(msg)
    if _given(args, "resume") and args.checkpoint_dir is None:
        msg = "--resume goes on from a checkpoint; say where it is with --checkpoint-dir"
        raise CommandError(msg)
    _check_stochastic(args, entry)


def arguments(args: argparse.Namespace, data: AnnData | MuData) -> dict[str, Any]:
    """Arguments of the set-up, the constructor and ``train``."""
    names = {**ARGUMENTS, **{name: name for name in options()}}
    given = {name: value for option, name in names.items() if (value := _given(args, option)) is not None}
    if is_mudata(args):
        return {**given, "modalities": modalities(args, data), "likelihood": joint_likelihood(args, data)}
    if args.likelihood is None:
        return given
    return {**given, "likelihood": args.likelihood, "is_count_data": args.likelihood != OF_VALUES}


def option_of(name: str, value: object = None) -> str:
    """An option as a user writes it.

    Examples
    --------
    >>> option_of("n_hidden", 8), option_of("resume", False)
    ('--n-hidden', '--no-resume')
    """
    return f"--{'no-' if value is False else ''}{name.replace('_', '-')}"


def _given(args: argparse.Namespace, name: str) -> Any:
    """Value of an option; None too if no model has it."""
    return getattr(args, name, None)


def _check_belongs(args: argparse.Namespace) -> None:
    """Refuse options of other models."""
    for name in options():
        if _given(args, name) is not None and args.model not in keys_of(name):
            msg = (
                f"{option_of(name, getattr(args, name))} has no effect on --model {args.model}: leave it out, or fit "
                f"{' or '.join(f'--model {key}' for key in keys_of(name))}"
            )
            raise CommandError(msg)


def _use_present_names(args: argparse.Namespace, entry: Entry) -> None:
    """Put what a likelihood that has lost its name is called now in its place."""
    if isinstance(args.likelihood, str):
        for name, value in entry.former_likelihoods.get(args.likelihood, {}).items():
            setattr(args, name, value)


def _check_latent(args: argparse.Namespace, entry: Entry) -> None:
    """Fill in the number of latent dimensions, or refuse what needs a latent state that the model does not have."""
    if entry.has_latent:
        args.n_latent = args.n_latent or N_LATENT
        return
    for name in ("n_latent", "figure"):
        if _given(args, name) is not None:
            msg = f"{option_of(name)} has no effect on --model {args.model}, which has no latent space: leave it out"
            raise CommandError(msg)


def _check_choice(args: argparse.Namespace, option: str, chosen: list[str | None]) -> None:
    """Refuse a likelihood or a posterior of other models."""
    own: dict[str, tuple[str, ...]] = {key: getattr(entry, f"{option}s") for key, entry in MODELS.items()}
    for value in chosen:
        if value is not None and value not in own[args.model]:
            former = [key for key, each in MODELS.items() if value in each.former_likelihoods]
            others = [f"--model {key}" for key, values in own.items() if value in values or key in former]
            msg = (
                f"--model {args.model} has no {option} {value}: choose from {', '.join(own[args.model]) or 'none'}, or fit "
                f"{' or '.join(others)}"
            )
            raise CommandError(msg)


def _check_stochastic(args: argparse.Namespace, entry: Entry) -> None:
    """Refuse options of stochastic training where there is none."""
    if not entry.closed_form or any(_given(args, name) not in values for name, values in entry.closed_form.items()):
        return
    for name in entry.stochastic:
        if _given(args, name) is not None:
            remedies = ["--posterior flow" if each == "posterior" else option_of(each) for each in entry.closed_form]
            msg = (
                f"{option_of(name)} is for stochastic training, and {args.posterior or 'optimal'} Gaussians take none; add "
                f"{in_words(remedies, 'or')}, or leave it out"
            )
            raise CommandError(msg)
