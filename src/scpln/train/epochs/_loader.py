"""Cells for Lightning: which ones train and which ones validate, and minibatches of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch import LightningDataModule

from scpln.train import as_batch, random_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import Batch

#: Fewer cells than these are all trained on.
FEWEST_TO_SPLIT = 10


def split_cells(n_cells: int, validation_size: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the training and of the validation cells, each in increasing order.

    A share `validation_size` of the cells validates, at least one unless it is 0; of fewer than ten cells, none.

    Examples
    --------
    >>> train, validation = split_cells(20, 0.1, seed=0)
    >>> len(train), len(validation)
    (18, 2)
    """
    n_validation = 0
    if validation_size > 0 and n_cells >= FEWEST_TO_SPLIT:
        n_validation = min(max(1, round(validation_size * n_cells)), n_cells - 1)
    order = np.random.default_rng(seed).permutation(n_cells)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


class CellLoader:
    """Minibatches of some cells, with their positions, for one pass of Lightning over them.

    The cells are divided evenly into batches of at most `batch_size`, so that no step has to do with a few left-over
    cells alone. Each batch is one selection of rows, without worker processes. Cells that fit one batch are made into
    tensors once.

    Parameters
    ----------
    data
        Counts, offsets and design.
    cells
        Positions of the cells, in increasing order.
    batch_size
        Most cells in a batch.
    labels
        Code of each cell of `data`, −1 where it is not known.
    seed
        Of a random order, which is another one in each epoch and follows from the seed and the epoch alone. From
        memory, cells are drawn one by one; from disk, in runs of neighbours. By default, cells keep their order.

    Examples
    --------
    >>> from scpln.inference import CountData
    >>> data = CountData(np.eye(7), np.zeros(7), np.ones((7, 1)))
    >>> loader = CellLoader(data, np.arange(1, 7), batch_size=4)
    >>> [(cells.tolist(), len(batch)) for cells, batch in loader]
    [([1, 2, 3], 3), ([4, 5, 6], 3)]
    """

    #: Lightning looks for these, as in PyTorch's own loader, and tells `sampler` the number of each epoch.
    batch_sampler = None

    def __init__(
        self,
        data: CountData,
        cells: NDArray[np.intp],
        batch_size: int,
        *,
        labels: NDArray[np.int64] | None = None,
        seed: int | None = None,
    ) -> None:
        self._data, self._cells, self._labels, self._seed = data, cells, labels, seed
        self._n_batches = -(-len(cells) // batch_size)
        self._epoch = 0
        self._only: Batch | None = None

    @property
    def sampler(self) -> CellLoader:
        """What Lightning tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[tuple[NDArray[np.intp], Batch]]:
        if self._n_batches == 1:
            if self._only is None:
                self._only = self._batch(self._cells)
            yield self._cells, self._only
            return
        for part in np.array_split(self._order(), self._n_batches):
            cells = np.sort(part)
            yield cells, self._batch(cells)

    def _order(self) -> NDArray[np.intp]:
        if self._seed is None:
            return self._cells
        return random_order(self._data, self._cells, np.random.default_rng((self._seed, self._epoch)))

    def _batch(self, cells: NDArray[np.intp]) -> Batch:
        return as_batch(self._data, self._data.counts[cells], cells, self._labels)


class CellData(LightningDataModule):
    """Training and validation cells of a count model, split at random by a seed.

    Parameters
    ----------
    data
        Counts, offsets and design.
    batch_size
        Most cells in a batch.
    labels
        Code of each cell, −1 where it is not known.
    validation_size
        Share of the cells that validate.
    seed
        Of the split, and of the order of the training cells in each epoch.

    Attributes
    ----------
    n_train, n_val
        Numbers of training and of validation cells.
    train_idx, val_idx, test_idx
        Their positions, under the names that scvi-tools gives them; no cell is a test cell.
    """

    def __init__(
        self,
        data: CountData,
        batch_size: int,
        *,
        labels: NDArray[np.int64] | None = None,
        validation_size: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train_idx, self.val_idx = split_cells(data.n_cells, validation_size, seed)
        self.test_idx: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)
        self._train = CellLoader(data, self.train_idx, batch_size, labels=labels, seed=seed)
        self._validation = CellLoader(data, self.val_idx, batch_size, labels=labels)

    @property
    def steps_per_epoch(self) -> int:
        """Training batches that visit every training cell once."""
        return len(self._train)

    def train_dataloader(self) -> CellLoader:
        """Batches of the training cells, in random order."""
        return self._train

    def val_dataloader(self) -> CellLoader:
        """Batches of the validation cells, in their order."""
        return self._validation
