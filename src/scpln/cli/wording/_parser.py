"""A parser that answers a mistyped command or option with the nearest that there is."""

from __future__ import annotations

import argparse
import re
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from scpln._catalogue import in_our_words

if TYPE_CHECKING:
    from collections.abc import Sequence


class OptionsParser(argparse.ArgumentParser):
    """A parser that names the nearest choice in place of an impossible one."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            what = f"there is no {value!r}" if action.option_strings else f"{value!r} is no {_kind(action)}"
            close = get_close_matches(str(value).lower(), choices, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise argparse.ArgumentError(action, f"{what}{hint} (choose from {', '.join(choices)})")


class CommandParser(OptionsParser):
    """Parser of the program or of a command.

    Unknown options are named by the command that got them, before what it lacks besides, with the nearest that it has.

    Examples
    --------
    >>> parser = CommandParser(prog="scpln fit")
    >>> option = parser.add_argument("--n-latent", type=int, required=True)
    >>> parser.parse_args(["--n_latent", "5"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse all arguments, or end the program."""
        given = list(sys.argv[1:] if args is None else args)
        for text in self._own(given):
            name = text.partition("=")[0]
            if _is_option(name) and not any(option.startswith(name) for option in self._option_string_actions):
                self.error(f"unknown option {name}{self.nearest(name)}")
        found, rest = super().parse_known_args(given, namespace)
        if rest:
            self.error(f"unexpected argument {rest[0]!r}; `{self.prog} --help` says what there is")
        return found, rest

    def nearest(self, name: str) -> str:
        """What was meant by an unknown option, or where to look, as the end of a message."""
        known = [option for option in self._option_string_actions if option.startswith("--")]
        meant = in_our_words(name.lstrip("-").replace("-", "_"))
        words = name if meant is None else f"--{meant}"
        close = get_close_matches(words.replace("_", "-").lower(), known, n=1)
        return f"; did you mean {close[0]}?" if close else f"; `{self.prog} --help` lists the options"

    def _own(self, given: list[str]) -> list[str]:
        """Arguments that are for this parser: those before a command, and before ``--``."""
        end = given.index("--") if "--" in given else len(given)
        if self._subparsers is not None:
            end = next((n for n, text in enumerate(given[:end]) if not text.startswith("-")), end)
        return given[:end]


def _kind(action: argparse.Action) -> str:
    return "command" if isinstance(action, argparse._SubParsersAction) else "choice"


def _is_option(text: str) -> bool:
    """Whether argparse takes a text for an option: not ``-``, a negative number or a sentence."""
    return text.startswith("-") and text != "-" and " " not in text and not re.match(r"-\.?\d", text)
