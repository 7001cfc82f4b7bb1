"""AnnData on disk: the same results as in memory, and the file stays as it is."""

import warnings

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from scpln.data import _rows
from scpln.model import PLNPCA

from .conftest import make_adata, train

FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda counts: counts.toarray()}

pytestmark = pytest.mark.filterwarnings("ignore:.* is stored on disk by columns")


@pytest.fixture(params=FORMS)
def path(request, tmp_path):
    """File with the counts in X."""
    adata = make_adata()
    del adata.layers["counts"]
    adata.X = FORMS[request.param](adata.X)
    adata.write_h5ad(tmp_path / "counts.h5ad")
    return tmp_path / "counts.h5ad"


@pytest.fixture
def backed(path):
    adata = anndata.read_h5ad(path, backed="r")
    yield adata
    adata.file.close()


def test_the_whole_job(backed, path, fullrank, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(_rows, "BLOCK_ENTRIES", 20 * 30)
    model = train(backed, batch_key="batch")
    np.testing.assert_allclose(model.get_elbo(), fullrank.get_elbo(), atol=1e-3)
    np.testing.assert_allclose(model.get_latent_representation(), fullrank.get_latent_representation(), atol=1e-2)
    model.annotate()
    np.testing.assert_array_equal(backed.obsm["plnpca_state"], model.get_latent_representation())
    assert backed.isbacked
    assert path.read_bytes() == before


@pytest.fixture
def model() -> PLNPCA:
    """Model trained in memory, with the counts in X."""
    return train(make_adata(), batch_key="batch")


def test_new_cells_on_disk(backed, model):
    expected = model.get_elbo(return_mean=False)
    np.testing.assert_allclose(model.get_elbo(backed, return_mean=False), expected, atol=1e-3)
    chosen = [120, 3, 120, 0]
    np.testing.assert_allclose(model.get_elbo(backed, indices=chosen, return_mean=False), expected[chosen], atol=1e-3)
    view = backed[40:60]
    np.testing.assert_allclose(model.get_elbo(view, return_mean=False), expected[40:60], atol=1e-3)
    np.testing.assert_allclose(
        model.get_normalized_expression(backed, indices=chosen),
        model.get_normalized_expression(indices=chosen),
        rtol=1e-2,
    )


def test_genes_in_another_order_on_disk(model, tmp_path):
    for name, form in FORMS.items():
        adata = make_adata()[:, ::-1].copy()
        adata.X = form(adata.X)
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
        backed = anndata.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
        assert model.get_elbo(backed) == pytest.approx(model.get_elbo(), abs=1e-3)
        chosen = [3, 1]
        again = model.get_elbo(backed, indices=chosen, return_mean=False)
        np.testing.assert_allclose(again, model.get_elbo(indices=chosen, return_mean=False), atol=1e-3)
        backed.file.close()


def test_a_layer_of_a_backed_anndata(tmp_path, fullrank):
    make_adata().write_h5ad(tmp_path / "layers.h5ad")
    backed = anndata.read_h5ad(tmp_path / "layers.h5ad", backed="r")
    assert train(backed, layer="counts", batch_key="batch").get_elbo() == pytest.approx(fullrank.get_elbo(), abs=1e-3)
    backed.file.close()


def test_bad_counts_on_disk_are_found(tmp_path):
    adata = make_adata()
    adata.X = adata.X.toarray().astype(float)
    adata.X[140, 3] = 0.5
    adata.write_h5ad(tmp_path / "bad.h5ad")
    backed = anndata.read_h5ad(tmp_path / "bad.h5ad", backed="r")
    with pytest.raises(
        ValueError, match=r"1 of its 4,500 stored values is not: 1 fractional.*cell 'cell_140', gene 'gene_3'"
    ):
        train(backed)
    backed.file.close()


def test_saving_with_data_on_disk(backed, path, tmp_path):
    model = train(backed, batch_key="batch")
    model.save(tmp_path / "model", save_anndata=True)
    assert str(backed.filename) == str(path)
    again = PLNPCA.load(tmp_path / "model")
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
    attached = PLNPCA.load(tmp_path / "model", backed)
    np.testing.assert_array_equal(attached.get_latent_representation(), model.get_latent_representation())


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_entries_that_are_stored_in_parts(tmp_path, form, dtype):
    """The bound, with log y! of whole counts, and every other result are those of the counts in memory."""
    adata = make_adata()
    adata.X = adata.X.tocsr()
    expected = train(adata)
    parts = adata.copy()
    whole = adata.X if form == "csr" else adata.X.tocsc()
    halves = np.column_stack([whole.data - whole.data // 2, whole.data // 2]).ravel().astype(dtype)
    parts.X = type(whole)((halves, np.repeat(whole.indices, 2), 2 * whole.indptr), shape=whole.shape)
    parts.write_h5ad(tmp_path / "parts.h5ad")
    backed = anndata.read_h5ad(tmp_path / "parts.h5ad", backed="r")
    model = train(backed)
    bounds = expected.get_elbo(return_mean=False)
    np.testing.assert_allclose(model.get_elbo(return_mean=False), bounds, atol=1e-3)
    np.testing.assert_allclose(expected.get_elbo(backed, return_mean=False), bounds, atol=1e-3)
    np.testing.assert_allclose(expected.get_elbo(backed, indices=[7, 3], return_mean=False), bounds[[7, 3]], atol=1e-3)
    assert (bounds <= expected.get_iw_bound(backed, n_samples=200, return_mean=False) + 0.05).all()
    backed.file.close()


@pytest.mark.filterwarnings("default:.* is stored on disk by columns")
def test_columns_on_disk_are_announced_once(tmp_path):
    adata = make_adata()
    adata.X = adata.X.tocsc()
    adata.write_h5ad(tmp_path / "columns.h5ad")
    backed = anndata.read_h5ad(tmp_path / "columns.h5ad", backed="r")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model = train(backed)
        model.annotate()
        model.get_elbo(backed, indices=[3])
    assert sum("stored on disk by columns" in str(each.message) for each in found) == 1
    backed.file.close()
