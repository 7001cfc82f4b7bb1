r"""What the package says, in words of the command line: ``--layer counts`` in place of ``layer='counts'``.

The package speaks to callers in Python: of arguments, of ``adata``, of functions. Messages keep their sense when those are
options and parts of the file. One table of phrases, and one rule for all arguments, serve every message.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETUP = r"(?:scpln\.model\.)?setup_(?:anndata|mudata)"
PHRASES: tuple[tuple[str, str], ...] = (
    # how to call something, where there is an option or a command
    (rf"`{_SETUP}\(adata, \.\.\., is_count_data=False\)`, for likelihood='gaussian'", "add likelihood='gaussian'"),
    (rf"`?{_SETUP}\((?:[^()=]*, )?(\w+=[^()]*)\)`?", r"\1"),
    (rf"make a model after {_SETUP} without (\w+)", r"fit one without `\1`"),
    (r"`?scpln\.tl\.posterior_predictive\([^()]*\)`?", "scpln.tl.posterior_predictive in Python"),
    (
        r"Run `[^`]*(?:scpln\.tl\.\w+|model\.annotate|scpln\.model\.\w+)\([^`]*?\)`(?: or `[^`]*`)? first",
        "Run `scpln fit` first",
    ),
    (r"load_query_data\(adata, model\)", "`scpln map`"),
    (r": call train\(\) first", ": fit it first, and keep it by --save-model"),
    (r"\btrain\(([^()]*)\)", r"\1"),
    (r"pass one of the layers as layer=, (\[[^\]]*\])", r"name one of the layers \1 by `layer`"),
    (r"pass layer=None for adata\.X", "leave out `layer`, for X"),
    (r"\b([Pp])ass it in (\w+_keys)\b", r"\1ass it by `\2`"),
    (r"fit a model with n_latent=", "fit a model with --n-latent "),
    (r" is empty \(None\)", " is empty"),
    (r"is_count_data=False", "likelihood='gaussian'"),
    (r", devices='?\w+'?(?= cannot be used)", ""),
    (r"(?<![\w`'\"])[am]data (is empty|has)\b", r"the file \1"),
    (r"\b([Pp])ass an AnnData that\b", r"\1ass a file that"),
)
"""Phrases in Python, as patterns, and what they are on the command line; arguments in those are translated afterwards."""

PARTS: tuple[tuple[str, str], ...] = (
    (r"(?<![\w.'\"\[])[am]data\.(X\b|layers|obsm|obs|obs_names|var|var_names|varm|uns|raw|mod)", r"\1"),
    (r"(?<![\w.'\"])mdata\[", "mod["),
)
"""Parts of the data, and what they are of a file; code between backticks stays as it is, to be run in Python."""

RENAMED = {
    "categorical_covariate_keys": "categorical_covariate",
    "continuous_covariate_keys": "continuous_covariate",
    "modalities": "modality",
    "overwrite": "force",
}
"""Arguments whose options have other names."""


_VALUE = r"'[^']*'|…|\[[^\]]*\]|\.\.\.|[\w.+-]*\w|(?=[,);\s])"
_UNQUOTED = r"(?<![\w'\"./\[-])"


def in_options(message: str, parser: argparse.ArgumentParser) -> str:
    """A message of the package, in terms of the options that a command has.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> actions = [parser.add_argument(option) for option in ("--layer", "--batch-key")]
    >>> in_options("adata.obs has no column 'batch' (batch_key). Its columns are ['age'].", parser)
    "obs has no column 'batch' (--batch-key). Its columns are ['age']."
    >>> in_options("Round them, and pass layer='rounded'.", parser)
    'Round them, and pass --layer rounded.'
    """
    for pattern, words in PHRASES:
        message = re.sub(pattern, words, message)
    pieces = re.split(r"(`[^`]*`)", message)
    for pattern, words in PARTS:
        pieces[::2] = [re.sub(pattern, words, piece) for piece in pieces[::2]]
    message = "".join(pieces)
    options = {action.dest: action for action in parser._actions if action.option_strings}
    options |= {name: action for name, dest in RENAMED.items() if (action := options.get(dest)) is not None}
    if not options:
        return message
    names = "|".join(sorted(options, key=len, reverse=True))
    message = re.sub(
        rf"{_UNQUOTED}({names})=({_VALUE})", lambda match: _with_value(options[match[1]], match[2]), message
    )
    alone = rf"\(({names})\)|`({names})`|{_UNQUOTED}({names})(?![\w'\"=(\]])"
    return re.sub(alone, lambda match: _alone(match, options), message)


def _with_value(action: argparse.Action, value: str) -> str:
    """``argument=value`` as it is given on a command line."""
    option = action.option_strings[0]
    if value == "True":
        return option
    if value == "False" and isinstance(action, argparse.BooleanOptionalAction):
        return action.option_strings[1]
    if value in ("False", "None"):
        return f"no {option}"
    if value in ("...", ""):
        return f"{option} {action.metavar or action.dest.upper()}"
    plain = value.strip("'")
    return f"{option} {value if ' ' in plain else plain}"


def _alone(match: re.Match[str], options: Mapping[str, argparse.Action]) -> str:
    """An argument that is named without a value; a bare word may be one of plain English."""
    bracketed, code, bare = match.groups()
    name = bracketed or code or bare
    if bare is not None and "_" not in bare:
        return match[0]
    option = options[name].option_strings[0]
    return f"({option})" if bracketed else option
