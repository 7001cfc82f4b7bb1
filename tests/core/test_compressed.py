"""Compressed rows, against dense arithmetic in Python's own integers."""

import numpy as np
import pytest
import scipy.sparse as sp

from scpln.core import CountData, compressed, native

FORMATS = ["csr", "csc", "coo"]


def in_parts(dtype, form, *, container=sp.coo_array):
    """Entries in up to five parts each, in random order, and their sums."""
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 6, 90), rng.integers(0, 5, 90)
    parts = rng.integers(1, 120, 90)
    dense = np.zeros((6, 5))
    np.add.at(dense, (rows, columns), parts)
    if form == "coo":
        return container((parts.astype(dtype), (rows, columns)), shape=(6, 5)), dense
    major, minor = (rows, columns) if form == "csr" else (columns, rows)
    order = np.argsort(major, kind="stable")
    indptr = np.searchsorted(major[order], np.arange((6 if form == "csr" else 5) + 1))
    kind = getattr(sp, f"{form}_array")
    return kind((parts[order].astype(dtype), minor[order], indptr), shape=(6, 5)), dense


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint64", "float32", "float64"])
@pytest.mark.parametrize("form", FORMATS)
def test_parts_are_added_up_without_overflow(form, dtype):
    matrix, dense = in_parts(dtype, form)
    before = matrix.copy()
    rows = compressed(matrix)
    assert rows.format == "csr"
    assert rows.has_canonical_format
    np.testing.assert_array_equal(rows.toarray(), dense)
    assert matrix.nnz == before.nnz, "the given matrix stays as it is"
    np.testing.assert_array_equal(matrix.data, before.data)


def test_truth_values_stay_true():
    """Present twice is present, as in scipy's dense array."""
    matrix = sp.csr_array((np.ones(3, dtype=bool), [0, 0, 1], [0, 3]), shape=(1, 3))
    np.testing.assert_array_equal(compressed(matrix).toarray(), matrix.toarray())


def test_what_is_canonical_is_not_copied_and_keeps_its_type():
    canonical = sp.csr_matrix(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert compressed(canonical) is canonical
    unsorted = sp.csr_matrix((np.array([7, 9], dtype=np.uint8), [2, 0], [0, 2]), shape=(1, 3))
    assert compressed(unsorted).dtype == np.uint8
    np.testing.assert_array_equal(compressed(unsorted).toarray(), [[9, 0, 7]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [("float16", "float32"), (">f2", "float32"), (">f4", "float32"), (">f8", "float64"), ("longdouble", "float64")]
    + [(name, name) for name in ("float32", "float64", "int8", "uint16", "int64", "bool")]
    + [(">i2", "int16"), (">u4", "uint32"), (">i8", "int64")],
)
def test_native_types(given, expected):
    values = np.array([0, 1, 1], dtype=given)
    assert native(values).dtype == np.dtype(expected)
    assert native(values).dtype.isnative
    np.testing.assert_array_equal(native(values), [0, 1, 1])
    assert (native(values) is values) == (np.dtype(given) == np.dtype(expected))


class OnDisk:
    """Rows that are read when they are asked for."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, matrix.shape

    def __getitem__(self, cells):
        return self.matrix[cells]


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("form", ["csr", "csc"])
def test_count_data_gives_sums(form, where):
    matrix, dense = in_parts("uint8", form)
    data = CountData(OnDisk(matrix) if where == "disk" else matrix, np.zeros(6), np.ones((6, 1)))
    np.testing.assert_array_equal(data.rows(1, 5).toarray(), dense[1:5])
    for start, stop, rows in data.blocks(0, 6, 4):
        assert rows.has_canonical_format
        np.testing.assert_array_equal(rows.toarray(), dense[start:stop])
    np.testing.assert_array_equal(data.subset(np.array([0, 3])).rows(0, 2).toarray(), dense[[0, 3]])


def test_count_data_in_other_numbers():
    counts = np.array([[1, 0], [2, 3]])
    for dtype in ("float16", ">f4", ">i8", "longdouble"):
        for where in (np.asarray, OnDisk):
            rows = CountData(where(counts.astype(dtype)), np.zeros(2), np.ones((2, 1))).rows(0, 2)
            np.testing.assert_array_equal(rows.toarray() if sp.issparse(rows) else rows, counts)
