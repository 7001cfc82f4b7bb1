"""Rows of a matrix of counts or other values, in memory or on disk: where they are, in which gene order, and in blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

from scpln.core import canonical, compressed, native
from scpln.utils import warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

#: Files and names of the matrices that were said to be loaded.
_announced: set[tuple[str, str]] = set()

BLOCK_ENTRIES = 2**21
"""Cells × genes in a block: dense temporaries of it take 16 MB in float64."""


def location(layer: str | None, data: str = "adata") -> str:
    """Name of the matrix as a user would write it.

    Examples
    --------
    >>> location(None), location("counts"), location("counts", "mdata['rna']")
    ('adata.X', "adata.layers['counts']", "mdata['rna'].layers['counts']")
    """
    return f"{data}.X" if layer is None else f"{data}.layers[{layer!r}]"


def get_matrix(adata: AnnData, layer: str | None) -> Any:
    """The matrix in `layer` (None: ``X``), or an error that lists what there is."""
    if layer is None and adata.X is None:
        msg = f"adata.X is empty (None). Say where the values to model are: {other_counts(adata, layer)}."
        raise ValueError(msg)
    if layer is not None and layer not in adata.layers:
        near = get_close_matches(layer, list(adata.layers), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        msg = f"adata.layers has no {layer!r}. {hint}For the values to model, {other_counts(adata, layer)}."
        raise ValueError(msg)
    return adata.X if layer is None else adata.layers[layer]


def other_counts(adata: AnnData, layer: str | None) -> str:
    """Where the values to model may be, if not in `layer`: what to do, as the end of a sentence."""
    layers = [name for name in adata.layers if name != layer]
    options = [f"pass one of the layers as layer=, {layers}"] if layers else []
    if layer is not None:
        options.append("pass layer=None for adata.X")
    if adata.raw is not None:
        options.append(
            "copy them from adata.raw if it has them, `adata.layers['counts'] = adata.raw[:, adata.var_names].X`"
        )
    return " or ".join(options) or "adata has no layers, so load them again, into adata.layers['counts']"


def as_rows(matrix: Any, where: str) -> Any:
    """The same values in a form whose contiguous rows are cheap to read, each entry once and in native numbers.

    In memory, what is not dense becomes canonical CSR, without a copy if it is already. On disk, CSR and dense arrays
    stay there; CSC cannot be read by rows and is loaded.
    """
    if isinstance(matrix, CSCDataset):
        _announce_columns(matrix, where)
        matrix = matrix.to_memory()
    if np.dtype(getattr(matrix, "dtype", float)).kind not in "buif":
        msg = (
            f"{where} has dtype {matrix.dtype}, which cannot hold counts or other real values. Convert it first, "
            f"for example by `{where} = {where}.astype('float32')`."
        )
        raise TypeError(msg)
    if isinstance(matrix, CSRDataset | h5py.Dataset):
        return StoredRows(matrix)
    if sp.issparse(matrix):
        return compressed(matrix)
    if isinstance(matrix, np.ndarray):
        return native(_unmasked(matrix, where))
    msg = (
        f"{where} is a {type(matrix).__module__}.{type(matrix).__qualname__}, which scpln cannot read. "
        "Supported: numpy arrays, scipy sparse matrices and arrays, and backed AnnData. "
        "For a lazy or GPU array, load it first: `adata = adata.to_memory()`."
    )
    raise TypeError(msg)


def _announce_columns(matrix: CSCDataset, where: str) -> None:
    """Warn, once for each matrix on disk, that it is loaded."""
    which = (str(matrix.group.file.filename), str(matrix.group.name)) if hasattr(matrix.group, "file") else None
    if which not in _announced:
        warn(
            f"{where} is stored on disk by columns (CSC), which cannot be read cell by cell: loading it into memory. "
            "To leave it on disk, store it by rows: convert it with .tocsr() before write_h5ad."
        )
    if which is not None:
        _announced.add(which)


def _unmasked(matrix: NDArray[Any], where: str) -> NDArray[Any]:
    """A plain array; an error if some of its values are masked."""
    n_masked = int(np.ma.count_masked(matrix))
    if n_masked:
        msg = (
            f"{n_masked:,} of the {matrix.size:,} values in {where} are masked, and a count is never missing. Put a number "
            f"in their place, `{where} = {where}.filled(0)`, or leave out these cells or genes."
        )
        raise ValueError(msg)
    return np.asarray(matrix)


@dataclass(frozen=True)
class StoredRows:
    """Rows of a matrix on disk, as `as_rows` has those in memory; some of its columns, or rounded, if that is chosen."""

    rows: CSRDataset | h5py.Dataset
    columns: NDArray[np.intp] | None = None
    is_rounded: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, and genes that are read."""
        n, p = self.rows.shape
        return int(n), int(p) if self.columns is None else len(self.columns)

    def __getitem__(self, cells: Any) -> Any:
        """Rows of a slice, or of increasing positions."""
        block = self.rows[cells]
        block = select_genes(compressed(block) if sp.issparse(block) else native(np.asarray(block)), self.columns)
        return rounded(block) if self.is_rounded else block


def gene_columns(var_names: pd.Index, genes: Sequence[str]) -> NDArray[np.intp] | None:
    """Columns of `genes` among `var_names`; None if they are the same genes in the same order.

    Examples
    --------
    >>> import pandas as pd
    >>> gene_columns(pd.Index(["b", "extra", "a"]), ["a", "b"])
    array([2, 0])
    """
    if len(var_names) == len(genes) and (var_names == list(genes)).all():
        return None
    if not var_names.is_unique:
        msg = "adata.var_names are not unique, so genes cannot be matched. Run `adata.var_names_make_unique()` first."
        raise ValueError(msg)
    columns = var_names.get_indexer(pd.Index(genes))
    missing = [gene for gene, column in zip(genes, columns, strict=True) if column < 0]
    if missing:
        shown = ", ".join(repr(gene) for gene in missing[:5]) + (", …" if len(missing) > 5 else "")
        msg = (
            f"{len(missing):,} of the model's {len(genes):,} genes are missing from adata.var_names: {shown}. "
            "Genes are matched by name, in any order: pass an AnnData that has all of them "
            "(counts of 0 for a gene that was not measured would be read as measured zeros)."
        )
        raise ValueError(msg)
    return columns


def select_genes(rows: Any, columns: NDArray[np.intp] | None) -> Any:
    """Rows with only `columns`, in that order (None: as they are)."""
    if columns is None:
        return rows
    if isinstance(rows, np.ndarray):
        return rows[:, columns]
    if sp.issparse(rows):
        return canonical(rows[:, columns])
    return replace(rows, columns=columns)


def rounded(rows: Any) -> Any:
    """The nearest whole numbers, of values on disk as they are read; stored zeros among them stay stored.

    Examples
    --------
    >>> rounded(np.array([[0.4, 2.5, -1e-9]]))
    array([[0., 2., 0.]])
    """
    if isinstance(rows, StoredRows):
        return replace(rows, is_rounded=True)
    if rows.dtype.kind != "f":
        return rows
    if sp.issparse(rows):
        return type(rows)((rounded(rows.data), rows.indices, rows.indptr), shape=rows.shape)
    return np.rint(rows) + 0.0  # which has no negative zeros


def take_cells(rows: Any, cells: NDArray[np.intp] | None) -> Any:
    """Rows of the given cells, in their order; from disk they are read in increasing order, block by block."""
    if cells is None:
        return rows
    if isinstance(rows, np.ndarray) or sp.issparse(rows):
        return rows[cells]
    unique, inverse = np.unique(cells, return_inverse=True)
    blocks = [sp.csr_matrix(rows[unique[start:stop]]) for start, stop in block_ranges(len(unique), rows.shape[1])]
    return sp.vstack(blocks, format="csr")[inverse]


def block_ranges(n_cells: int, n_genes: int) -> Iterator[tuple[int, int]]:
    """Consecutive half-open ranges of cells whose blocks have about `BLOCK_ENTRIES` entries."""
    size = max(1, BLOCK_ENTRIES // max(1, n_genes))
    for start in range(0, n_cells, size):
        yield start, min(start + size, n_cells)


def row_blocks(rows: Any) -> Iterator[tuple[int, Any]]:
    """First cell and values (CSR or dense, in memory) of consecutive blocks."""
    for start, stop in block_ranges(*rows.shape):
        block = rows[start:stop]
        yield start, block.tocsr() if sp.issparse(block) else np.asarray(block)
