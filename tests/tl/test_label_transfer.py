"""Labels of a reference for a query in one call, the figures of their calibration, and the command that predicts."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pytest

import scpln
from scpln.cli import main

mpl.use("Agg")


def make(n=360, seed=0):
    adata = scpln.datasets.simulate(n_obs=n, n_vars=15, n_latent=2, density=0.5, seed=seed)
    adata.obs["side"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "right", "left")
    adata.obs["donor"] = np.resize(["d1", "d2", "d3"], n)
    adata.obsm["X_e"] = adata.obsm["true_latent"] + np.random.default_rng(seed).normal(scale=0.3, size=(n, 2))
    return adata[: n - 100].copy(), adata[n - 100 :].copy()


@pytest.fixture(scope="module")
def cells():
    ref, query = make()
    model = scpln.tl.label_transfer(ref, query, "side", use_rep="X_e", cv_key="donor", progress=False)
    return ref, query, model


def test_queries_are_annotated(cells):
    _, query, model = cells
    given = query.obs["label_prediction"]
    assert 0 < given.isna().sum() < 100
    known = given.notna().to_numpy()
    assert (given[known].astype(str) == query.obs["side"][known]).mean() > 0.9
    np.testing.assert_allclose(query.obsm["label_probs"], model.predict(query, soft=True))
    assert query.uns["label"]["training"]["calibration"]["cv_key"] == "donor"


def test_latent_states_are_averaged_over():
    ref, query = make()
    scpln.tl.plnpca(ref, n_latent=2, progress=False)
    scpln.model.setup_anndata(ref)
    latent = scpln.model.PLNPCA(ref, n_latent=2)
    latent.train(progress=False)
    latent.annotate(ref)
    latent.annotate(query)
    more = {"use_rep": "plnpca_state", "target_error": None, "progress": False}
    model = scpln.tl.label_transfer(ref, query, "side", latent_model=latent, **more)
    posterior = latent.get_posterior(query)
    np.testing.assert_allclose(query.obsm["label_probs"], model.predict(query, soft=True, posterior=posterior))
    assert np.abs(query.obsm["label_probs"] - model.predict(query, soft=True).to_numpy()).max() > 0.01
    assert query.obs["label_prediction"].notna().all()


def test_figures_show_the_calibration(cells):
    _, query, model = cells
    found = model.training_["calibration"]
    ax = scpln.pl.reliability(query, show=False)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        f"{name}: ECE {found[key]['ece']:.3f}" for name, key in (("before", "scores_before"), ("after", "scores"))
    ]
    np.testing.assert_allclose(ax.lines[2].get_ydata(), found["reliability"]["accuracy"])
    ax = scpln.pl.risk_coverage(query, show=False)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found["risk_coverage"]["risk"])
    assert ax.lines[1].get_ydata()[0] == 0.05
    with pytest.raises(KeyError, match="label_transfer"):
        scpln.pl.reliability(query, key="nothing", show=False)
    model = scpln.model.LabelClassifier(model.adata, use_rep="X_e")
    model.train(progress=False, calibrate=False)
    model.annotate(query, key_added="plain")
    with pytest.raises(KeyError, match="has no calibration"):
        scpln.pl.risk_coverage(query, key="plain", show=False)


def test_commands_fit_and_predict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ref, query = make()
    ref.write_h5ad("ref.h5ad")
    query.write_h5ad("query.h5ad")
    fit = ["fit", "ref.h5ad", "--model", "labelclassifier", "--labels-key", "side", "--use-rep", "X_e"]
    assert main([*fit, "--cv-key", "donor", "--target-error", "0.05", "--save-model", "m", "--out", "fit.h5ad"]) == 0
    assert main(["predict", "query.h5ad", "--load-model", "m", "--key-added", "label", "--out", "new.h5ad"]) == 0
    text = capsys.readouterr().out
    assert "LabelClassifier" in text
    new = ad.read_h5ad("new.h5ad")
    model = scpln.model.LabelClassifier.load("m", query)
    np.testing.assert_allclose(new.obsm["label_probs"], model.predict(query, soft=True), atol=1e-6)
    assert new.obs["label_prediction"].isna().any()
    strict = ["predict", "query.h5ad", "--load-model", "m", "--target-error", "0.01", "--out", "strict.h5ad"]
    assert main(strict) == 0
    stricter = ad.read_h5ad("strict.h5ad").obs["labelclassifier_prediction"]
    assert stricter.isna().sum() > new.obs["label_prediction"].isna().sum()
    assert main([*strict[:-1], "n.h5ad", "--reject", "0.1"]) == 1
    assert "--reject is for models with clusters" in capsys.readouterr().err
