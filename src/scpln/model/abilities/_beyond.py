"""Rates that come from beyond the bound of log-rates, and the warning that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.module import LARGEST_LOG_RATE
from scpln.utils import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Cells and genes that the warning names.
_NAMED = 3


class Beyond:
    """Counts of rates beyond the bound of log-rates, which then decides what they are, among cells and genes."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._cells, self._genes = (np.zeros(n, dtype=np.int64) for n in shape)

    def add(self, cells: slice, beyond: NDArray[np.bool_]) -> None:
        """Count those of some cells."""
        self._cells[cells] += beyond.sum(1)
        self._genes += beyond.sum(0)

    def report(self, cells: Sequence[str], genes: Sequence[str]) -> None:
        """Say how many there are, and of which cells and genes most."""
        if not (total := int(self._cells.sum())):
            return
        parts = []
        for counts, names, what in ((self._cells, cells, "cells"), (self._genes, genes, "genes")):
            most = [str(names[i]) for i in np.argsort(-counts, kind="stable")[:_NAMED] if counts[i]]
            parts.append(f"{int((counts > 0).sum()):,} {what} (most often {', '.join(most)})")
        warn(
            f"{total:,} rates ({total / (len(self._cells) * len(self._genes)):.1%}) are beyond e^{LARGEST_LOG_RATE:g}, where the "
            "model bounds them: the counts say only that they are large. They are of "
            f"{' and '.join(parts)}. Leave these cells or genes out."
        )
