"""What is one for the whole process, for as long as it is wanted: torch's threads and torch's random numbers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from scpln.core import available_threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Who uses torch's global random numbers; re-entrant, so that a training may build modules.
_RANDOM = threading.RLock()
_COUNTING = threading.Lock()
_N_INSIDE, _OUTSIDE = 0, 1


@contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use so many threads, or all available ones, for as long as this lasts.

    If several threads of the program are inside at a time, the last to leave finds what the first had found.
    """
    global _N_INSIDE, _OUTSIDE
    with _COUNTING:
        before = torch.get_num_threads() if _N_INSIDE == 0 or _inside.depth else _OUTSIDE
        if _N_INSIDE == 0:
            _OUTSIDE = before
        _N_INSIDE += 1
        _inside.depth += 1
        torch.set_num_threads(n_threads or available_threads())
    try:
        yield
    finally:
        with _COUNTING:
            _N_INSIDE -= 1
            _inside.depth -= 1
            torch.set_num_threads(before)


@contextmanager
def torch_random(seed: int | None = None, *, devices: Iterable[int] = ()) -> Iterator[None]:
    """Let torch's global random numbers begin at a seed, and give them back as they were.

    Networks and dropout draw from them, so that threads of a program take turns: one waits until the other has left.

    Parameters
    ----------
    seed
        Where the generator of the CPU begins; by default, where it is.
    devices
        GPUs whose generators are given back, too.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with torch_random(0):
    ...     first = torch.randn(3)
    >>> with torch_random(0):
    ...     bool((torch.randn(3) == first).all())
    True
    >>> bool((torch.get_rng_state() == before).all())
    True
    """
    with _RANDOM, torch.random.fork_rng(devices=list(devices)):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield


class _Inside(threading.local):
    """How often the present thread is inside."""

    depth = 0


_inside = _Inside()
