"""A progress bar in the style that scvi-tools is set to."""

from __future__ import annotations

import logging
import math
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tqdm.auto import tqdm

from scpln._settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Seconds after which something without a bar of its own gets one, and from one line to the next in a file.
_SLOW, _BETWEEN_LINES = 3.0, 30.0
#: Seconds after which a pace is known, and seconds from which on what it leads to is announced.
_SEEN, _LONG = 5.0, 60.0

Block = TypeVar("Block")

logger = logging.getLogger("scpln")
cost_logger = logging.getLogger("scpln.cost")  # of its own, so that the command line can let it through

#: What a bar of tqdm shows; how long the rest takes only if it is known how many iterations there will be.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}s [{elapsed}<{remaining}{postfix}]"
_FORMAT_AT_MOST = "{desc}: |{bar}| {n_fmt}/{total_fmt} {unit}s [{elapsed}{postfix}]"


class ProgressBar(Protocol):
    """What training tells a progress bar."""

    def stage(self, name: str) -> None:
        """Another stage of training begins, whose iterations are counted anew."""

    def update(self, iteration: int, bound: float) -> None:
        """Iterations done, and the mean bound per cell."""

    def finish(self, reason: str) -> None:
        """Why training stopped."""


@contextmanager
def progress_bar(
    description: str, total: int, *, unit: str = "iteration", at_most: bool = False, show: bool
) -> Iterator[ProgressBar]:
    """Bar of at most `total` iterations, on standard error.

    The style is ``scpln.settings.progress_bar_style``, ``"tqdm"`` or ``"rich"``. Where standard error is neither a terminal
    nor a notebook, as in the log of a pipeline, a line now and then takes its place.

    Parameters
    ----------
    description
        What is optimised.
    total
        How many iterations there will be; or only how many `at_most`, so that nothing is said of the time that is left.
    unit
        What an iteration is.
    show
        Whether there is a bar at all.
    """
    if not show:
        yield _Logged(_Silent(), description, unit, total)
    elif not _is_watched():
        yield _Logged(_Lines(description, total, unit), description, unit, total)
    elif settings.progress_bar_style == "rich":
        with Progress(*_columns(unit, at_most=at_most), console=Console(stderr=True)) as rich_bar:
            yield _Logged(_Rich(rich_bar, description, total), description, unit, total)
    else:
        layout = _FORMAT_AT_MOST if at_most else _FORMAT
        with tqdm(total=total, desc=description, unit=unit, bar_format=layout) as bar:
            yield _Logged(_Tqdm(bar, description), description, unit, total)


def _columns(unit: str, *, at_most: bool) -> list[ProgressColumn]:
    """What a bar of rich shows."""
    count = TextColumn(f"{{task.completed:.0f}}/{{task.total:.0f}} {unit}s")
    time = TimeElapsedColumn() if at_most else TimeRemainingColumn()
    return [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), count, time]


@contextmanager
def slow_bar(description: str, total: int, *, unit: str) -> Iterator[Callable[[int], None]]:
    """Bar for what has no argument to ask for one: it appears after three seconds, and only where somebody is looking.

    Gives a function to call with how many of the units are done.

    Examples
    --------
    >>> with slow_bar("Bounds", 100, unit="cell") as done:
    ...     done(100)
    """
    begin, shown = time.perf_counter(), None
    with ExitStack() as stack:

        def done(n: int) -> None:
            nonlocal shown
            if shown is None and time.perf_counter() - begin > _SLOW and logger.isEnabledFor(logging.INFO):
                shown = stack.enter_context(progress_bar(description, total, unit=unit, show=_is_watched()))
            if shown is not None:
                shown.update(n, math.nan)

        yield done


def watched(
    blocks: Iterable[Block], description: str, total: int, size: Callable[[Block], int], *, unit: str = "cell"
) -> Iterator[Block]:
    """The same blocks, with a `slow_bar` that counts what is in those that are done.

    Examples
    --------
    >>> list(watched(["ab", "c"], "Letters", 3, len, unit="letter"))
    ['ab', 'c']
    """
    finished = 0
    with slow_bar(description, total, unit=unit) as done:
        for block in blocks:
            yield block
            finished += size(block)
            done(finished)


def _is_watched() -> bool:
    """Whether bars can move: in a terminal, or in a notebook, whose standard error is none."""
    in_notebook = any(each.__name__ == "tqdm_notebook" for each in tqdm.__mro__)
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


class _Logged:
    """A bar that says the same at level DEBUG, for files and for those who hide it."""

    def __init__(self, bar: ProgressBar, description: str, unit: str, total: int) -> None:
        self._bar, self._description, self._unit = bar, description, unit
        self._total, self._begin, self._first, self._announced = total, time.perf_counter(), 0, False

    def stage(self, name: str) -> None:
        logger.debug("%s: %s.", self._description, name)
        self._begin, self._first = time.perf_counter(), 0
        self._bar.stage(name)

    def update(self, iteration: int, bound: float) -> None:
        self._announce(iteration)
        logger.debug("%s: %s %d, %s.", self._description, self._unit, iteration, _in_words(bound) or "no bound yet")
        self._bar.update(iteration, bound)

    def finish(self, reason: str) -> None:
        logger.debug("%s: %s.", self._description, reason)
        self._bar.finish(reason)

    def _announce(self, iteration: int) -> None:
        """Say once what this takes at the pace so far, if that is long: data decide it more than their size."""
        if self._announced:
            return
        if not self._first:  # the first takes more than others, or was done before a checkpoint
            self._first, self._begin = iteration, time.perf_counter()
            return
        done, seconds = iteration - self._first, time.perf_counter() - self._begin
        if done > 0 and seconds > _SEEN:
            left = seconds / done * (self._total - iteration)
            self._announced = seconds + left > _LONG
            if self._announced:
                cost_logger.info(
                    "%s: %s %d of at most %d after %.0f s; at this pace it takes at most %d min more.",
                    self._description,
                    self._unit,
                    iteration,
                    self._total,
                    seconds,
                    math.ceil(left / 60),
                )


class _Silent:
    def stage(self, name: str) -> None:
        pass

    def update(self, iteration: int, bound: float) -> None:
        pass

    def finish(self, reason: str) -> None:
        pass


class _Lines:
    """A line on standard error at most every half minute, and one in the end."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._begin = self._last = time.perf_counter()
        self._at = ""

    def stage(self, name: str) -> None:
        self._at = f", {name}"

    def update(self, iteration: int, bound: float) -> None:
        now = time.perf_counter()
        if now - self._last >= _BETWEEN_LINES:
            self._last = now
            self._say(", ".join(filter(None, [f"{iteration}/{self._total} {self._unit}s", _in_words(bound)])))

    def finish(self, reason: str) -> None:
        self._say(reason)

    def _say(self, what: str) -> None:
        seconds = time.perf_counter() - self._begin
        tqdm.write(f"{self._description}{self._at}: {what} ({seconds:.0f} s)", file=sys.stderr)


class _Tqdm:
    def __init__(self, bar: tqdm, description: str) -> None:
        self._bar, self._description = bar, description
        self._bound = ""

    def stage(self, name: str) -> None:
        self._bar.set_description_str(f"{self._description}, {name}", refresh=False)
        self.update(0, math.nan)

    def update(self, iteration: int, bound: float) -> None:
        self._bound = _in_words(bound)
        self._bar.set_postfix_str(self._bound, refresh=False)
        self._bar.update(iteration - self._bar.n)

    def finish(self, reason: str) -> None:
        self._bar.total = self._bar.n
        self._bar.set_postfix_str(f"{self._bound}; {reason}")


class _Rich:
    def __init__(self, bar: Progress, description: str, total: int) -> None:
        self._bar, self._description, self._bound = bar, description, ""
        self._stage = ""
        self._task = bar.add_task(description, total=total)

    def stage(self, name: str) -> None:
        self._stage = f", {name}"
        self.update(0, math.nan)

    def update(self, iteration: int, bound: float) -> None:
        self._bound = _in_words(bound)
        self._bar.update(self._task, completed=iteration, description=self._text)

    def finish(self, reason: str) -> None:
        done = self._bar.tasks[self._task].completed
        self._bar.update(self._task, total=done, description=f"{self._text}; {reason}")

    @property
    def _text(self) -> str:
        return (
            f"{self._description}{self._stage}: {self._bound}" if self._bound else f"{self._description}{self._stage}"
        )


def _in_words(bound: float) -> str:
    return "" if math.isnan(bound) else f"{bound:.3f} nats per cell"
