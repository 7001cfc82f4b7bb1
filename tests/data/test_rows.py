"""Rows of matrices in memory and on disk, whatever numbers they hold and however entries are stored."""

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from scpln.data._joint_rows import JointRows
from scpln.data._rows import as_rows, row_blocks, select_genes, take_cells

N, P = 9, 7


@pytest.fixture
def dense():
    return np.random.default_rng(0).poisson(60, (N, P)) * (np.random.default_rng(1).random((N, P)) < 0.6)


def split(dense, form, dtype):
    """Each entry in two parts of which the second is stored before the first."""
    whole = sp.csr_matrix(dense) if form == "csr" else sp.csc_matrix(dense)
    data = np.column_stack([whole.data - whole.data // 2, whole.data // 2]).ravel().astype(dtype)
    return type(whole)((data, np.repeat(whole.indices, 2), 2 * whole.indptr), shape=whole.shape)


def stored(matrix, path, form):
    """The same matrix as anndata reads it from a file; written past scipy, which knows fewer types of numbers."""
    with h5py.File(path, "w") as file:
        if form == "dense":
            file["X"] = matrix
        else:
            anndata.io.write_elem(file, "X", matrix)
    file = h5py.File(path, "r")
    return file["X"] if form == "dense" else anndata.io.sparse_dataset(file["X"])


def toarray(rows):
    return rows.toarray() if sp.issparse(rows) else np.asarray(rows)


@pytest.mark.filterwarnings("ignore:.* is stored on disk by columns")
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_every_way_to_read_adds_up_the_parts_of_an_entry(dense, form, dtype, where, tmp_path):
    matrix = split(dense, form, dtype)
    rows = as_rows(stored(matrix, tmp_path / "x.h5", form) if where == "disk" else matrix, "adata.X")
    columns, cells = np.array([5, 0, 3]), np.array([4, 1, 1, 8])
    for read, expected in [
        (rows[0:N], dense),
        (rows[2:6], dense[2:6]),
        (take_cells(rows, cells), dense[cells]),
        (select_genes(rows, columns)[0:N], dense[:, columns]),
        (take_cells(select_genes(rows, columns), cells), dense[np.ix_(cells, columns)]),
        (JointRows([rows, rows], [np.arange(N), np.arange(N)])[0:N], np.hstack([dense, dense])),
        *((block, dense[start : start + block.shape[0]]) for start, block in row_blocks(rows)),
    ]:
        np.testing.assert_array_equal(toarray(read), expected)
        assert read.has_canonical_format


@pytest.mark.parametrize("dtype", ["float16", ">f4", ">f8", ">i4", ">u2", "longdouble", "int64"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_numbers_become_native(dense, dtype, where, tmp_path):
    matrix = dense.astype(dtype)
    if where == "disk":
        matrix = stored(matrix, tmp_path / "x.h5", "dense")
    rows = as_rows(matrix, "adata.X")
    for read in (rows[0:N], take_cells(rows, np.arange(N)), select_genes(rows, np.arange(P))[0:N]):
        assert read.dtype.isnative
        assert sp.csr_matrix(read).dtype.name in ("float32", "float64", "int32", "uint16", "int64")
        np.testing.assert_array_equal(toarray(read), dense)


@pytest.mark.parametrize("dtype", ["float16", ">f4"])
def test_numbers_that_scipy_does_not_know(dense, dtype):
    matrix = sp.csr_matrix(dense)
    matrix.data = matrix.data.astype(dtype)
    np.testing.assert_array_equal(as_rows(matrix, "adata.X").toarray(), dense)


def test_masked_values_are_refused(dense):
    masked = np.ma.array(dense, mask=dense == dense.max())
    with pytest.raises(
        ValueError, match=rf"1 of the {N * P} values in adata.X are masked.*`adata.X = adata.X.filled\(0\)`"
    ):
        as_rows(masked, "adata.X")
    rows = as_rows(np.ma.array(dense), "adata.X")
    assert type(rows) is np.ndarray
