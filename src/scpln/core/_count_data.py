"""The data of a count model: counts, offsets and design, read in blocks of cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ._compressed import canonical, compressed, native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ._arrays import Array, DType, Rows
    from ._entries import Entries

#: Cells × genes in one block: its rates and counts, in float32, then stay in the second- or third-level cache.
BLOCK_PAIRS = 256 * 1024


#: Cells × genes that are read from disk at a time.
READ_ENTRIES = 8 * 1024 * 1024
#: Depth of a cell, in counts, beyond which its posterior is too narrow for float32.
MAX_SINGLE_DEPTH = 5e5


@dataclass(frozen=True)
class CountData:
    """Counts of n cells and p genes, with the known part of their log-rates.

    Parameters
    ----------
    counts
        n × p counts. Anything with a `shape` whose `counts[start:stop]` gives the rows of a block as a SciPy sparse
        matrix or array, or as a NumPy array: a CSR matrix in memory, a backed sparse dataset of anndata, an HDF5
        dataset. Rows are only ever read in contiguous blocks, in increasing order. Entries that are stored in parts are
        added up.
    offsets
        Log size factor of each cell, :math:`o_i`, shape (n,), natural logarithm. With `groups`, of each group of genes
        in each cell, shape (n, G): `ABSENT` where a cell lacks the group, and all its counts are zeros.
    design
        Design matrix X, shape (n, d); its first column is the intercept. Other columns are indicators, or numbers with mean 0
        and standard deviation 1: cells are computed in float32, to which a year of birth is nearly an intercept.
    batches
        Code of each cell's batch, shape (n,), for models with parameters of each batch.
    groups
        Code 0, …, G − 1 of each gene's group, shape (p,), where groups of genes (modalities) have log size factors of
        their own.
    entries
        Offsets of every entry, which are added to the log size factors, and which entries were observed. Counts of those
        that were not are zeros.
    gate_logits
        Logit of each cell's own probability of an excess zero, shape (n,), where cells have some.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scpln.inference import ABSENT, CountData
    >>> data = CountData(sp.csr_matrix(np.eye(3)), offsets=np.zeros(3), design=np.ones((3, 1)))
    >>> data.n_cells, data.n_genes
    (3, 3)

    Two groups of genes, of which the last cell has the first only:

    >>> counts, sizes = np.array([[5, 0, 7], [2, 1, 0]]), np.array([[0.0, 0.3], [-0.2, ABSENT]])
    >>> CountData(counts, sizes, np.ones((2, 1)), groups=np.array([0, 0, 1])).gene_offsets(slice(None))
    array([[  0. ,   0. ,   0.3],
           [ -0.2,  -0.2, -60. ]])
    """

    counts: Any
    offsets: Array
    design: Array
    batches: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    entries: Entries | None = None
    gate_logits: Array | None = None

    def __post_init__(self) -> None:
        if sp.issparse(self.counts):
            object.__setattr__(self, "counts", compressed(self.counts))
        elif isinstance(self.counts, np.ndarray):
            object.__setattr__(self, "counts", native(self.counts))
        n, p = self.counts.shape
        expected: tuple[int, ...] = (n,)
        if self.groups is not None:
            _check_groups(self.groups, p, self.offsets)
            expected = (n, self.offsets.shape[1])
        if self.offsets.shape != expected or self.design.ndim != 2 or self.design.shape[0] != n:
            hint = "" if self.groups is not None or self.offsets.ndim == 1 else ", or groups (the code of each gene's)"
            msg = (
                f"counts have {n} cells, but offsets have shape {self.offsets.shape} and design {self.design.shape}; "
                f"expected {expected} and ({n}, d){hint}."
            )
            raise ValueError(msg)
        if self.entries is not None and self.entries.shape != (n, p):
            msg = f"entries have shape {self.entries.shape}, but counts ({n}, {p}); expected the same."
            raise ValueError(msg)

    @property
    def n_cells(self) -> int:
        """Number of cells n."""
        return int(self.counts.shape[0])

    @property
    def n_genes(self) -> int:
        """Number of genes p."""
        return int(self.counts.shape[1])

    @property
    def log_sizes(self) -> Array:
        """Log size factors by group of genes, (n, G), with G = 1 where all genes have the same."""
        return self.offsets[:, None] if self.groups is None else self.offsets

    @cached_property
    def membership(self) -> Array:
        """Indicators of each gene's group, (p, G): `log_sizes` times these are what is added to the log-rates."""
        if self.groups is None:
            return np.ones((self.n_genes, 1))
        return np.eye(self.offsets.shape[1])[self.groups]

    def gene_offsets(self, cells: slice | NDArray[np.intp]) -> Array:
        """What is added to the log-rates of some cells, (n, p), or (n, 1) where it is the same for all genes."""
        sizes = self.offsets[cells, None] if self.groups is None else self.offsets[cells][:, self.groups]
        return sizes if self.entries is None else sizes + self.entries.added(cells)

    def expected_offsets(self, genes: NDArray[np.intp] | None = None) -> tuple[Array, NDArray[np.int64] | None]:
        """What is added to the log-rates that are expected of some genes, whether or not their entries were observed.

        Log size factors (n, G) and the code of each gene's group, or, where entries have offsets of their own, the sum (n, genes) and
        None. `ABSENT` for a group that a cell lacks.
        """
        chosen = slice(None) if genes is None else genes
        groups = None if self.groups is None else self.groups[chosen]
        if self.entries is None or self.entries.offsets is None:
            return self.log_sizes, groups
        sizes = self.log_sizes if groups is None else self.log_sizes[:, groups]
        return sizes + self.entries.offsets[:, chosen], None

    def add_entry_offsets(self, cells: slice | NDArray[np.intp], log_rates: Array) -> None:
        """Add what entries have besides log size factors to the log-rates of some cells, (n, p), in place."""
        if self.entries is not None:
            log_rates += self.entries.added(cells, log_rates.dtype.type)

    @cached_property
    def exposures(self) -> Array:
        """Size factors of every gene, summed over the cells, (p,): those of entries, where there are any, that were observed."""
        if self.entries is None:
            return self.membership @ np.exp(self.log_sizes).sum(0)
        blocks = ranges(0, self.n_cells, self.block_size())
        return np.sum([np.exp(self.gene_offsets(slice(*block))).sum(0) for block in blocks], axis=0)

    @cached_property
    def design_products(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pairs a ≥ b of covariates with x_ia x_ib ≠ 0 for some cell: most pairs of indicators of a factor have none."""
        present = np.abs(self.design).T @ np.abs(self.design) > 0
        rows, columns = np.nonzero(np.tril(present))
        return rows, columns

    def block_size(self, batch_size: int | None = None) -> int:
        """Cells per block: `batch_size`, or as many as keep a block within the processor's cache."""
        if batch_size is not None:
            return max(1, min(batch_size, self.n_cells))
        return int(np.clip(BLOCK_PAIRS // max(self.n_genes, 1), 16, 2048))

    def rows(self, start: int, stop: int) -> Rows:
        """Counts of the cells `start` to `stop`: compressed rows, or an array where they are dense in memory."""
        counts = self.counts
        if isinstance(counts, np.ndarray):
            return counts[start:stop]
        return _rows_between(counts, start, stop)

    def blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, Rows]]:
        """Consecutive blocks of at most `size` cells: first cell, last cell + 1, and counts.

        From disk, several blocks are read at a time, since each reading has its price.
        """
        in_memory = isinstance(self.counts, np.ndarray) or sp.issparse(self.counts)
        several = 1 if in_memory else max(1, READ_ENTRIES // (size * max(self.n_genes, 1)))
        for first, last in ranges(start, stop, several * size):
            rows = self.rows(first, last)
            for begin, end in ranges(first, last, size):
                yield begin, end, rows if several == 1 else _rows_between(rows, begin - first, end - first)

    def subset(self, cells: NDArray[np.intp], batch_size: int | None = None) -> CountData:
        """Copy of the given cells (sorted indices) in memory."""
        parts = []
        for start, stop, rows in self.blocks(0, self.n_cells, self.block_size(batch_size)):
            first, last = np.searchsorted(cells, (start, stop))
            parts.append(sp.csr_matrix(rows[cells[first:last] - start]))
        batches = None if self.batches is None else self.batches[cells]
        counts = sp.vstack(parts, format="csr")
        entries = None if self.entries is None else self.entries.take(cells)
        gates = None if self.gate_logits is None else self.gate_logits[cells]
        return CountData(counts, self.offsets[cells], self.design[cells], batches, self.groups, entries, gates)


def _check_groups(groups: NDArray[np.int64], n_genes: int, offsets: Array) -> None:
    """Raise an error unless each gene has a code of one of the groups that `offsets` (n, G) has."""
    if offsets.ndim != 2 or groups.shape != (n_genes,):
        msg = (
            f"groups have shape {groups.shape} and offsets {offsets.shape}; expected a code for each gene, ({n_genes},), "
            f"and a log size factor for each cell and group, (n, G)."
        )
        raise ValueError(msg)
    wrong = np.flatnonzero((groups < 0) | (groups >= offsets.shape[1]))
    if not np.issubdtype(groups.dtype, np.integer) or len(wrong):
        found = f"dtype {groups.dtype}" if not len(wrong) else f"{groups[wrong[0]]} at gene {wrong[0]}"
        msg = f"groups have {found}; expected integer codes from 0 to {offsets.shape[1] - 1}, the columns of offsets."
        raise ValueError(msg)


def _rows_between(counts: Any, start: int, stop: int) -> sp.csr_matrix:
    """Rows of counts as a CSR matrix, without a copy where they are one already."""
    if not isinstance(counts, sp.csr_matrix | sp.csr_array):
        rows = counts[start:stop]
        return canonical(sp.csr_matrix(rows if sp.issparse(rows) else native(np.asarray(rows))))
    begin, end = counts.indptr[start], counts.indptr[stop]
    parts = (counts.data[begin:end], counts.indices[begin:end], counts.indptr[start : stop + 1] - begin)
    return sp.csr_matrix(parts, shape=(stop - start, counts.shape[1]), copy=False)


def working_precision(depth: Array) -> DType:
    """Precision that cells of the given depths need: float32, twice as fast, unless one of them is very deep."""
    return np.float64 if depth.max(initial=0.0) > MAX_SINGLE_DEPTH else np.float32


def ranges(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Consecutive half-open ranges of at most `size` that cover `start` to `stop`."""
    for begin in range(start, stop, size):
        yield begin, min(begin + size, stop)
