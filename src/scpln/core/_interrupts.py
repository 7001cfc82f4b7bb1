"""Ctrl-C and errors in what follows a long computation, so that its result is not lost."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("scpln")


@dataclass
class Held:
    """Whether Ctrl-C was pressed meanwhile."""

    pressed: bool = False

    def after(self, reason: str) -> str:
        """Why something ended, with what came after it.

        Examples
        --------
        >>> Held(pressed=True).after("converged"), Held().after("converged")
        ('converged; interrupted after that', 'converged')
        """
        return f"{reason}; interrupted after that" if self.pressed and "interrupted" not in reason else reason


@contextmanager
def hold_interrupts() -> Iterator[Held]:
    """Let a first Ctrl-C wait until the end, and only say that it was pressed; a second one raises at once.

    Where the program handles SIGINT in a way of its own, and in other threads than the main one, nothing is held.

    Examples
    --------
    >>> with hold_interrupts() as held:
    ...     result = "finished"
    >>> held.pressed
    False
    """
    held = Held()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield held
        return

    def note(_signal: int, _frame: object) -> None:
        held.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logger.warning("Interrupted: what was reached is being finished. Ctrl-C again gives it up.")

    signal.signal(signal.SIGINT, note)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def after_training(
    summarize: Callable[[], dict[str, Any]], otherwise: dict[str, Any], reason: str
) -> tuple[dict[str, Any], str]:
    """Summarise a training; if Ctrl-C or an error ends that, what was trained is kept, and can be evaluated later.

    Parameters
    ----------
    summarize
        Computes the summary.
    otherwise
        What it is if that did not succeed.
    reason
        Why training ended.

    Returns
    -------
    The summary, and why training ended, with Ctrl-C if it was pressed.

    Examples
    --------
    >>> after_training(lambda: {"elbo": -3.0}, {"elbo": float("nan")}, "converged")
    ({'elbo': -3.0}, 'converged')
    """
    try:
        return summarize(), reason
    except KeyboardInterrupt:
        return otherwise, Held(pressed=True).after(reason)
    except Exception as error:  # noqa: BLE001 (whatever it is, hours of training are worth more)
        logger.warning(
            "The summary after training failed, and is left out: %s: %s. The trained model is kept.",
            type(error).__name__,
            error,
        )
        return otherwise, reason
