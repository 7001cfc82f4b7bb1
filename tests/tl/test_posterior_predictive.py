"""Statistics of replicated counts: against NumPy on whole draws, and against counts that come from the model."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scpln
from scpln.tl import _posterior_predictive as ppc

STATISTICS = ("mean", "variance", "zero_fraction")


@pytest.fixture(scope="module")
def model():
    adata = scpln.datasets.simulate(n_obs=150, n_vars=30, n_latent=2, seed=0)
    scpln.model.setup_anndata(adata)
    model = scpln.model.PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    return model


@pytest.fixture
def held_out():
    adata = scpln.datasets.simulate(n_obs=190, n_vars=30, n_latent=2, seed=0)
    return adata[150:].copy()


def test_models_of_several_modalities_are_refused():
    mdata = scpln.datasets.simulate_multimodal(n_obs=40, seed=0)
    names = list(mdata.mod)
    scpln.model.setup_mudata(mdata, modalities=names)
    model = scpln.model.PLNPCA(mdata, n_latent=2, likelihood=dict.fromkeys(names, "poisson"))
    model.train(max_epochs=2, progress=False)
    with pytest.raises(ValueError, match=r"model of several modalities.*posterior_predictive_sample"):
        scpln.tl.posterior_predictive(model)


def test_tally_is_what_numpy_says():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, size=(3, 20, 5))  # replicates, cells, genes
    tally = ppc.Tally(20, 5, 3)
    for cells in (np.arange(13), np.arange(13, 20)):
        replicate, row, gene = np.nonzero(counts[:, cells])
        tally.add(cells, (row, gene, replicate), counts[:, cells][replicate, row, gene])
    np.testing.assert_allclose(tally.mean, counts.mean(1))
    np.testing.assert_allclose(tally.variance, counts.var(1, ddof=1))
    np.testing.assert_allclose(tally.zero_fraction, (counts == 0).mean(1))
    np.testing.assert_array_equal(tally.library_size, counts.sum(2))


@pytest.mark.parametrize("entries", [2**23, 30 * 4 * 20])
def test_observed_statistics_and_blocks(model, held_out, entries, monkeypatch):
    monkeypatch.setattr(ppc, "_BLOCK_ENTRIES", entries)
    scpln.tl.posterior_predictive(model, held_out, n_samples=4)
    counts = held_out.X.toarray()
    expected = {"mean": counts.mean(0), "variance": counts.var(0, ddof=1), "zero_fraction": (counts == 0).mean(0)}
    for name, values in expected.items():
        np.testing.assert_allclose(held_out.var[f"plnpca_ppc_{name}_observed"], values, rtol=1e-6)
    np.testing.assert_array_equal(held_out.obs["plnpca_ppc_library_size_observed"], counts.sum(1))
    assert set(held_out.uns["plnpca"]["posterior_predictive"]) >= {"n_samples", "conditions_on", "variance_ratio"}


def test_replicates_have_the_expected_rates(model, held_out):
    scpln.tl.posterior_predictive(model, held_out, n_samples=60)
    rates = model.get_normalized_expression(held_out, library_size="latent", return_numpy=True)
    for table, name, expected in (
        (held_out.var, "mean", rates.mean(0)),
        (held_out.obs, "library_size", rates.sum(1)),
    ):
        error = table[f"plnpca_ppc_{name}_replicated_sd"] / np.sqrt(60)
        assert (abs(table[f"plnpca_ppc_{name}_replicated"] - expected) < 5 * error + 1e-3).all()


def test_replicates_differ_between_blocks(model, held_out, monkeypatch):
    """The same cell in every block gets draws of its own."""
    monkeypatch.setattr(ppc, "_BLOCK_ENTRIES", 30 * 10)
    same = held_out[np.zeros(40, dtype=int)].copy()
    same.obs_names_make_unique()
    scpln.tl.posterior_predictive(model, same, n_samples=1)
    totals = same.obs["plnpca_ppc_library_size_replicated"].to_numpy().reshape(4, 10)
    assert len(np.unique(totals, axis=0)) == 4


def test_it_finds_overdispersion_that_the_model_lacks(model, held_out):
    """Of counts with twice their values, Poisson replicates have too small a variance and too few zeros."""
    scpln.tl.posterior_predictive(model, held_out)
    fitting = held_out.uns["plnpca"]["posterior_predictive"]
    assert fitting["zero_fraction_replicated"] == pytest.approx(fitting["zero_fraction_observed"], abs=0.03)
    doubled = held_out.copy()
    doubled.X = sp.csr_matrix(2 * held_out.X)
    scpln.tl.posterior_predictive(model, doubled, seed=1)
    found = doubled.uns["plnpca"]["posterior_predictive"]
    assert found["variance_ratio"] < 0.8 * fitting["variance_ratio"]
    gap = found["zero_fraction_observed"] - found["zero_fraction_replicated"]
    assert gap > 5 * found["zero_fraction_replicated_sd"]


def test_the_seed_repeats_and_the_file_keeps_it(model, held_out, tmp_path):
    import anndata as ad

    scpln.tl.posterior_predictive(model, held_out, seed=3, key_added="check")
    first = held_out.var.copy()
    held_out.write_h5ad(tmp_path / "a.h5ad")
    scpln.tl.posterior_predictive(model, held_out, seed=3, key_added="check")
    pd.testing.assert_frame_equal(held_out.var, first)
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(again.var, first)
    assert again.uns["check"]["posterior_predictive"]["n_obs"] == 40
    scpln.tl.posterior_predictive(model, held_out, seed=4, key_added="check")
    assert not held_out.var["check_ppc_mean_replicated"].equals(first["check_ppc_mean_replicated"])


def test_results_of_the_model_stay(model):
    model.annotate()
    scpln.tl.posterior_predictive(model, n_samples=1)
    assert {"posterior_predictive", "history"} <= set(model.adata.uns["plnpca"])
    assert (model.adata.var["plnpca_ppc_mean_replicated_sd"] == 0).all()


def test_genes_that_the_model_lacks_have_none(model, held_out):
    import anndata as ad

    extra = held_out[:, :2].copy()
    extra.var_names = ["extra_0", "extra_1"]
    wider = ad.concat([extra, held_out[:, ::-1]], axis=1, merge="same")
    scpln.tl.posterior_predictive(model, wider, n_samples=2)
    scpln.tl.posterior_predictive(model, held_out, n_samples=2)
    column = wider.var["plnpca_ppc_mean_observed"]
    assert column.iloc[:2].isna().all()
    np.testing.assert_allclose(column.iloc[2:], held_out.var["plnpca_ppc_mean_observed"].iloc[::-1])


def test_what_it_cannot_check(model, held_out):
    with pytest.raises(TypeError, match=r"model must be a model of scpln\.model, not AnnData"):
        scpln.tl.posterior_predictive(held_out)
    with pytest.raises(ValueError, match=r"Run `adata = adata.copy\(\)` first"):
        scpln.tl.posterior_predictive(model, held_out[:5])
    with pytest.raises(ValueError, match="n_samples=0, but it must be a whole number of at least 1"):
        scpln.tl.posterior_predictive(model, held_out, n_samples=0)
    scpln.model.setup_anndata(held_out, is_count_data=False)
    real = scpln.model.PLNPCA(held_out, n_latent=2, likelihood="gaussian")
    with pytest.raises(RuntimeError, match="not trained"):
        scpln.tl.posterior_predictive(real)
    real.train(progress=False)
    with pytest.raises(ValueError, match=r"compares counts, and this model was set up with is_count_data=False"):
        scpln.tl.posterior_predictive(real)
