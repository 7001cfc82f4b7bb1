"""The options of ``scpln fit``, and which of them belong together."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ._errors import CommandError

MODELS = {"plnpca": "PLNPCA"}
"""Name on the command line, and class in `scpln.model`."""

POSTERIORS = ("fullrank", "meanfield", "flow")
LIKELIHOODS = ("poisson", "nb", "zip", "zinb", "bernoulli", "gaussian")
FLOWS = ("iaf", "maf", "realnvp", "nsf", "planar", "radial", "sylvester")
"""What the models take, by their names: written here too, since importing them takes seconds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options, in groups."""
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_output(parser.add_argument_group("output"))


def check_options(args: argparse.Namespace) -> None:
    """Refuse options of something that is not being fitted, which would have no effect."""
    if args.flow is not None and args.posterior != "flow":
        msg = f"--flow {args.flow} needs --posterior flow"
        raise CommandError(msg)
    stochastic = args.posterior == "flow" or args.amortized or args.n_importance_samples > 1
    for option, value in {"--n-steps": args.n_steps, "--learning-rate": args.learning_rate}.items():
        if value is not None and not stochastic:
            msg = (
                f"{option} is for stochastic training, and {args.posterior} Gaussians take none; add --posterior flow, "
                "--amortized or --n-importance-samples, or leave it out"
            )
            raise CommandError(msg)


def _add_data(group: Any) -> None:
    group.add_argument("--layer", metavar="NAME", help="layer that holds the counts or values (default: X)")
    group.add_argument("--batch-key", metavar="OBS", help="obs column of batches, whose effects are taken out")
    group.add_argument(
        "--size-factor-key",
        metavar="OBS",
        help="obs column of size factors, not logged, such as total counts over all genes "
        "(default: total counts over the genes in the file; none for real values)",
    )
    group.add_argument(
        "--categorical-covariate",
        metavar="OBS",
        action="append",
        help="obs column of categories whose effects are taken out; may be repeated",
    )
    group.add_argument(
        "--continuous-covariate",
        metavar="OBS",
        action="append",
        help="obs column of numbers whose effects are taken out; may be repeated",
    )


def _add_model(group: Any) -> None:
    group.add_argument("--model", choices=MODELS, default="plnpca", help="what to fit (default: %(default)s)")
    group.add_argument(
        "--n-latent", type=_positive, default=10, metavar="Q", help="latent dimensions (default: %(default)s)"
    )
    group.add_argument(
        "--likelihood",
        choices=LIKELIHOODS,
        default="poisson",
        help="distribution of the counts; gaussian: the file holds real values, such as log-normalised expression "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--posterior",
        choices=POSTERIORS,
        default="fullrank",
        help="posterior of each cell: a Gaussian with any covariance, one with a diagonal covariance, or a normalizing "
        "flow, which is closer and takes longer (default: %(default)s)",
    )
    group.add_argument(
        "--flow",
        choices=FLOWS,
        help="kind of flow, with --posterior flow (default: sylvester)",
    )
    group.add_argument(
        "--amortized",
        action="store_true",
        help="let an encoder give the posteriors, shared by all cells, from the counts",
    )


def _add_training(group: Any) -> None:
    group.add_argument(
        "--max-epochs", type=_positive, metavar="N", help="passes over the data for the Gaussians at most"
    )
    group.add_argument(
        "--n-steps",
        type=_positive,
        metavar="N",
        help="steps of stochastic training, of a flow, an encoder or the importance-weighted bound "
        "(default: 1,000, or as many as make ten passes over the data)",
    )
    group.add_argument(
        "--n-importance-samples",
        type=_positive,
        default=1,
        metavar="K",
        help="train on the importance-weighted bound with so many draws, if above 1 (default: %(default)s)",
    )
    group.add_argument(
        "--learning-rate", type=_positive_number, metavar="R", help="largest of stochastic training (default: 0.004)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    group.add_argument("--threads", type=_positive, metavar="N", help="processor cores to use (default: all)")


def _add_output(group: Any) -> None:
    group.add_argument("--out", type=Path, required=True, metavar="OUT.h5ad", help="annotated file to write")
    group.add_argument("--key-added", type=_name, metavar="KEY", help="name of the results (default: the model's name)")
    group.add_argument("--figure", type=Path, metavar="FILE", help="UMAP of the latent state (.png, .pdf or .svg)")
    group.add_argument(
        "--color",
        metavar="NAME",
        action="append",
        help="obs column or gene to colour the figure by; may be repeated (default: Leiden clusters, and the batch)",
    )
    group.add_argument("--save-model", type=Path, metavar="DIR", help="directory to save the fitted model in")
    group.add_argument("--force", "--overwrite", action="store_true", help="replace outputs that exist")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        msg = f"{text!r} is not a positive whole number"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        msg = f"{text!r} is not a number above 0"
        raise argparse.ArgumentTypeError(msg)
    return number


def _name(text: str) -> str:
    if not text or "/" in text:  # which .h5ad reads as a path
        msg = f"{text!r} is not a name: it must have a character, and no '/'"
        raise argparse.ArgumentTypeError(msg)
    return text
