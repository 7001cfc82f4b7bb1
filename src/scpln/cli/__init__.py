"""The ``scpln`` command: fits for pipelines, without a notebook.

Nothing heavy is imported until a sub-command runs, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from scpln import __version__

from . import _datasets, _evaluate, _fit
from ._errors import EXIT_CODES, CommandError, ExitCode
from ._messages import route_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv
        Arguments after the program's name; by default, those of this process.
    """
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _end)
    try:
        with route_messages(quiet=args.quiet):
            return int(args.run(args))
    except KeyboardInterrupt:
        return _fail("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output left: nothing more to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SUCCESS
    except Exception as error:  # noqa: BLE001 (a command line answers in one line, whatever happened)
        if args.debug:
            traceback.print_exc()
        return _fail(*_explain(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scpln",
        description="Poisson log-normal models and count autoencoders for single-cell counts.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scpln {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (_fit, _evaluate, _datasets):
        _add_message_options(command.add_parser(commands))
    return parser


def _add_message_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("messages")
    group.add_argument("--quiet", action="store_true", help="say nothing but results that were asked for, and errors")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _explain(error: Exception) -> tuple[str, ExitCode]:
    """Message and exit code of an error; what the library raises about bad input is the user's to mend."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, CommandError):
        return message, error.code
    if isinstance(error, ValueError | KeyError | FloatingPointError):
        return " ".join([message, *getattr(error, "__notes__", ())]), ExitCode.INPUT
    return f"internal error ({type(error).__name__}: {message}); --debug shows where", ExitCode.INTERNAL


def _fail(message: str, code: ExitCode) -> ExitCode:
    print(f"scpln: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _end(_signal: int, _frame: object) -> NoReturn:
    """Leave by an exception, so that temporary files are removed on the way out."""
    sys.exit(ExitCode.TERMINATED)
