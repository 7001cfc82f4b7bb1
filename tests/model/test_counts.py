"""Every entry is checked, and the message says what, where and what to do."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scpln.data import _rows
from scpln.data.counts import check_counts
from scpln.model import PLNPCA, setup_anndata

from .conftest import MATRICES

N, P = 60, 20


def make(counts) -> AnnData:
    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(N)])
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene_{j}" for j in range(P)]))


@pytest.fixture
def counts() -> np.ndarray:
    return 1 + np.random.default_rng(0).poisson(3, size=(N, P)).astype(float)


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Rows read at once, and three at a time."""
    if request.param == "many blocks":
        monkeypatch.setattr(_rows, "BLOCK_ENTRIES", 3 * P)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.asarray])
@pytest.mark.parametrize(
    ("value", "kind"),
    [(0.5, "fractional"), (np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite"), (-2, "negative")],
)
def test_one_bad_value_anywhere_is_found(counts, form, value, kind):
    for cell, gene in [(0, 0), (N - 1, P - 1), (31, 7)]:
        bad = counts.copy()
        bad[cell, gene] = value
        with pytest.raises(
            ValueError,
            match=f"1 of its {N * P:,} stored values is not: 1 {kind}.*cell 'cell_{cell}', gene 'gene_{gene}'",
        ):
            setup_anndata(make(form(bad)))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("form", [sp.csr_matrix, np.asarray])
def test_bad_values_are_counted_by_kind_and_the_first_is_shown(counts, form):
    counts[5, 3], counts[5, 9], counts[40, 0], counts[41, 0] = -1, np.nan, 0.25, -np.inf
    with pytest.raises(
        ValueError,
        match=r"adata.X must hold raw counts .* 4 of its 1,200 stored values are not: "
        r"1 NaN, 1 infinite, 1 negative, 1 fractional. The first is -1, in cell 'cell_5', gene 'gene_3'",
    ):
        setup_anndata(make(form(counts)))


def test_the_layer_is_named(counts):
    adata = make(counts)
    adata.layers["raw"] = counts - 5
    with pytest.raises(ValueError, match=r"adata.layers\['raw'\] must hold raw counts"):
        setup_anndata(adata, layer="raw")


def test_negative_integers_are_found(counts):
    counts = counts.astype(np.int64)
    counts[4, 4] = -3
    with pytest.raises(
        ValueError, match=r"1 negative. The first is -3, in cell 'cell_4', gene 'gene_4'.*put the counts"
    ):
        setup_anndata(make(sp.csr_matrix(counts)))


class TestDiagnosis:
    """What is likely to have happened is said, with the remedy."""

    def test_log_normalised(self, counts):
        adata = make(counts)
        adata.layers["umi"] = counts.copy()
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        with pytest.raises(ValueError, match=r"looks log-normalised.* pass one of the layers as layer=, \['umi'\]"):
            setup_anndata(adata)

    def test_log_normalised_before_genes_were_selected(self, counts):
        adata = make(sp.csr_matrix(counts))
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
        with pytest.raises(ValueError, match=r"looks log-normalised.*adata has no layers, so load them again"):
            setup_anndata(adata[:, :8].copy())

    def test_counts_in_raw(self, counts):
        adata = make(counts)
        adata.raw = adata.copy()
        sc.pp.log1p(adata)
        with pytest.raises(
            ValueError, match=r"looks log-normalised.*adata.layers\['counts'\] = adata.raw\[:, adata.var_names\].X"
        ):
            setup_anndata(adata)
        adata.layers["counts"] = adata.raw[:, adata.var_names].X
        setup_anndata(adata, layer="counts")

    def test_normalised(self, counts):
        adata = make(counts)
        sc.pp.normalize_total(adata, target_sum=1e4)
        with pytest.raises(ValueError, match="It looks normalised"):
            setup_anndata(adata)

    def test_scaled(self, counts):
        adata = make((counts - counts.mean(0)) / counts.std(0))
        with pytest.raises(
            ValueError,
            match=r"It looks scaled or centred.*setup_anndata\(adata, \.\.\., is_count_data=False\)`, for likelihood='gaussian'",
        ):
            setup_anndata(adata)
        setup_anndata(adata, is_count_data=False)

    def test_square_root(self, counts):
        with pytest.raises(ValueError, match="It looks transformed, as by a logarithm or a root"):
            setup_anndata(make(np.sqrt(counts)))

    @pytest.mark.parametrize("form", [sp.csr_matrix, np.asarray])
    def test_estimated_counts_are_to_be_rounded(self, counts, form):
        adata = make(form(counts * np.random.default_rng(1).uniform(0.7, 1.3, counts.shape) * 10))
        with pytest.raises(
            ValueError,
            match=r"The farthest is 0.5 from a whole number. If they are estimated counts.*`setup_anndata\(..., round_counts=True\)`",
        ):
            setup_anndata(adata)
        with pytest.warns(UserWarning, match="are not whole, and are rounded"):
            setup_anndata(adata, round_counts=True)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("form", MATRICES.values(), ids=MATRICES)
def test_totals_are_sums(counts, form):
    matrix = form(sp.csr_matrix(counts.astype(np.int32)))
    rows = _rows.as_rows(matrix, "adata.X")
    assert not sp.issparse(rows) or (rows.format == "csr" and rows.has_canonical_format and rows.nnz == N * P)
    names = pd.Index(map(str, range(N)))
    totals = check_counts(rows, where="adata.X", obs_names=names, var_names=[str(j) for j in range(P)])
    np.testing.assert_array_equal(totals.cells, counts.sum(1))
    np.testing.assert_array_equal(totals.genes, counts.sum(0))


def test_cells_and_genes_without_counts_are_kept_with_a_warning(counts):
    counts[:3] = 0
    counts[:, :2] = 0
    with pytest.warns(UserWarning, match="have no counts") as record:
        setup_anndata(make(sp.csr_matrix(counts)))
    cells, genes = record
    assert "3 of 60 cells in adata.X have no counts" in str(cells.message)
    assert "sc.pp.filter_cells(adata, min_counts=1)" in str(cells.message)
    assert "2 of 20 genes in adata.X have no counts" in str(genes.message)
    assert cells.filename == genes.filename == __file__


@pytest.mark.parametrize("form", [sp.csr_matrix, np.asarray])
def test_counts_changed_after_setup_are_noticed(counts, form):
    adata = make(form(counts))
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1)
    sc.pp.normalize_total(adata, target_sum=50)
    with pytest.raises(ValueError, match="must hold raw counts"):
        model.train(progress=False)


def test_layers_that_are_not_there(counts):
    adata = make(counts)
    with pytest.raises(
        ValueError, match=r"adata.layers has no 'counts'. For the values to model, pass layer=None for adata.X"
    ):
        setup_anndata(adata, layer="counts")
    adata.layers["raw_counts"] = counts
    with pytest.raises(ValueError, match=r"no 'raw_count'. Did you mean 'raw_counts'\?"):
        setup_anndata(adata, layer="raw_count")
    with pytest.raises(
        ValueError, match=r"adata.X is empty \(None\). Say where the values to model are: pass one of the layers"
    ):
        setup_anndata(AnnData(obs=adata.obs, var=adata.var, layers={"raw_counts": counts}))


def test_matrices_that_cannot_be_read():
    with pytest.raises(TypeError, match=r"adata.X has dtype object, which cannot hold counts"):
        setup_anndata(make(np.full((N, P), 1, dtype=object)))
    with pytest.raises(TypeError, match=r"adata.X is a builtins.list, which scpln cannot read.*adata.to_memory\(\)"):
        _rows.as_rows([[1, 2]], "adata.X")


def test_columns_on_disk_are_loaded_with_a_warning(counts, tmp_path):
    make(sp.csc_matrix(counts)).write_h5ad(tmp_path / "columns.h5ad")
    with pytest.warns(UserWarning, match="stored on disk by columns"):
        setup_anndata(anndata.read_h5ad(tmp_path / "columns.h5ad", backed="r"))


def test_masked_values_are_not_read_past_their_mask(counts):
    """Whether anndata keeps the mask or drops it, no masked value becomes a count without a word."""
    masked = np.ma.array(counts, mask=counts == counts.max())
    adata = make(counts)
    adata.layers["masked"] = masked
    adata.layers._data["masked"] = masked
    with pytest.raises(
        ValueError, match=r"values in adata.layers\['masked'\] are masked, and a count is never missing"
    ):
        setup_anndata(adata, layer="masked")


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix])
def test_parts_of_an_entry_that_overflow_their_type(counts, form):
    """200 + 100 is 44 in 8 bits."""
    whole = form((counts + 290).astype(np.int64))
    parts = np.column_stack([np.full(whole.nnz, 200), whole.data - 200]).ravel().astype(np.uint8)
    adata = make(form((parts, np.repeat(whole.indices, 2), 2 * whole.indptr), shape=whole.shape))
    setup_anndata(adata)
    read = PLNPCA(adata, n_latent=1)._read(None)
    np.testing.assert_array_equal(read.data.counts.toarray(), counts + 290)
    np.testing.assert_array_equal(read.totals.cells, (counts + 290).sum(1))


@pytest.mark.parametrize("dtype", ["float16", ">f4", ">i4", "longdouble", "bool"])
def test_numbers_of_other_types_train(counts, dtype):
    counts = np.minimum(counts, 1) if dtype == "bool" else counts
    bounds = []
    for given in (counts, counts.astype(dtype)):
        adata = make(given)
        setup_anndata(adata)
        model = PLNPCA(adata, n_latent=1)
        model.train(progress=False, max_epochs=5)
        bounds.append(model.get_elbo(adata[3:9], return_mean=False))
    np.testing.assert_allclose(*bounds, atol=1e-6)
