"""Counts that are nearly whole, or estimates: refused with how far from whole they are, and rounded on request."""

import warnings

import anndata
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from mudata import MuData, set_options

import scpln
from scpln.cli import main
from scpln.model import PLNPCA, CountVAE, setup_anndata, setup_mudata

N, P = 60, 12
FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray, "float32": lambda x: x.astype(np.float32)}
NEARLY = {
    "times 1 + 1e-7": lambda counts: counts * (1 + 1e-7),
    "plus 1e-9": lambda counts: counts + 1e-9,
    "minus 1e-12": lambda counts: counts - 1e-12,
}

pytestmark = pytest.mark.filterwarnings("ignore:.* is stored on disk by columns", "ignore:.*have no counts")


def whole():
    adata = scpln.datasets.simulate(n_obs=N, n_vars=P, n_latent=2, density=0.7, seed=0)
    adata.X = adata.X.toarray().astype(float)
    return adata


def estimated():
    """Most values are off by less than a half, by which the nearest whole numbers are known."""
    adata = whole()
    shift = np.random.default_rng(0).uniform(-0.45, 0.45, adata.shape) * (
        np.random.default_rng(1).random(adata.shape) < 0.7
    )
    adata.X = np.maximum(adata.X + shift, 0)
    return adata


def fit(adata, model_class=PLNPCA, **arguments):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*are rounded")
        setup_anndata(adata, **arguments)
    model = model_class(adata, n_latent=2)
    model.train(progress=False, max_epochs=20)
    return model


@pytest.fixture(scope="module")
def expected():
    return fit(whole())


def bounds(model, adata=None):
    return model.get_elbo(adata, return_mean=False)


@pytest.mark.parametrize("change", NEARLY)
def test_nearly_whole_counts(change, expected):
    adata = whole()
    adata.X = NEARLY[change](adata.X)
    with pytest.raises(
        ValueError,
        match=r"All are within \S+e-\d+ of a whole number.*`setup_anndata\(..., round_counts=True\)` rounds them",
    ):
        setup_anndata(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        setup_anndata(adata, round_counts=True)
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False, max_epochs=20)
    np.testing.assert_array_equal(bounds(model), bounds(expected))


def test_the_value_is_shown_with_the_digits_that_matter():
    adata = whole()
    adata.X[4, 2] = 3 * (1 + 1e-7)
    with pytest.raises(
        ValueError, match=r"The first is 3.0000003, in cell 'cell_4', gene 'gene_2'. All are within 3e-07"
    ):
        setup_anndata(adata)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_estimated_counts_become_the_nearest(form, where, expected, tmp_path):
    adata = estimated()
    before = FORMS[form](adata.X)
    adata.X = before.copy()
    if where == "disk":
        adata.write_h5ad(tmp_path / "estimates.h5ad")
        adata = anndata.read_h5ad(tmp_path / "estimates.h5ad", backed="r")
    model = fit(adata, round_counts=True)
    np.testing.assert_allclose(bounds(model), bounds(expected), atol=1e-3)
    np.testing.assert_allclose(bounds(model, adata[5:9]), bounds(expected)[5:9], atol=1e-3)
    if where == "memory":
        assert abs(adata.X - before).sum() == 0, "the data stay as they are"
    else:
        adata.file.close()


def test_autoencoders_read_the_same(expected):
    data = fit(estimated(), CountVAE, round_counts=True)._read(None).data
    np.testing.assert_array_equal(data.counts, whole().X)
    np.testing.assert_array_equal(data.offsets, expected._read(None).data.offsets)


def test_what_rounding_changes_is_said():
    adata = estimated()
    changed, total = int((np.rint(adata.X) != adata.X).sum()), adata.X.sum()
    with pytest.warns(UserWarning, match="round_counts=True") as record:
        setup_anndata(adata, round_counts=True)
    said = str(record[0].message)
    assert f"{changed} of the {N * P} stored values in adata.X are not whole" in said
    assert f"by up to {np.abs(adata.X - np.rint(adata.X)).max():.2g}" in said
    assert f"from {total:,.1f} to {np.rint(adata.X).sum():,.0f}" in said
    assert record[0].filename == __file__


def test_it_is_saved_and_holds_for_new_cells(tmp_path, expected):
    model = fit(estimated(), round_counts=True)
    model.save(tmp_path / "model")
    again = PLNPCA.load(tmp_path / "model", estimated())
    assert again._is_training_data(None)
    assert "round_counts=True" in repr(again)
    np.testing.assert_array_equal(bounds(again), bounds(model))
    np.testing.assert_allclose(bounds(again, whole()), bounds(expected), atol=1e-3)
    mapped = PLNPCA.load_query_data(estimated()[:20].copy(), model)
    np.testing.assert_allclose(bounds(mapped), bounds(expected)[:20], atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda adata: sc.pp.normalize_total(adata, target_sum=1e4),
            "it looks normalised.*round_counts=True is refused",
        ),
        (sc.pp.log1p, "it looks log-normalised.*round_counts=True is refused"),
        (lambda adata: sc.pp.scale(adata), "must hold counts .numbers, 0 or more.*It looks scaled or centred"),
        (lambda adata: adata.X.__setitem__((3, 2), np.nan), "must hold counts .*1 NaN.*cell 'cell_3', gene 'gene_2'"),
        (lambda adata: adata.X.__setitem__((3, 2), -0.6), "must hold counts .*1 negative.*The first is -0.6"),
    ],
)
def test_what_is_no_estimate_is_refused(make, message):
    adata = whole()
    adata.X += 1
    make(adata)
    with pytest.raises(ValueError, match=message):
        setup_anndata(adata, round_counts=True)


def test_reads_that_are_shared_by_two_or_three_genes_are_estimates():
    """Halves and thirds are multiples of a cell's smallest value, as in normalised data; but most values are whole."""
    adata = whole()
    adata.X[:, :3] += np.array([1 / 2, 1 / 3, 2 / 3])
    with pytest.raises(ValueError, match="If they are estimated counts"):
        setup_anndata(adata)
    with pytest.warns(UserWarning, match="are rounded"):
        setup_anndata(adata, round_counts=True)


def test_new_data_that_are_normalised_are_refused():
    model = fit(estimated(), round_counts=True)
    other = whole()
    sc.pp.normalize_total(other, target_sum=1e4)
    sc.pp.log1p(other)
    with pytest.raises(ValueError, match="it looks log-normalised"):
        model.get_elbo(other)


def test_modalities(expected):
    adata, proteins = estimated(), estimated()
    proteins.var_names = [f"protein_{j}" for j in range(P)]
    with set_options(pull_on_update=False):
        mdata = MuData({"rna": adata, "prot": proteins[5:].copy()})
    with pytest.warns(UserWarning, match=r"stored values in mdata\['prot'\].X are not whole, and are rounded"):
        setup_mudata(mdata, modalities=["rna", "prot"], round_counts=True)
    counts = PLNPCA(mdata, n_latent=2)._read(None).data.counts.toarray()
    np.testing.assert_array_equal(counts[:, :P], np.rint(adata.X))
    np.testing.assert_array_equal(counts[5:, P:], np.rint(adata.X)[5:])


@pytest.mark.filterwarnings("ignore:.*are rounded")
def test_one_call_and_command_line(tmp_path, expected):
    adata = estimated()
    scpln.tl.plnpca(adata, n_latent=2, round_counts=True, max_epochs=20, progress=False)
    np.testing.assert_allclose(adata.obs["plnpca_elbo"], bounds(expected), atol=1e-3)
    estimated().write_h5ad(tmp_path / "in.h5ad")
    options = ["--n-latent", "2", "--max-epochs", "20", "--out", str(tmp_path / "out.h5ad")]
    assert main(["fit", str(tmp_path / "in.h5ad"), *options]) == 1
    assert main(["fit", str(tmp_path / "in.h5ad"), "--round-counts", *options]) == 0
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_allclose(written.obs["plnpca_elbo"], bounds(expected), atol=1e-3)
    assert written.uns["plnpca"]["setup"]["round_counts"]


def test_arguments():
    with pytest.raises(TypeError, match="round_counts='yes', but it must be True or False"):
        setup_anndata(whole(), round_counts="yes")
    with pytest.raises(ValueError, match="round_counts=True rounds counts, and is_count_data=False says"):
        setup_anndata(whole(), round_counts=True, is_count_data=False)
