"""The options of ``scpln fit``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln._catalogue import (
    FLOWS,
    MODELS,
    N_LATENT,
    POSTERIORS,
    default_key,
    in_words,
    keys_of,
    likelihoods,
    options,
)
from scpln.cli._summary import add_summary_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scpln._catalogue import Option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options, in groups: those of all models, then those of some."""
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_of_some(parser)
    _add_output(parser.add_argument_group("output"))
    add_config_options(parser.add_argument_group("options from a file"))


def _add_data(group: Any) -> None:
    group.add_argument(
        "--modality",
        action="append",
        type=_modality,
        metavar="NAME[=LAYER[:OBS]]",
        help="modality of an .h5mu to model together with others, the layer that holds its counts, and the obs column of its "
        "size factors; may be repeated (default: the X of all)",
    )
    group.add_argument("--layer", metavar="NAME", help="layer that holds the counts or values (default: X)")
    group.add_argument(
        "--round-counts",
        action="store_true",
        default=None,
        help="round the values to whole numbers, for estimated counts (salmon, kallisto, SoupX, CellBender)",
    )
    group.add_argument("--batch-key", metavar="OBS", help="obs column of batches, whose effects are taken out")
    group.add_argument(
        "--size-factor-key",
        metavar="OBS",
        help="obs column of size factors, not logged, such as total counts over all genes "
        "(default: total counts over the genes in the file; none for real values)",
    )
    group.add_argument(
        "--offset-key",
        metavar="NAME",
        help="layer, or entry of obsm, with an offset of each entry, logged, in place of size factors, or beside those that are "
        "named",
    )
    group.add_argument(
        "--mask-key",
        metavar="NAME",
        help="layer, or entry of obsm, that is true where an entry was observed; what stands in others has no effect",
    )
    group.add_argument(
        "--design",
        metavar="FORMULA",
        help="formula of obs columns whose effects are taken out, such as '~ condition * age + donor', in place of covariates",
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
    described = "; ".join(f"{key}: {entry.summary}" for key, entry in MODELS.items())
    group.add_argument("--model", choices=MODELS, default=default_key(), help=f"{described} (default: %(default)s)")
    group.add_argument(
        "--n-latent", type=positive_integer, metavar="Q", help=f"latent dimensions (default: {N_LATENT})"
    )
    group.add_argument(
        "--likelihood",
        action=_LikelihoodAction,
        choices=_Likelihoods(likelihoods()),
        help="distribution of the counts; constrained_poisson is a former name of poisson with --scale-activation softmax; gaussian: the file holds real values, such as log-normalised expression; of modalities, "
        "MODALITY=NAME, which may be repeated "
        f"(default: {_by_model({key: entry.likelihoods[0] for key, entry in MODELS.items() if entry.likelihoods})})",
    )
    group.add_argument(
        "--posterior",
        choices=POSTERIORS,
        help="posterior of each cell: a Gaussian with any covariance, one with a diagonal covariance, or a normalizing "
        "flow, which is closer and takes longer "
        f"(default: {_by_model({key: entry.posteriors[0] for key, entry in MODELS.items() if entry.posteriors})})",
    )
    group.add_argument("--flow", choices=FLOWS, help="kind of flow, with --posterior flow (default: sylvester)")


def _add_training(group: Any) -> None:
    for name, kind, metavar, text in (
        ("max_epochs", positive_integer, "N", "passes over the data at most"),
        ("batch_size", positive_integer, "N", "cells in a step of stochastic training"),
        ("learning_rate", positive_number, "R", "largest of stochastic training"),
    ):
        notes = "".join(f"; for {key}, {entry.notes[name]}" for key, entry in MODELS.items() if name in entry.notes)
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, type=kind, metavar=metavar, help=f"{text}{notes}{_defaults(name)}")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    group.add_argument(
        "--threads",
        type=positive_integer,
        dest="n_threads",
        metavar="N",
        help=f"processor cores to use{_defaults('n_threads')}",
    )


def _defaults(name: str) -> str:
    """What an option of all models is if it is not given, as the help says it."""
    values = {key: entry.defaults[name] for key, entry in MODELS.items() if name in entry.defaults}
    return f" (default: {_by_model(values)})" if values else ""


def _by_model(values: Mapping[str, object]) -> str:
    """A value, or several with the models that have each.

    Examples
    --------
    >>> _by_model({"a": 1, "b": 2, "c": 1}), _by_model({"a": 1, "b": 1})
    ('1 for a and c, 2 for b', '1')
    """
    keys: dict[object, list[str]] = {}
    for key, value in values.items():
        keys.setdefault(value, []).append(key)
    if len(keys) == 1:
        return str(next(iter(keys)))
    return ", ".join(f"{value} for {in_words(having)}" for value, having in keys.items())


def _add_of_some(parser: argparse.ArgumentParser) -> None:
    """Options that some models have only, in a group for each set of models."""
    groups: dict[str, Any] = {}
    for name, option in options().items():
        title = f"of --model {in_words(keys_of(name))} only"
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(f"--{name.replace('_', '-')}", **_settings(option))


def _settings(option: Option) -> dict[str, Any]:
    """How argparse is told of an option of a row."""
    default = "" if option.default is None else f" (default: {option.default})"
    settings = {"help": f"{option.help}{default}", **_KINDS[option.kind]}
    if option.choices:
        settings["choices"] = option.choices
    if option.metavar:
        settings["metavar"] = option.metavar
    return settings


def _add_output(group: Any) -> None:
    group.add_argument(
        "--out", type=Path, required=True, metavar="OUT.h5ad", help="annotated file to write, of the kind of the input"
    )
    group.add_argument(
        "--key-added", type=name_of_results, metavar="KEY", help="name of the results (default: the model's name)"
    )
    group.add_argument(
        "--diagnostics",
        action="store_true",
        help="write how close each cell's posterior is to the exact one, too, which may take longer than the fit",
    )
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


def add_config_options(group: Any) -> None:
    """Add the options that read and write a file of options."""
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


def positive_number(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        msg = f"{text!r} is not a number above 0"
        raise argparse.ArgumentTypeError(msg)
    return number


def _modality(text: str) -> str:
    if not text.partition("=")[0]:
        msg = f"{text!r} names no modality: write NAME, NAME=LAYER or NAME=LAYER:OBS"
        raise argparse.ArgumentTypeError(msg)
    return text


def _number_or_name(text: str) -> float | str:
    """A number above 0, or a name as it is, which the model knows or not.

    Examples
    --------
    >>> _number_or_name("0.5"), _number_or_name("ebic")
    (0.5, 'ebic')
    """
    try:
        float(text)
    except ValueError:
        return text
    return positive_number(text)


def name_of_results(text: str) -> str:
    """A name that a file can have."""
    from scpln.utils import storable_name

    try:
        return storable_name("KEY", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


_KINDS: dict[str, dict[str, Any]] = {
    "positive": {"type": positive_integer},
    "not_negative": {"type": _not_negative},
    "number": {"type": positive_number},
    "number_or_name": {"type": _number_or_name, "metavar": "R"},
    "switch": {"action": argparse.BooleanOptionalAction},
    "directory": {"type": Path, "metavar": "DIR"},
    "column": {"metavar": "OBS"},
    "text": {"metavar": "NAME"},
    "choice": {},
}
"""How argparse reads each kind of option of a row."""


class _Likelihoods(tuple[str, ...]):
    """Names of likelihoods, each of which may stand after a modality."""

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        modality, equals, name = str(value).rpartition("=")
        return super().__contains__(name) and bool(modality) == bool(equals)


class _LikelihoodAction(argparse._AppendAction):
    """Keeps a likelihood as it is, and those of modalities in a list, with the last that has no modality."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: Any, _option: object = None) -> None:
        before: str | Sequence[str] | None = getattr(namespace, self.dest)
        kept = [before] if isinstance(before, str) else [*(before or ())]
        if "=" not in values:
            kept = [each for each in kept if "=" in each]
        setattr(namespace, self.dest, [*kept, values] if kept or "=" in values else values)
