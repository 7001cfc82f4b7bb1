"""Seconds and peak memory of one call, measured inside a fresh process. Standard library only: both environments use it."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_STATUS = Path("/proc/self/status")


class Cost(TypedDict):
    """What a call cost: wall-clock seconds, processor seconds of all threads, the process's peak, and the peak above what was resident before, in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    peak_above_data_mb: float


def measured(call: Callable[[], T]) -> tuple[T, Cost]:
    """Run `call` and say what it cost.

    What is resident before (interpreter, libraries, loaded counts) is the baseline; the high-water mark is reset first
    where the kernel allows it, so that a spike while importing cannot hide the call's own peak.
    """
    gc.collect()
    _return_free_memory()
    _reset_peak()
    before = _resident_mb()
    start, cpu_start = time.perf_counter(), time.process_time()
    result = call()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = _peak_mb()
    return result, Cost(seconds=seconds, cpu_seconds=cpu_seconds, peak_mb=peak, peak_above_data_mb=peak - before)


def _return_free_memory() -> None:
    """Give freed heap back to the system, so that the call cannot reuse it unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # the peak is then that of the whole process: too high, never too low


def _status_mb(field: str) -> float | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return None


def _resident_mb() -> float:
    value = _status_mb("VmRSS")
    return _max_rss_mb() if value is None else value


def _peak_mb() -> float:
    value = _status_mb("VmHWM")
    return _max_rss_mb() if value is None else value


def _max_rss_mb() -> float:
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
