"""What is known of every entry of the counts besides its value: its offset, and whether it was observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ._arrays import Array, DType

    Selection = slice | NDArray[np.intp]

#: Log size factor of a group of genes that were not measured in a cell, or offset of an entry that was not observed, whose
#: counts are then zeros. A rate of e⁻⁶⁰ is nothing beside 1, in float32 as in float64: it adds 0 to log-probabilities and
#: their slopes, and yet it is not 0.
ABSENT = -60.0


@dataclass(frozen=True)
class Entries:
    """Offsets of the entries of a matrix (n × p), and which of them were observed.

    Parameters
    ----------
    offsets
        What is added to the log-rate of each entry besides the cell's log size factor, (n, p); None for nothing.
    observed
        Whether each entry was observed, (n, p); None if all were.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import Entries
    >>> entries = Entries(np.array([[0.5, 0.25]]), np.array([[True, False]]))
    >>> entries.added(slice(None))
    array([[  0.5, -60. ]])
    """

    offsets: Array | None = None
    observed: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.offsets is None and self.observed is None:
            msg = "Neither offsets nor observed is given: leave entries out, None."
            raise ValueError(msg)
        shapes = [each.shape for each in self.arrays()]
        if shapes[0] != shapes[-1]:
            msg = f"offsets have shape {shapes[0]}, but observed {shapes[-1]}; expected the same, (n, p)."
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells and genes."""
        return tuple(self.arrays()[0].shape)

    def added(self, cells: Selection, dtype: DType = np.float64) -> Array:
        """What is added to the log-rates of some cells, (n, p): their offsets, and `ABSENT` where nothing was observed."""
        known: Array = np.zeros((), dtype) if self.offsets is None else self.offsets[cells].astype(dtype)
        return known if self.observed is None else np.where(self.observed[cells], known, dtype(ABSENT))

    def weighted(self, cells: Selection, counts: sp.csr_matrix) -> NDArray[np.float64]:
        """Sum over genes of counts times offsets, of some cells, (n,)."""
        if self.offsets is None:
            return np.zeros(counts.shape[0])
        return np.asarray(counts.multiply(self.offsets[cells]).sum(1), dtype=np.float64).ravel()

    def take(self, cells: NDArray[np.intp]) -> Entries:
        """Those of some cells."""
        return Entries(*(None if each is None else each[cells] for each in (self.offsets, self.observed)))

    def divided(self, unit: float) -> Entries:
        """The same with offsets in another unit."""
        return self if self.offsets is None else Entries(self.offsets / unit, self.observed)

    def arrays(self) -> tuple[Any, ...]:
        """The arrays that there are, of which digests are made."""
        return tuple(each for each in (self.offsets, self.observed) if each is not None)
