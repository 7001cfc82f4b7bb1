"""The options of ``scpln fit``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from scpln.cli._summary import add_summary_option

from ._models import ACCELERATORS, DISPERSIONS, FLOWS, MODELS, POSTERIORS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options, in groups: those of all models, then those of some."""
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_plnpca(parser.add_argument_group("of --model plnpca only"))
    _add_autoencoder(parser.add_argument_group("of --model countvae and countgmvae only"))
    _add_mixture(parser.add_argument_group("of --model countgmvae only"))
    _add_output(parser.add_argument_group("output"))
    _add_files(parser.add_argument_group("options from a file"))


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
    described = "; ".join(f"{name}: {kind.description}" for name, kind in MODELS.items())
    group.add_argument("--model", choices=MODELS, default="plnpca", help=f"{described} (default: %(default)s)")
    group.add_argument(
        "--n-latent", type=positive_integer, default=10, metavar="Q", help="latent dimensions (default: %(default)s)"
    )
    group.add_argument(
        "--likelihood",
        choices=tuple(dict.fromkeys(name for kind in MODELS.values() for name in kind.likelihoods)),
        help="distribution of the counts; constrained_poisson, of autoencoders only: rates are shares of the size "
        "factor's total; gaussian: the file holds real values, such as log-normalised expression "
        "(default: poisson for plnpca, nb for autoencoders)",
    )
    group.add_argument(
        "--posterior",
        choices=POSTERIORS,
        default="fullrank",
        help="posterior of each cell: a Gaussian with any covariance, one with a diagonal covariance, or a normalizing "
        "flow, which is closer and takes longer (default: %(default)s)",
    )
    group.add_argument("--flow", choices=FLOWS, help="kind of flow, with --posterior flow (default: sylvester)")


def _add_training(group: Any) -> None:
    group.add_argument(
        "--max-epochs",
        type=positive_integer,
        metavar="N",
        help="passes over the data at most; for plnpca, of the Gaussians (default: 500 for plnpca; for autoencoders as "
        "many as suit the number of cells)",
    )
    group.add_argument(
        "--batch-size",
        type=positive_integer,
        metavar="N",
        help="cells in a step of stochastic training; for plnpca, also in memory at a time (default: 512 for plnpca, 128 "
        "for autoencoders)",
    )
    group.add_argument(
        "--learning-rate",
        type=_positive_number,
        metavar="R",
        help="largest of stochastic training (default: 0.004 for plnpca, 0.002 for autoencoders)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    group.add_argument(
        "--threads",
        type=positive_integer,
        dest="n_threads",
        metavar="N",
        help="processor cores to use (default: all for plnpca, as many as pay for autoencoders)",
    )


def _add_plnpca(group: Any) -> None:
    group.add_argument(
        "--amortized",
        action=argparse.BooleanOptionalAction,
        help="let an encoder give the posteriors, shared by all cells, from the counts; autoencoders always do",
    )
    group.add_argument(
        "--n-steps",
        type=positive_integer,
        metavar="N",
        help="steps of stochastic training, of a flow, an encoder or the importance-weighted bound "
        "(default: 1,000, or as many as make ten passes over the data)",
    )
    group.add_argument(
        "--n-importance-samples",
        type=positive_integer,
        metavar="K",
        help="train on the importance-weighted bound with so many draws, if above 1 (default: 1)",
    )


def _add_autoencoder(group: Any) -> None:
    group.add_argument("--n-hidden", type=positive_integer, metavar="N", help="width of hidden layers (default: 128)")
    group.add_argument(
        "--n-layers",
        type=_not_negative,
        metavar="N",
        help="hidden layers of encoder and decoder; 0 makes the decoder linear (default: 1)",
    )
    group.add_argument(
        "--dispersion",
        choices=DISPERSIONS,
        help="whose the likelihood's parameters besides the rate are (default: gene)",
    )
    group.add_argument(
        "--k-max",
        type=positive_integer,
        metavar="K",
        help="give counts below K probabilities of their own (default: none)",
    )
    group.add_argument(
        "--early-stopping",
        action=argparse.BooleanOptionalAction,
        help="whether to stop when held-out cells no longer gain, and keep the weights that were best for them, or to go "
        "through all epochs and keep the last (default: stop)",
    )
    group.add_argument("--accelerator", choices=ACCELERATORS, help="where to compute (default: a GPU if there is one)")
    group.add_argument(
        "--checkpoint-dir", type=Path, metavar="DIR", help="directory to keep the state of training in, epoch by epoch"
    )
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="go on from the checkpoint in --checkpoint-dir, if there is one",
    )


def _add_mixture(group: Any) -> None:
    group.add_argument(
        "--n-components",
        type=positive_integer,
        metavar="K",
        help="components of the mixture (default: as many as labels, or else a held-out bound chooses)",
    )
    group.add_argument(
        "--labels-key",
        metavar="OBS",
        help="obs column of labels of some cells, each of which gets a component; missing for the others",
    )


def _add_output(group: Any) -> None:
    group.add_argument("--out", type=Path, required=True, metavar="OUT.h5ad", help="annotated file to write")
    group.add_argument("--key-added", type=_name, metavar="KEY", help="name of the results (default: the model's name)")
    group.add_argument("--figure", type=Path, metavar="FILE", help="UMAP of the latent state (.png, .pdf or .svg)")
    group.add_argument(
        "--color",
        metavar="NAME",
        action="append",
        help="obs column or gene to colour the figure by; may be repeated (default: the model's clusters or Leiden's, "
        "and the batch)",
    )
    group.add_argument("--save-model", type=Path, metavar="DIR", help="directory to save the fitted model in")
    add_summary_option(group)
    group.add_argument("--force", "--overwrite", action="store_true", help="replace outputs that exist")


def _add_files(group: Any) -> None:
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE.yaml",
        help="YAML file of options by their long names, such as 'n_latent: 20', and 'input'; lists for those that may be "
        "repeated. Options on the command line win. Relative paths are relative to where the command runs",
    )
    group.add_argument(
        "--write-config", type=Path, metavar="FILE.yaml", help="write such a file, with all that this run was given"
    )


def positive_integer(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        msg = f"{text!r} is not a positive whole number"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _not_negative(text: str) -> int:
    if not text.isdecimal():
        msg = f"{text!r} is not a whole number of 0 or more"
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
