"""What can go wrong on the command line, and the exit code that says so."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes; ``scpln --help`` lists them."""

    SUCCESS = 0
    INPUT = 1
    USAGE = 2
    OUTPUT = 3
    INTERNAL = 70
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES = """\
exit codes:
  0    success
  1    the input cannot be read, or the data or options do not fit together
  2    the command line, or a file of options, is wrong
  3    an output exists already (see --force) or cannot be written
  70   an internal error, worth a report
  130  interrupted (Ctrl-C); during training, what was fitted so far is still written
  143  terminated (SIGTERM)
"""


class CommandError(Exception):
    """Ends the command with a one-line message and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.INPUT) -> None:
        super().__init__(message)
        self.code = code


class OutputError(CommandError):
    """An output exists already or cannot be written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.OUTPUT)
