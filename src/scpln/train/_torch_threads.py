"""Threads of torch, for as long as they are wanted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from scpln.core import available_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use so many threads, or all available ones, for as long as this lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or available_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)
