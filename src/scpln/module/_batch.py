"""A minibatch: counts of some cells with the known part of their log-rates, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import torch

from scpln.core import ABSENT

from ._count_batch import CountBatch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of n cells besides their counts: log size factors o and design X (n, d).

    Log size factors are (n,), or (n, G) where each of G groups of genes has its own: `groups` (p,) is then the code of
    each gene's group, and a group that a cell lacks has `ABSENT`. Where entries have offsets of their own, or were not
    all observed, `entries` (n, p) is added to these, `ABSENT` where an entry was not observed. Where cells have probabilities of
    excess zeros, their logits are `gate_logits` (n,). Where a model has parameters of batches, also the code of each cell's batch (n,).

    Examples
    --------
    >>> sizes = torch.tensor([[0.5, 1.5], [0.25, ABSENT]])
    >>> known = Known(offsets=sizes, groups=torch.tensor([0, 0, 1]), design=torch.ones(2, 1))
    >>> known.gene_offsets
    tensor([[  0.5000,   0.5000,   1.5000],
            [  0.2500,   0.2500, -60.0000]])
    >>> known.log_sizes, known.absence
    (tensor([[0.5000, 1.5000],
            [0.2500, 0.0000]]), tensor([[0., 0.],
            [0., 1.]]))
    """

    offsets: torch.Tensor
    design: torch.Tensor
    batches: torch.Tensor | None = None
    groups: torch.Tensor | None = None
    entries: torch.Tensor | None = None
    gate_logits: torch.Tensor | None = None

    @property
    def gene_offsets(self) -> torch.Tensor:
        """What is added to the log-rate of each gene, (n, p), or (n, 1) where it is the same for all."""
        sizes = self.offsets[:, None] if self.groups is None else self.offsets.index_select(1, self.groups)
        return sizes if self.entries is None else sizes + self.entries

    @property
    def entry_features(self) -> torch.Tensor | None:
        """Offsets of entries, and indicators of those that were not observed, for networks, (n, 2p); None without them."""
        if self.entries is None:
            return None
        unobserved = self.entries <= ABSENT
        return torch.cat([self.entries.masked_fill(unobserved, 0.0), unobserved.to(self.entries)], 1)

    @property
    def log_sizes(self) -> torch.Tensor:
        """Log size factors for networks, (n, 1) or (n, G), with 0 for groups that are absent."""
        if self.groups is None:
            return self.offsets[:, None]
        return self.offsets.where(self.offsets > ABSENT, 0.0)

    @property
    def absence(self) -> torch.Tensor:
        """Indicators of groups that are absent, (n, G), or (n, 0) without groups."""
        if self.groups is None:
            return self.offsets.new_zeros(len(self), 0)
        return (self.offsets <= ABSENT).to(self.offsets)

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
        groups: ArrayLike | None = None,
        entries: ArrayLike | None = None,
        gate_logits: ArrayLike | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Self:
        """From SciPy or NumPy counts (n, p), and NumPy offsets, design, codes of batches, labels and groups, entries, and logits of excess zeros."""
        return cls(
            counts=CountBatch.from_counts(counts, dtype, device=device),
            offsets=torch.as_tensor(offsets, dtype=dtype, device=device),
            design=torch.as_tensor(design, dtype=dtype, device=device),
            batches=None if batches is None else torch.as_tensor(batches, dtype=torch.int64, device=device),
            labels=None if labels is None else torch.as_tensor(labels, dtype=torch.int64, device=device),
            groups=None if groups is None else torch.as_tensor(groups, dtype=torch.int64, device=device),
            entries=None if entries is None else torch.as_tensor(entries, dtype=dtype, device=device),
            gate_logits=None if gate_logits is None else torch.as_tensor(gate_logits, dtype=dtype, device=device),
        )
