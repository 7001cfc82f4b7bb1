"""Counts in the form that the mathematics computes with: compressed rows with each entry once, in native numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

#: Numbers that sums of entries fit into, by kind; a sum of truth values is whether one of them is true.
_WIDEST = {"b": np.bool_, "i": np.int64, "u": np.uint64, "f": np.float64}


def native(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order and in a precision that SciPy computes with; no copy if they are.

    Half precision becomes single, extended precision double.

    Examples
    --------
    >>> native(np.array([1, 2], dtype=">f2")).dtype, native(np.array([1, 2], dtype=">i8")).dtype
    (dtype('float32'), dtype('int64'))
    """
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return values.astype(dtype, copy=False)


def compressed(matrix: Any) -> sp.csr_matrix:
    """A sparse matrix by rows, each entry stored once; itself if it is that already.

    SciPy adds up entries that are stored in parts in the type that they have, where 200 + 100 is 44 in 8 bits. Here the
    sum has the widest type of the kind.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> parts = np.array([200, 100], dtype=np.uint8)
    >>> compressed(sp.csr_matrix((parts, [0, 0], [0, 2]), shape=(1, 2))).toarray()
    array([[300,   0]], dtype=uint64)
    """
    if matrix.format not in ("csr", "csc"):
        return canonical(matrix.astype(_WIDEST[matrix.dtype.kind]).tocsr())
    data = native(matrix.data)
    if data is not matrix.data:
        matrix = type(matrix)((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    return canonical(matrix.tocsr())


def canonical(rows: sp.csr_matrix) -> sp.csr_matrix:
    """Compressed rows with each entry stored once, in the order of the columns; themselves if they are that already."""
    if rows.has_canonical_format:
        return rows
    rows = rows.copy()
    rows.sort_indices()
    # A new one does not know that the old one was not canonical.
    rows = type(rows)((rows.data, rows.indices, rows.indptr), shape=rows.shape)
    if not rows.has_canonical_format:
        rows = rows.astype(_WIDEST[rows.dtype.kind])
        rows.sum_duplicates()
    return rows
