"""A minibatch: counts of some cells with the known part of their log-rates, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import torch

from ._counts import CountBatch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of n cells besides their counts: log size factors o (n,) and design X (n, d).

    Where a model has parameters of batches, also the code of each cell's batch (n,).
    """

    offsets: torch.Tensor
    design: torch.Tensor
    batches: torch.Tensor | None = None

    def to(self, device: torch.device | str, **kwargs: Any) -> Self:
        """The same on another device; Lightning calls this."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: value if value is None else value.to(device, **kwargs) for name, value in values.items()
        }
        return type(self)(**moved)

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, kw_only=True)
class Batch(Known):
    """Counts y of n cells, and what is known of them.

    In training with labels, also the code of each cell's label (n,), −1 where it is not known.

    Examples
    --------
    >>> import numpy as np
    >>> batch = Batch.from_arrays(np.eye(3, 5), offsets=np.zeros(3), design=np.ones((3, 1)))
    >>> len(batch), batch.counts
    (3, CountBatch(3 cells, 5 genes, 3 non-zeros, torch.float32))
    """

    counts: CountBatch
    labels: torch.Tensor | None = None

    @classmethod
    def from_arrays(
        cls,
        counts: Any,
        offsets: ArrayLike,
        design: ArrayLike,
        batches: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Self:
        """From SciPy or NumPy counts (n, p), and NumPy offsets, design and codes."""
        return cls(
            counts=CountBatch.from_counts(counts, dtype, device=device),
            offsets=torch.as_tensor(offsets, dtype=dtype, device=device),
            design=torch.as_tensor(design, dtype=dtype, device=device),
            batches=None if batches is None else torch.as_tensor(batches, dtype=torch.int64, device=device),
            labels=None if labels is None else torch.as_tensor(labels, dtype=torch.int64, device=device),
        )
