"""``scpln completion``: a script that has the shell complete commands, options, their choices and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._errors import ExitCode
from ._messages import tell

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish", "tcsh")
DESCRIPTION = """\
Print a script that has the shell complete commands, options, their choices and files. To have it in every new shell:

  bash   scpln completion bash > ~/.local/share/bash-completion/completions/scpln
  zsh    scpln completion zsh > DIR/_scpln, where DIR is in $fpath, before compinit runs
  fish   scpln completion fish > ~/.config/fish/completions/scpln.fish
  tcsh   scpln completion tcsh > ~/.scpln.tcsh, and `source ~/.scpln.tcsh` in ~/.tcshrc

For this shell alone: eval "$(scpln completion bash)"
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands in a shell",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Print the script."""
    import shtab

    from scpln.cli import make_parser

    parser = make_parser()
    for action in _actions(parser):
        if action.type is Path:
            directory = str(action.metavar).startswith("DIR")
            action.complete = shtab.DIRECTORY if directory else shtab.FILE  # type: ignore[attr-defined]
    tell(shtab.complete(parser, shell=args.shell))
    return ExitCode.SUCCESS


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All options and arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
