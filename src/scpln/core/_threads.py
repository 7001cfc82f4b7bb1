"""Threads, each with its own contiguous chunk of cells and one BLAS thread."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


Result = TypeVar("Result")


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """A pool that splits a range of cells into one contiguous chunk per thread.

    Chunks depend on the number of threads alone and results come back in order, so that sums over chunks are the
    same in every run. NumPy releases the interpreter's lock in all that is costly here. What outlives its pool, as may be kept or pickled,
    gets the same results from one closed, in the thread that asks.
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(n_threads, thread_name_prefix="scpln")

    def map_chunks(self, function: Callable[[int, int], Result], n: int, block: int) -> list[Result]:
        """Results of `function(start, stop)` on each thread's chunk of `range(n)`, cut at multiples of `block`."""
        blocks = -(-n // block)
        cuts = sorted({min(n, block * (blocks * k // self.n_threads)) for k in range(self.n_threads + 1)})
        chunks = list(itertools.pairwise(cuts))
        return self.map_each(function, chunks)

    def map_each(self, function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> list[Result]:
        """Results of `function(*these)` for each tuple of arguments, in their order."""
        if len(arguments) == 1 or self._pool is None:
            return [function(*these) for these in arguments]
        futures = [self._pool.submit(function, *these) for these in arguments]
        try:
            return [future.result() for future in futures]
        finally:
            wait(futures)  # after an error or interrupt, no thread may still change the cells

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


@contextmanager
def threads(n_threads: int | None) -> Iterator[Threads]:
    """A pool of `n_threads` (all available ones when None), while which BLAS stays single-threaded."""
    pool = Threads(n_threads or available_threads())
    try:
        with _one_blas_thread:
            yield pool
    finally:
        pool.close()


class _OneBlasThread:
    """One BLAS thread in the whole process from when the first enters until the last has left."""

    def __init__(self) -> None:
        self._lock, self._n_inside = threading.Lock(), 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._n_inside += 1
            if self._limits is None:
                self._limits = threadpool_limits(1, user_api="blas")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


_one_blas_thread = _OneBlasThread()
