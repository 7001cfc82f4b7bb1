import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from scpln.datasets import pbmc68k_reduced
from scpln.datasets._pbmc68k import counts_from_log_normalized


@pytest.fixture(scope="module")
def adata():
    return pbmc68k_reduced()


def test_counts_reproduce_the_bundled_values(adata):
    bundled = sc.datasets.pbmc68k_reduced().raw.X.toarray()
    counts = adata.layers["counts"].toarray().astype(np.float64)
    depth = adata.obs["n_counts"].to_numpy()[:, None]
    assert np.abs(np.log1p(counts * 1e4 / depth) - bundled).max() < 5.1e-4


def test_no_neighbouring_count_would_do(adata):
    """The counts are determined: one more or one less misses the bundled value by far more than its rounding."""
    counts = adata.layers["counts"]
    largest = counts.data.max()
    depth = adata.obs["n_counts"].to_numpy().max()
    assert np.log1p((largest + 1) * 1e4 / depth) - np.log1p(largest * 1e4 / depth) > 2 * 5.1e-4


def test_what_it_holds(adata):
    assert adata.shape == (700, 765)
    counts = adata.layers["counts"]
    assert counts.dtype == np.int32
    assert counts.data.min() >= 1
    assert {"bulk_labels", "louvain", "n_counts"} <= set(adata.obs)
    assert adata.obs["bulk_labels"].nunique() == 10
    assert (np.asarray(counts.sum(1)).ravel() < adata.obs["n_counts"]).all()


def test_each_call_returns_its_own_data(adata):
    other = pbmc68k_reduced()
    other.layers["counts"].data[:] = 0
    assert adata.layers["counts"].data.any()


def test_values_of_another_depth_are_refused():
    values = sp.csr_matrix(np.log1p(np.array([[3.0, 1.0, 7.0]]) * 1e4 / 2000).round(3))
    with pytest.raises(ValueError, match="depths that the values were normalised with"):
        counts_from_log_normalized(values, np.array([1234.0]))
