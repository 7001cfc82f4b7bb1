"""Minibatches of cells for stochastic training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from scpln.module import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import Generative

#: Consecutive cells that are read together from data on disk.
RUN = 32


class Minibatches:
    """Batches of cells, drawn in random order, epoch after epoch.

    From memory, cells are drawn one by one; from disk, in runs of consecutive ones. Data that fit one batch are made
    into tensors once.

    Parameters
    ----------
    data
        Counts, offsets and design.
    size
        Cells in a batch; the last one of an epoch may have fewer.
    seed
        Of the order.
    dtype
        Precision of the tensors.

    Examples
    --------
    >>> from itertools import islice
    >>> from scpln.inference import CountData
    >>> batches = Minibatches(CountData(np.eye(5), np.zeros(5), np.ones((5, 1))), size=2)
    >>> [len(batch) for _, batch in islice(batches, batches.per_epoch)]
    [2, 2, 1]
    >>> [cells.tolist() for cells, _ in batches.in_order()]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, data: CountData, size: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        self._data, self.size, self._dtype = data, min(size, data.n_cells), dtype
        self._rng = np.random.default_rng(seed)

    @property
    def per_epoch(self) -> int:
        """Batches that visit every cell once."""
        return -(-self._data.n_cells // self.size)

    def __iter__(self) -> Iterator[tuple[NDArray[np.intp], Batch]]:
        """Positions of cells and their batch, without end."""
        if self.per_epoch == 1:
            cells = np.arange(self._data.n_cells)
            whole = self._batch(cells)
            while True:
                yield cells, whole
        while True:
            order = random_order(self._data, np.arange(self._data.n_cells), self._rng)
            for start in range(0, len(order), self.size):
                cells = np.sort(order[start : start + self.size])
                yield cells, self._batch(cells)

    def in_order(self) -> Iterator[tuple[NDArray[np.intp], Batch]]:
        """All cells once, in their order."""
        for start, stop, rows in self._data.blocks(0, self._data.n_cells, self.size):
            yield np.arange(start, stop), as_batch(self._data, rows, slice(start, stop), dtype=self._dtype)

    def _batch(self, cells: NDArray[np.intp]) -> Batch:
        counts = self._data.counts
        rows = counts[cells] if len(cells) < self._data.n_cells else self._data.rows(0, self._data.n_cells)
        return as_batch(self._data, rows, cells, dtype=self._dtype)


class SimulatedBatches:
    """Batches of cells with counts of a model, so that an encoder of few cells does not learn these by heart.

    Size factors and covariates are those of cells that are chosen at random; latent states come from the prior, and counts from the likelihood.

    Parameters
    ----------
    data
        Offsets and design.
    generative
        Model.
    size
        Cells in a batch.
    seed
        Of the draws.
    dtype
        Precision of the tensors, and of the model.

    Examples
    --------
    >>> from scpln.inference import CountData
    >>> from scpln.module import Generative, LinearDecoder, make_likelihood
    >>> model = Generative(LinearDecoder(np.full((4, 1), 9.0), np.ones((4, 2))), make_likelihood("poisson", 4)).float()
    >>> batches = SimulatedBatches(CountData(np.eye(5, 4), np.zeros(5), np.ones((5, 1))), model, 3)
    >>> next(iter(batches))[1].counts
    CountBatch(3 cells, 4 genes, 12 non-zeros, torch.float32)
    """

    def __init__(
        self,
        data: CountData,
        generative: Generative,
        size: int,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._data, self._generative, self.size, self._dtype = data, generative, size, dtype
        self._rng, self._generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[NDArray[np.intp], Batch]]:
        """Positions of the cells whose size factors and covariates were taken, and a batch, without end."""
        nothing, model = sp.csr_array((self.size, self._data.n_genes)), self._generative
        while True:
            cells = self._rng.integers(0, self._data.n_cells, self.size)
            with torch.no_grad():
                z = model.prior.sample(self.size, self._generator)
                eta, deviations = model.decoder.decode(z, as_batch(self._data, nothing, cells, dtype=self._dtype))
                given = [deviations] if deviations else []
                counts = model.likelihood.sample(eta, self._generator, *given)
            yield cells, as_batch(self._data, counts.numpy(), cells, dtype=self._dtype)


def random_order(data: CountData, cells: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """The cells in random order: one by one from memory, in runs of neighbours from disk."""
    if isinstance(data.counts, np.ndarray) or sp.issparse(data.counts):
        return rng.permutation(cells)
    starts = rng.permutation(np.arange(0, len(cells), RUN))
    return np.concatenate([cells[start : start + RUN] for start in starts])


def as_batch(
    data: CountData,
    rows: Any,
    cells: slice | NDArray[np.intp],
    labels: NDArray[np.int64] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Batch:
    """Tensors of some cells, whose counts have been read; `labels` are those of all cells."""
    batches, labels = (None if codes is None else codes[cells] for codes in (data.batches, labels))
    known = data.offsets[cells], data.design[cells], batches, labels
    entries = None if data.entries is None else data.entries.added(cells)
    gates = None if data.gate_logits is None else data.gate_logits[cells]
    more: dict[str, Any] = {"groups": data.groups, "entries": entries, "gate_logits": gates}
    return Batch.from_arrays(rows, *known, **more, dtype=dtype, device=device)
