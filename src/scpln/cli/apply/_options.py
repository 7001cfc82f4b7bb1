"""The options of ``scpln predict`` and ``scpln map``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln.cli._summary import add_summary_option
from scpln.cli.fit import add_config_options, name_of_results, positive_integer, positive_number

if TYPE_CHECKING:
    import argparse

TRAINING = ("max_epochs", "batch_size", "learning_rate")
"""Options that become arguments of the training of what is new."""


def add_options(parser: argparse.ArgumentParser, *, learns: bool) -> None:
    """Add the options, in groups.

    Parameters
    ----------
    parser
        Of the command, or of its options alone.
    learns
        Whether it estimates what is new about the cells.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--load-model", type=Path, required=True, metavar="DIR", help="directory that `scpln fit --save-model` wrote"
    )
    if learns:
        group.add_argument(
            "--fill-missing",
            action="store_true",
            help="fill genes that the file lacks with zeros, which are read as measured zeros, and leave out genes that the "
            "model does not have",
        )
        _add_training(parser.add_argument_group("training of what is new"))
    group.add_argument(
        "--reject",
        type=positive_number,
        metavar="SHARE",
        help="also write labels of which cells far from all that the model was trained on are 'unknown', obs['KEY_label']: as far as "
        "this share of those cells, such as 0.05; of a model with clusters or labels",
    )
    group.add_argument(
        "--target-error",
        type=positive_number,
        metavar="SHARE",
        help="give a label only to cells sure enough for this share of errors among them, such as 0.05; of a LabelClassifier",
    )
    group = parser.add_argument_group("computation")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    group.add_argument(
        "--threads", type=positive_integer, dest="n_threads", metavar="N", help="processor cores to use (default: all)"
    )
    group.add_argument(
        "--diagnostics", action="store_true", help="write how close each posterior is to the exact one, too"
    )
    _add_output(parser.add_argument_group("output"), learns=learns)
    _add_figure(parser.add_argument_group("figure"))
    add_config_options(parser.add_argument_group("options from a file"))


def _add_training(group: Any) -> None:
    group.add_argument("--max-epochs", type=positive_integer, metavar="N", help="passes over the cells at most")
    group.add_argument(
        "--batch-size", type=positive_integer, metavar="N", help="cells in a step of stochastic training"
    )
    group.add_argument("--learning-rate", type=positive_number, metavar="R", help="largest of stochastic training")


def _add_output(group: Any, *, learns: bool) -> None:
    group.add_argument(
        "--out", type=Path, required=True, metavar="OUT.h5ad", help="annotated file to write, of the kind of the input"
    )
    group.add_argument(
        "--key-added", type=name_of_results, metavar="KEY", help="name of the results (default: the model's name)"
    )
    if learns:
        group.add_argument("--save-model", type=Path, metavar="DIR", help="directory to save the mapped model in")
    add_summary_option(group)
    group.add_argument("--force", "--overwrite", action="store_true", help="replace outputs that exist")


def _add_figure(group: Any) -> None:
    group.add_argument("--figure", type=Path, metavar="FILE", help="UMAP of the latent state (.png, .pdf or .svg)")
    group.add_argument(
        "--color",
        metavar="NAME",
        action="append",
        help="obs column or gene to colour the figure by; may be repeated (default: the model's clusters, if it has)",
    )
    group.add_argument(
        "--reference",
        type=Path,
        metavar="ANNOTATED.h5ad",
        help="what `scpln fit` wrote as it fitted the model: cells are placed in its UMAP, which stays as it is",
    )
    group.add_argument(
        "--basis",
        metavar="NAME",
        help="embedding of the reference to place cells in (default: its UMAP of the latent state, or one made now)",
    )
