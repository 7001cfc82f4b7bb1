"""Real values in place of counts: any finite numbers, in any matrix, without size factors."""

import json
import logging
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scpln.data import _rows
from scpln.data.counts import check_real
from scpln.model import PLNPCA, setup_anndata

from .conftest import MATRICES, make_adata

N, P = 60, 20

REAL_MATRICES = {name: MATRICES[name] for name in MATRICES if name not in {"int64", "uint16", "split entries"}}


@pytest.fixture
def values() -> np.ndarray:
    """Numbers of both signs that float32 holds exactly, half of them 0, of which some are negative zeros."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(N, P)) * (rng.random((N, P)) < 0.5)
    return values.astype(np.float32).astype(float)


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Rows read at once, and three at a time."""
    if request.param == "many blocks":
        monkeypatch.setattr(_rows, "BLOCK_ENTRIES", 3 * P)


def make(matrix) -> AnnData:
    obs = pd.DataFrame({"depth": np.exp(np.linspace(-1, 3, N))}, index=[f"cell_{i}" for i in range(N)])
    return AnnData(obs=obs, var=pd.DataFrame(index=[f"gene_{j}" for j in range(P)]), layers={"z": matrix})


def gaussian(adata: AnnData, **keys) -> PLNPCA:
    setup_anndata(adata, layer="z", is_count_data=False, **keys)
    return PLNPCA(adata, n_latent=2, likelihood="gaussian")


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("form", REAL_MATRICES.values(), ids=REAL_MATRICES)
def test_values_are_read_as_they_are(values, form):
    cells = gaussian(make(form(sp.csr_matrix(values))))._read(None)
    assert cells.data.counts.dtype.kind == "f"
    np.testing.assert_array_equal(dense(cells.data.counts), values)
    np.testing.assert_array_equal(cells.data.offsets, np.zeros(N))
    assert cells.fingerprint() == gaussian(make(values))._read(None).fingerprint()


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("form", MATRICES.values(), ids=MATRICES)
def test_whole_numbers_are_real_numbers(form):
    counts = np.random.default_rng(0).poisson(1, (N, P)).astype(np.int32)
    cells = gaussian(make(form(sp.csr_matrix(counts))))._read(None)
    np.testing.assert_array_equal(dense(cells.data.counts), counts)
    assert cells.fingerprint() == gaussian(make(counts.astype(float)))._read(None).fingerprint()


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.asarray])
@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_one_bad_value_anywhere_is_found(values, form, value, kind):
    values[values == 0] = 1
    for cell, gene in [(0, 0), (N - 1, P - 1), (31, 7)]:
        bad = values.copy()
        bad[cell, gene] = value
        with pytest.raises(
            ValueError,
            match=rf"adata.layers\['z'\] must hold finite numbers \(is_count_data=False\), but 1 of its {N * P:,} stored "
            rf"values is not: 1 {kind}. The first is {value:g}, in cell 'cell_{cell}', gene 'gene_{gene}'.*np.log1p",
        ):
            gaussian(make(form(bad)))


def test_bad_values_are_counted_by_kind(values):
    values[5, 3], values[5, 9], values[40, 0] = -np.inf, np.nan, np.nan
    with pytest.raises(ValueError, match=r"3 of its 1,200 stored values are not: 2 NaN, 1 infinite. The first is -inf"):
        gaussian(make(values))


@pytest.mark.parametrize("value", [1e50, np.finfo(float).tiny, -1e50])
def test_extreme_values_are_summed_without_overflow(values, value):
    values[:] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sums = check_real(values, where="X", obs_names=pd.RangeIndex(N), var_names=[*map(str, range(P))])
    assert sums.checksums.shape == (N,)
    assert len(set(sums.checksums)) == 1


def test_nothing_is_said_about_cells_and_genes_of_zeros(values):
    values[3], values[:, 4] = 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gaussian(make(sp.csr_matrix(values)))


def test_what_was_registered_is_logged(values, caplog):
    with caplog.at_level(logging.INFO, logger="scpln"):
        gaussian(make(values))
    assert "60 cells × 20 genes: real values in adata.layers['z'], design with 1 columns" in caplog.text


def test_size_factors_become_additive_offsets(values):
    adata = make(values)
    model = gaussian(adata, size_factor_key="depth")
    logs = np.log(adata.obs["depth"].to_numpy())
    np.testing.assert_allclose(model._read(None).data.offsets, logs - logs.mean(), atol=1e-12)
    few = adata[[3, 50]].copy()
    np.testing.assert_allclose(model._read(few).data.offsets, logs[[3, 50]] - logs.mean(), atol=1e-12)


def test_data_loaders_give_real_numbers(values):
    adata = make(sp.csr_matrix(values))
    tensors = next(iter(gaussian(adata)._make_data_loader(adata, batch_size=N)))
    np.testing.assert_array_equal(tensors["X"], values)
    np.testing.assert_array_equal(tensors["log_size_factor"], np.zeros((N, 1)))


class TestFingerprint:
    """Cells are recognised by their values, however these are stored."""

    @pytest.fixture
    def centred(self, values) -> np.ndarray:
        """Values whose sums over cells, and nearly over genes, are nothing but rounding error."""
        values = values - values.mean(1, keepdims=True)
        return values - values.mean(0)

    @pytest.mark.usefixtures("blocks")
    @pytest.mark.parametrize("name", sorted(REAL_MATRICES.keys() - {"float32"}))
    def test_order_of_genes_and_format_do_not_matter(self, centred, name):
        model, other = gaussian(make(centred)), make(REAL_MATRICES[name](sp.csr_matrix(centred)))
        for same in (other, other[:, ::-1], other[:, ::-1].copy()):
            assert model._read(same).fingerprint() == model._read(None).fingerprint()

    def test_signs_of_zeros_do_not_matter(self, values):
        assert (np.signbit(values) & (values == 0)).any()
        model = gaussian(make(values))
        assert model._read(make(np.abs(values) * np.sign(values))).fingerprint() == model._read(None).fingerprint()

    def test_every_value_matters(self, centred):
        model = gaussian(make(centred))
        fingerprints = {model._read(None).fingerprint()}
        for changed in range(3):
            other = centred.copy()
            other[7, changed] = np.nextafter(other[7, changed], 9)
            fingerprints.add(model._read(make(other)).fingerprint())
        swapped = centred.copy()
        swapped[7, [0, 1]] = centred[7, [1, 0]]
        fingerprints.add(model._read(make(swapped)).fingerprint())
        assert len(fingerprints) == 5

    def test_counts_are_recognised_by_models_saved_before(self):
        """The digest that version 0.1 saved for these cells, before there were real values."""
        obs, var = pd.DataFrame(index=list("abcd")), pd.DataFrame(index=list("xyz"))
        adata = AnnData(np.arange(12.0).reshape(4, 3), obs=obs, var=var)
        setup_anndata(adata)
        cells = PLNPCA(adata, n_latent=1)._read(None)
        assert cells.has_fingerprint("d118f6e3553d33a06842d717ad6ad6d19b41f12c739f49b361061f851f618788")
        adata.X[0, 0] += 1
        assert not PLNPCA(adata, n_latent=1)._read(None).has_fingerprint(cells._earlier_fingerprint(cells.totals))


class TestNewData:
    """Other cells are read and checked the same way."""

    def test_genes_are_matched_by_name(self, values):
        model = gaussian(make(values))
        other = make(sp.csc_matrix(values))[10:20, ::-1]
        cells = model._read(other, np.array([7, 3]))
        np.testing.assert_array_equal(dense(cells.data.counts), values[[17, 13]])
        np.testing.assert_array_equal(cells.data.offsets, [0, 0])

    def test_bad_values_are_found(self, values):
        model = gaussian(make(values))
        values[8, 2] = np.nan
        with pytest.raises(ValueError, match=r"must hold finite numbers.*cell 'cell_8', gene 'gene_2'"):
            model._read(make(values))
        with pytest.raises(ValueError, match=r"must hold finite numbers.*cell 'cell_8', gene 'gene_2'"):
            model.adata = make(values)

    def test_values_changed_after_setup_are_noticed(self, values):
        adata = make(values)
        model = gaussian(adata)
        adata.layers["z"][1, 1] = np.inf
        with pytest.raises(ValueError, match=r"1 infinite.*cell 'cell_1', gene 'gene_1'"):
            model.train(progress=False)

    @pytest.mark.filterwarnings("ignore:.* is stored on disk by columns")
    @pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
    def test_data_on_disk(self, values, form, tmp_path, monkeypatch):
        monkeypatch.setattr(_rows, "BLOCK_ENTRIES", 7 * P)
        adata = AnnData(form(values), obs=make(values).obs, var=make(values).var)
        setup_anndata(adata, is_count_data=False)
        model = PLNPCA(adata, n_latent=2, likelihood="gaussian")
        adata[:, ::-1].copy().write_h5ad(tmp_path / "z.h5ad")
        backed = anndata.read_h5ad(tmp_path / "z.h5ad", backed="r")
        cells = model._read(backed)
        assert cells.fingerprint() == model._read(None).fingerprint()
        np.testing.assert_array_equal(dense(cells.data.counts[0:N]), values)
        np.testing.assert_array_equal(dense(model._read(backed, np.array([9, 2])).data.counts), values[[9, 2]])
        setup_anndata(backed, is_count_data=False)
        assert not PLNPCA(backed, n_latent=2, likelihood="gaussian").is_count_data
        backed.file.close()


class TestRegistry:
    """What is kept of the choice."""

    def test_the_model_says_which(self, values, adata):
        model = gaussian(make(values))
        assert model.is_count_data is False
        assert "adata.layers['z'], is_count_data=False\n" in repr(model)
        setup_anndata(adata)
        model = PLNPCA(adata, n_latent=2)
        assert model.is_count_data is True
        assert "is_count_data" not in repr(model)

    def test_registrations_of_counts_are_as_before_there_was_a_choice(self, adata):
        setup_anndata(adata, is_count_data=True)
        assert "is_count_data" not in PLNPCA(adata, n_latent=2).registry["setup_args"]

    def test_the_class_method_is_the_same(self, values):
        adata = make(values)
        PLNPCA.setup_anndata(adata, layer="z", is_count_data=np.bool_(False))
        assert not PLNPCA(adata, n_latent=2, likelihood="gaussian").is_count_data

    def test_setting_up_again_replaces(self, adata):
        adata.layers["z"] = np.log1p(adata.X.toarray())
        assert not gaussian(adata).is_count_data
        setup_anndata(adata)
        assert PLNPCA(adata, n_latent=2).is_count_data

    @pytest.mark.parametrize("wrong", ["False", None, 0])
    def test_other_answers_are_refused(self, adata, wrong):
        with pytest.raises(TypeError, match=rf"is_count_data={wrong!r}, but it must be True \(raw counts\) or False"):
            setup_anndata(adata, is_count_data=wrong)

    def test_it_is_saved(self, values, tmp_path):
        adata = make(sp.csr_matrix(values))
        model = gaussian(adata, size_factor_key="depth")
        model.save(tmp_path / "model", save_anndata=True)
        document = json.loads((tmp_path / "model" / "model.json").read_text())
        assert document["model"]["registry"]["setup_args"]["is_count_data"] is False
        for again in (
            PLNPCA.load(tmp_path / "model"),
            PLNPCA.load(tmp_path / "model", adata[:, ::-1].copy()),
        ):
            assert not again.is_count_data
            assert repr(again) == repr(model)
            assert again._read(None).fingerprint() == model._read(None).fingerprint()
        assert not PLNPCA.load(tmp_path / "model", adata=False).is_count_data


def test_a_trained_model_recognises_its_cells(tmp_path):
    adata = make_adata()
    adata.layers["z"] = np.log1p(adata.X.toarray())
    adata.layers["z"] -= adata.layers["z"].mean(0)
    model = gaussian(adata, batch_key="batch")
    model.train(progress=False)
    model.annotate()
    assert adata.uns["plnpca"]["setup"] == {"layer": "z", "batch_key": "batch", "is_count_data": False}
    model.save(tmp_path / "model", save_anndata=True)
    again = PLNPCA.load(tmp_path / "model")
    assert again._is_training_data(None)
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
    reordered = PLNPCA.load(tmp_path / "model", adata[:, ::-1].copy())
    np.testing.assert_array_equal(reordered.get_latent_representation(), model.get_latent_representation())
