"""A progress bar in the style that scvi-tools is set to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import scvi
from rich.console import Console
from rich.progress import Progress
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator


class ProgressBar(Protocol):
    """What training tells a progress bar."""

    def update(self, iteration: int, bound: float) -> None:
        """Iterations done, and the mean bound per cell."""

    def finish(self, reason: str) -> None:
        """Why training stopped."""


@contextmanager
def progress_bar(description: str, total: int, *, show: bool) -> Iterator[ProgressBar]:
    """Bar of at most `total` iterations, on standard error.

    The style is ``scvi.settings.progress_bar_style``, ``"tqdm"`` or ``"rich"``.
    """
    if not show:
        yield _Silent()
    elif scvi.settings.progress_bar_style == "rich":
        with Progress(console=Console(stderr=True)) as rich_bar:
            yield _Rich(rich_bar, description, total)
    else:
        with tqdm(total=total, desc=description, unit="iteration") as bar:
            yield _Tqdm(bar)


class _Silent:
    def update(self, iteration: int, bound: float) -> None:
        pass

    def finish(self, reason: str) -> None:
        pass


class _Tqdm:
    def __init__(self, bar: tqdm) -> None:
        self._bar = bar
        self._bound = ""

    def update(self, iteration: int, bound: float) -> None:
        self._bound = f"{bound:.3f} nats per cell"
        self._bar.set_postfix_str(self._bound, refresh=False)
        self._bar.update(iteration - self._bar.n)

    def finish(self, reason: str) -> None:
        self._bar.total = self._bar.n
        self._bar.set_postfix_str(f"{self._bound}; {reason}")


class _Rich:
    def __init__(self, bar: Progress, description: str, total: int) -> None:
        self._bar, self._description, self._bound = bar, description, ""
        self._task = bar.add_task(description, total=total)

    def update(self, iteration: int, bound: float) -> None:
        self._bound = f"{bound:.3f} nats per cell"
        self._bar.update(self._task, completed=iteration, description=f"{self._description}: {self._bound}")

    def finish(self, reason: str) -> None:
        done = self._bar.tasks[self._task].completed
        self._bar.update(self._task, total=done, description=f"{self._description}: {self._bound}; {reason}")
