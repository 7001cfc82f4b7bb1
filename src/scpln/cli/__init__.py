"""The ``scpln`` command: fits for pipelines, without a notebook.

Nothing heavy is imported until a sub-command runs, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from scpln import __version__
from scpln.cli.apply import _command as _apply
from scpln.cli.evaluate import _command as _evaluate
from scpln.cli.fit import _command as _fit
from scpln.cli.fit import with_config
from scpln.cli.wording import CommandParser, in_options

from . import _completion, _datasets, _plot
from ._errors import EXIT_CODES, CommandError, ExitCode
from ._messages import add_message_options, flush, route_messages, silence, stderr_that_may_fail, tell
from ._versions import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

LONGEST = 4000
"""Letters of an error that are shown."""
_COMMANDS: tuple[Callable[[Any], argparse.ArgumentParser], ...] = (
    _fit.add_parser,
    partial(_apply.add_parser, command="predict"),
    partial(_apply.add_parser, command="map"),
    _evaluate.add_parser,
    _plot.add_parser,
    _datasets.add_parser,
    _completion.add_parser,
)
"""What adds each command, in the order of the help."""
_OPTIONS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "fit": _fit.options_parser,
    "predict": partial(_apply.options_parser, "predict"),
    "map": partial(_apply.options_parser, "map"),
}
"""Options of the commands that take a file of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv
        Arguments after the program's name; by default, those of this process.
    """
    with stderr_that_may_fail():
        return _guarded(argv, argparse.Namespace(debug=False, parser=argparse.ArgumentParser(add_help=False)))


def _guarded(argv: Sequence[str] | None, args: argparse.Namespace) -> int:
    """Run the command, and turn whatever ends it into a line and an exit code."""
    try:
        return _run(sys.argv[1:] if argv is None else list(argv), args)
    except KeyboardInterrupt:
        return _fail("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output left: nothing more to say, and nobody to say it to
        silence(sys.stdout)
        return ExitCode.SUCCESS
    except Exception as error:  # noqa: BLE001 (a command line answers in one line, whatever happened)
        if args.debug:
            traceback.print_exc()
        return _fail(*_explain(error, args.parser))


def _run(argv: list[str], args: argparse.Namespace) -> int:
    """Parse `argv` into `args` and run the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that cannot show a character of a result shows the rest
        sys.stdout.reconfigure(errors="replace")
    try:
        if argv[:1] and (options := _OPTIONS.get(argv[0])) is not None:
            argv = [argv[0], *with_config(argv[1:], options())]
        make_parser().parse_args(argv, args)
        before = signal.signal(signal.SIGTERM, _end)
        try:
            with route_messages(quiet=args.quiet, said=lambda message: in_options(message, args.parser)):
                code = int(args.run(args))
        finally:
            signal.signal(signal.SIGTERM, before)
    except SystemExit:  # of --help and the like, which have printed
        flush()
        raise
    flush()
    return code


def make_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="scpln",
        description="Poisson log-normal models and count autoencoders for single-cell counts.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scpln {__version__}", help="show the version and exit")
    parser.add_argument("--versions", action=_Versions, help="show those of what scpln computes with, too, and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_parser in _COMMANDS:
        of_command = add_parser(commands)
        add_message_options(of_command)
        of_command.set_defaults(parser=of_command)
    return parser


class _Versions(argparse.Action):
    """Shows versions and ends the program."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_args: object, **_more: object) -> None:
        tell("\n".join(f"{name} {version}" for name, version in versions().items()))
        parser.exit()


def _explain(error: Exception, parser: argparse.ArgumentParser) -> tuple[str, ExitCode]:
    """Message and exit code of an error; what the library raises about bad input is the user's to mend."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, CommandError):
        return message, error.code
    if isinstance(error, ValueError | KeyError | FloatingPointError):
        return in_options(" ".join([message, *getattr(error, "__notes__", ())]), parser), ExitCode.INPUT
    if isinstance(error, OSError):
        return message, ExitCode.OUTPUT
    return f"internal error ({type(error).__name__}: {message}); --debug shows where", ExitCode.INTERNAL


def _fail(message: str, code: ExitCode) -> ExitCode:
    line = " ".join(message.split())
    if len(line) > LONGEST:  # as of a value that was given
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"scpln: error: {line}", file=sys.stderr)
    return code


def _end(_signal: int, _frame: object) -> NoReturn:
    """Leave by an exception, so that temporary files are removed on the way out."""
    sys.exit(ExitCode.TERMINATED)
