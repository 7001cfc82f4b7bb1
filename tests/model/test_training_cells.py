"""Stored posteriors and bounds are those of the cells as they were in training: of changed cells they are inferred anew."""

import anndata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData, set_options

import scpln
from scpln.data import setup_mudata
from scpln.model import PLNPCA, setup_anndata

from .every_model import trained


def simulated():
    adata = scpln.datasets.simulate(n_obs=70, n_vars=12, n_latent=2, n_batches=2, density=0.6, seed=0)
    adata.obs["age"] = np.random.default_rng(0).normal(size=70)
    adata.obs["depth"] = np.asarray(adata.X.sum(1)).ravel() + 1.0
    adata.layers["dense"] = adata.X.toarray()
    return adata


def results(model, adata=None, indices=None):
    return np.column_stack(
        [model.get_latent_representation(adata, indices), model.get_elbo(adata, indices=indices, return_mean=False)]
    )


def replace_counts(adata):
    adata.layers["dense"] = adata.layers["dense"][::-1]


def edit_one_count(adata):
    adata.layers["dense"][5, 3] += 4


def edit_counts_but_no_total(adata):
    """Totals of cells and of genes are as before."""
    adata.layers["dense"][:2, :2] += 1
    adata.layers["dense"][:2, :2] += np.array([[3, -1], [-1, 3]])
    adata.layers["dense"][:2, 2] -= 4
    adata.layers["dense"][2, :2] -= 4
    adata.layers["dense"][2, 2] += 8


def change_a_size_factor(adata):
    adata.obs.loc[adata.obs_names[4], "depth"] *= 1 + 1e-6


def change_a_batch(adata):
    adata.obs.loc[adata.obs_names[4], "batch"] = "0" if adata.obs["batch"].iloc[4] == "1" else "1"


def change_a_covariate(adata):
    adata.obs.loc[adata.obs_names[4], "age"] += 1e-7


STORED_OR_NOT = [f"PLNPCA, {name}" for name in ("poisson", "gaussian", "meanfield", "flow", "encoder")]
STORED_OR_NOT += ["CountVAE", "CountGMVAE"]

CHANGES = [
    replace_counts,
    edit_one_count,
    edit_counts_but_no_total,
    change_a_size_factor,
    change_a_batch,
    change_a_covariate,
]


@pytest.fixture(scope="module")
def model():
    adata = simulated()
    adata.layers["dense"] += 4
    setup_anndata(adata, layer="dense", batch_key="batch", size_factor_key="depth", continuous_covariate_keys=["age"])
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    return model


@pytest.mark.parametrize("change", CHANGES)
def test_cells_that_changed_in_place_are_inferred(model, change):
    """The results are those of other data with the same content."""
    adata, before = model.adata, (model.adata.layers["dense"].copy(), model.adata.obs.copy())
    assert model._is_training_data(None)
    try:
        change(adata)
        assert not model._is_training_data(None)
        np.testing.assert_array_equal(results(model), results(model, adata.copy()))
        np.testing.assert_array_equal(results(model, indices=[5, 4, 0]), results(model, adata.copy(), [5, 4, 0]))
    finally:
        adata.layers["dense"], adata.obs = before
    assert model._is_training_data(None)


def test_cells_that_did_not_change_keep_what_is_stored(model):
    adata, before = model.adata, model.adata.layers["dense"].copy()
    stored = results(model)
    try:
        adata.layers["dense"] = np.asfortranarray(before.astype(np.float32))
        np.testing.assert_array_equal(results(model), stored)
        adata.layers["dense"][5, 3] += 4
        np.testing.assert_array_equal(results(model, indices=[4, 0]), stored[[4, 0]])
        assert not model._is_training_data(None, np.array([5]))
    finally:
        adata.layers["dense"] = before


def test_values_that_are_no_counts_any_more_are_refused(model):
    adata, before = model.adata, model.adata.layers["dense"].copy()
    try:
        adata.layers["dense"] = np.log1p(before)
        with pytest.raises(ValueError, match="must hold raw counts"):
            model.get_latent_representation()
    finally:
        adata.layers["dense"] = before


@pytest.mark.parametrize("kind", STORED_OR_NOT)
def test_every_model_gives_results_of_the_values_that_there_are(kind):
    model = trained(kind)
    adata, layer = model.adata, "log" if "gaussian" in kind else None
    before = (adata.X if layer is None else adata.layers[layer]).copy()

    def put(values):
        if layer is None:
            adata.X = values
        else:
            adata.layers[layer] = values

    stored = results(model)
    try:
        put(before[::-1])
        changed = results(model)
        np.testing.assert_array_equal(changed, results(model, adata.copy()))
        assert np.abs(changed[:, :2] - stored[:, :2]).max() > 1e-4
    finally:
        put(before)
    np.testing.assert_array_equal(results(model), stored)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_rows_in_another_order_under_one_name():
    adata = simulated()
    adata.obs_names = ["cell"] * 70
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    before, order = results(model), np.random.default_rng(0).permutation(70)
    adata._inplace_subset_obs(order)
    np.testing.assert_allclose(results(model), before[order], atol=2e-3)


def test_the_counts_of_one_modality():
    parts = simulated(), simulated()
    parts[1].var_names = [f"protein_{j}" for j in range(12)]
    with set_options(pull_on_update=False):
        mdata = MuData({"rna": parts[0], "prot": parts[1][10:].copy()})
        copy = mdata.copy()
    setup_mudata(mdata, modalities=["rna", "prot"])
    model = PLNPCA(mdata, n_latent=2)
    model.train(progress=False)
    stored = results(model)
    mdata["prot"].X = mdata["prot"].X[::-1]
    copy["prot"].X = mdata["prot"].X.copy()
    np.testing.assert_array_equal(results(model), results(model, copy))
    mdata["prot"].X = mdata["prot"].X[::-1]
    np.testing.assert_array_equal(results(model), stored)


def test_a_file_that_was_written_to(tmp_path):
    adata = simulated()
    adata.X = adata.X.toarray()
    adata.write_h5ad(tmp_path / "counts.h5ad")
    backed = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r+")
    setup_anndata(backed)
    model = PLNPCA(backed, n_latent=2)
    model.train(progress=False)
    stored = results(model)
    backed.X[3] = 7
    changed = results(model)
    assert (np.abs(changed - stored).max(1) > 0.1).nonzero()[0].tolist() == [3]
    backed.file.close()


def test_a_saved_model_knows_its_cells_by_every_count(model, tmp_path):
    model.save(tmp_path / "model")
    same = model.adata.copy()
    assert PLNPCA.load(tmp_path / "model", same)._is_training_data(None)
    edit_counts_but_no_total(same)
    np.testing.assert_array_equal(same.layers["dense"].sum(0), model.adata.layers["dense"].sum(0))
    np.testing.assert_array_equal(same.layers["dense"].sum(1), model.adata.layers["dense"].sum(1))
    assert not PLNPCA.load(tmp_path / "model", same)._is_training_data(None)


def test_a_saved_model_knows_its_cells_by_their_names(model, tmp_path):
    model.save(tmp_path / "model")
    other = model.adata.copy()
    other.obs_names = pd.Index([f"other_{i}" for i in range(70)])
    assert not PLNPCA.load(tmp_path / "model", other)._is_training_data(None)
