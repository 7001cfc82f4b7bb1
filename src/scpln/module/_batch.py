"""A minibatch: counts of some cells with the known part of their log-rates, as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from ._counts import CountBatch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Batch:
    """Counts y, log size factors o (n,) and design X (n, d) of n cells.

    Examples
    --------
    >>> import numpy as np
    >>> batch = Batch.from_arrays(np.eye(3, 5), offsets=np.zeros(3), design=np.ones((3, 1)))
    >>> len(batch), batch.counts
    (3, CountBatch(3 cells, 5 genes, 3 non-zeros, torch.float32))
    """

    counts: CountBatch
    offsets: torch.Tensor
    design: torch.Tensor

    @classmethod
    def from_arrays(
        cls, counts: Any, offsets: ArrayLike, design: ArrayLike, *, dtype: torch.dtype = torch.float32
    ) -> Self:
        """From SciPy or NumPy counts (n, p), and NumPy offsets and design."""
        return cls(
            CountBatch.from_counts(counts, dtype),
            torch.as_tensor(offsets, dtype=dtype),
            torch.as_tensor(design, dtype=dtype),
        )

    def __len__(self) -> int:
        return len(self.offsets)
