"""Labels and values of cells from an embedding or counts: what is read, predicted, calibrated, refused, written and saved."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scpln
from scpln.model import PLNPCA, LabelClassifier, LabelRegressor, setup_anndata
from scpln.utils import keywords

from .test_arguments import refused, wrong_for


def make(n=300, seed=0, types=("a", "b", "c")):
    """Counts, an embedding in which types overlap, donors, and values that depend on it."""
    rng = np.random.default_rng(seed)
    adata = scpln.datasets.simulate(n_obs=n, n_vars=12, n_latent=2, density=0.6, seed=seed)
    number = rng.integers(len(types), size=n)
    adata.obs["type"] = np.array(types, dtype=object)[number]
    centres = np.array([[0.0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]])[: len(types)]
    adata.obsm["X_e"] = centres[number] + rng.normal(size=(n, 3))
    adata.obs["age"] = 40 + 8 * adata.obsm["X_e"][:, 0] + rng.normal(scale=5, size=n)
    adata.obs["donor"] = rng.choice(["d1", "d2", "d3"], n)
    return adata


def trained(adata, labels_key="type", **options):
    setup_anndata(adata, labels_key=labels_key)
    model = LabelClassifier(adata, use_rep="X_e")
    model.train(progress=False, **options)
    return model


@pytest.fixture(scope="module")
def adata():
    return make()


@pytest.fixture(scope="module")
def model(adata):
    return trained(adata)


def test_new_cells_get_calibrated_labels(model):
    new = make(n=2000, seed=1)
    scores = scpln.tl.evaluate(model, new).summary
    best = np.array(["a", "b", "c"])[
        ((new.obsm["X_e"][:, None] - [[0.0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]]) ** 2).sum(2).argmin(1)
    ]
    assert scores["accuracy"] > (best == new.obs["type"]).mean() - 0.02
    assert scores["ece"] < 0.05
    probabilities = model.predict(new, soft=True)
    assert probabilities.columns.to_list() == ["a", "b", "c"]
    np.testing.assert_allclose(probabilities.sum(1), 1)
    codes = pd.Categorical(new.obs["type"]).codes
    assert scores["log_score"] == pytest.approx(np.log(probabilities.to_numpy()[np.arange(2000), codes]).mean())


def test_abstention_and_sets_hold_for_new_cells(model):
    new = make(n=4000, seed=2)
    labels = model.predict(new, target_error=0.05)
    named = pd.notna(labels)
    assert 0.3 < named.mean() < 1
    assert (labels[named] != new.obs["type"].to_numpy()[named]).mean() < 0.07
    sets = model.predict_sets(new, error=0.1)
    held = sets.to_numpy()[np.arange(4000), pd.Categorical(new.obs["type"]).codes].mean()
    assert 0.86 < held < 0.94
    assert (model.predict_sets(new, error=0.05, by_class=True).sum(1) >= 1).all()


def test_cells_that_are_no_type_are_far(model):
    new = make(n=200, seed=3)
    known = model.get_label_uncertainty(new)
    new.obsm["X_e"] = new.obsm["X_e"] + [0, 0, 12]
    far = model.get_label_uncertainty(new)
    assert (far["novelty"] > 1).all()
    assert (known["novelty"] <= 1).mean() > 0.95
    assert far["mutual_information"].mean() > 2 * known["mutual_information"].mean()
    np.testing.assert_allclose(known["entropy"], known["expected_entropy"] + known["mutual_information"], atol=1e-3)


def test_calibration_is_told_before_and_after(model):
    found = model.training_["calibration"]
    assert found["n_cells"] == 300
    assert found["scores"]["log_score"] >= found["scores_before"]["log_score"] - 1e-6
    assert sum(found["reliability"]["n_cells"]) == 300
    assert found["risk_coverage"]["coverage"][-1] == 1
    assert found["risk_coverage"]["risk"][-1] == pytest.approx(1 - found["scores"]["accuracy"])


def test_donors_and_other_cells_calibrate(adata):
    model = trained(adata.copy(), cv_key="donor", target_error=0.1)
    assert model.training_["calibration"]["cv_key"] == "donor"
    first = model.training_["calibration"]["threshold"]
    model.calibrate(make(n=500, seed=4), target_error=0.1)
    found = model.training_["calibration"]
    assert found["held_out"] == "other cells"
    assert found["n_cells"] == 500
    assert found["threshold"] != first
    with pytest.raises(ValueError, match="cv_key= is for cells of training"):
        model.calibrate(make(), cv_key="donor")


def test_predictions_do_not_depend_on_the_order_of_cells(adata, model):
    rows = np.random.default_rng(0).permutation(300)
    shuffled = adata[rows].copy()
    np.testing.assert_allclose(
        model.predict(shuffled, soft=True).to_numpy(), model.predict(soft=True).to_numpy()[rows], atol=1e-6
    )
    again = trained(shuffled, calibrate=False)
    np.testing.assert_allclose(again.module.array("mean"), model.module.array("mean"), atol=1e-3)
    assert again.training_["elbo"] == pytest.approx(model.training_["elbo"], abs=1e-5)


def test_labels_keep_their_type_and_missing_ones_have_no_part(adata):
    some = adata.copy()
    some.obs["number"] = some.obs["type"].map({"a": 3, "b": 1, "c": 2})
    assert set(trained(some, "number", calibrate=False).predict()) == {1, 2, 3}
    some.obs["known"] = some.obs["type"].where(np.arange(300) < 200)
    model = trained(some, "known", calibrate=False)
    assert model.training_["n_labelled"] == 200
    assert len(model.predict()) == 300
    alone = trained(some[:200].copy(), "known", calibrate=False)
    np.testing.assert_allclose(alone.module.array("mean"), model.module.array("mean"), atol=1e-6)


@pytest.mark.filterwarnings("ignore:adata.obs")
def test_unknown_labels_do_not_count(model):
    new = make(n=60, seed=5)
    new.obs.loc[new.obs["type"] == "c", "type"] = "z"
    scores = scpln.tl.evaluate(model, new)
    assert scores["n_cells"] == 60
    assert f"{(new.obs['type'] != 'z').sum()} cells" in scores.notes["accuracy"]
    new.obs["type"] = "z"
    assert "accuracy" not in scpln.tl.evaluate(model, new).summary
    with pytest.raises(ValueError, match="No cell has a label in adata"):
        model.calibrate(new)


def test_counts_are_read_as_logarithms_without_depth():
    adata = scpln.datasets.simulate(n_obs=400, n_vars=30, n_latent=2, density=0.6, seed=0)
    adata.obs["side"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "right", "left")
    adata.var_names = [f"g{number}" for number in range(30)]
    train, new = adata[:300].copy(), adata[300:].copy()
    setup_anndata(train, labels_key="side")
    model = LabelClassifier(train)
    model.train(progress=False)
    assert scpln.tl.evaluate(model, new)["accuracy"] > 0.85
    turned = new[:, ::-1].copy()
    np.testing.assert_allclose(model.predict(turned, soft=True), model.predict(new, soft=True), atol=1e-6)
    train.X = train.X.toarray()
    train.X[:, :3] = 1  # constant genes, but for depth
    setup_anndata(train, labels_key="side")
    LabelClassifier(train).train(progress=False, calibrate=False)


def test_uncertainty_of_latent_states_is_averaged_over():
    adata = scpln.datasets.simulate(n_obs=300, n_vars=20, n_latent=2, density=0.3, seed=0)
    adata.obs["side"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "right", "left")
    setup_anndata(adata, labels_key="side")
    latent = PLNPCA(adata, n_latent=2)
    latent.train(progress=False)
    latent.annotate()
    model = LabelClassifier(adata, use_rep="plnpca_state")
    model.train(progress=False, calibrate=False)
    posterior = latent.get_posterior()
    sure = type(posterior)(posterior.mean, 1e-10 * posterior.packed_covariance)
    plain = model.predict(soft=True).to_numpy()
    np.testing.assert_allclose(model.predict(soft=True, posterior=sure).to_numpy(), plain, atol=1e-3)
    averaged = model.predict(soft=True, posterior=posterior, n_samples=400).to_numpy()
    assert averaged.max(1).mean() < plain.max(1).mean() - 0.003
    information = model.get_label_uncertainty(posterior=posterior)["mutual_information"]
    assert information.mean() > 2 * model.get_label_uncertainty()["mutual_information"].mean()
    mean, weights = posterior.sample(4000, seed=1), model._draws(4000, 1)
    z = (mean - model.module.array("centre")) / float(model.module.array("scale"))
    logits = np.einsum("snf,sfc->snc", z, weights[:, 1:]) + weights[:, :1]
    powers = np.exp(logits - logits.max(2, keepdims=True))
    exact = (powers / powers.sum(2, keepdims=True)).mean(0)
    assert np.abs(model.predict(soft=True, posterior=posterior, n_samples=4000).to_numpy() - exact).max() < 0.05
    model.calibrate(posterior=posterior)
    with pytest.raises(ValueError, match="posterior= is not that of"):
        model.predict(posterior=posterior[np.arange(299)])
    with pytest.raises(ValueError, match="this model reads counts"):
        counts = LabelClassifier(adata)
        counts.train(progress=False, calibrate=False)
        counts.predict(posterior=posterior)


def test_results_survive_a_file_and_another_fit(adata, tmp_path):
    some = adata.copy()
    model = trained(some, target_error=0.05)
    model.annotate(key_added="label")
    names = ["prediction", "probability", "entropy", "expected_entropy", "mutual_information", "novelty"]
    written = [f"obs['label_{name}']" for name in names] + ["obsm['label_probs']"]
    assert list(some.uns["label"]["written"]) == written
    rows = scpln._catalogue.results_of(scpln._catalogue.MODELS["labelclassifier"])
    places = {place.replace("KEY", "label").replace('"', "'") for row in rows for place in row.places}
    assert places == {*written, "uns['label']"}
    some.write_h5ad(tmp_path / "file.h5ad")
    read = ad.read_h5ad(tmp_path / "file.h5ad")
    given = read.obs["label_prediction"]
    assert 0 < given.isna().mean() < 1
    labels = model.predict(target_error=0.05)
    assert (given.astype(object).to_numpy()[pd.notna(labels)] == labels[pd.notna(labels)]).all()
    np.testing.assert_allclose(read.obsm["label_probs"], model.predict(soft=True))
    assert read.uns["label"]["training"]["calibration"]["temperature"] > 0


def test_saved_models_predict_the_same(adata, model, tmp_path):
    model.save(tmp_path / "labels")
    again = scpln.hub.load(tmp_path / "labels", adata)
    for call in (
        lambda each: each.predict(soft=True),
        lambda each: each.predict_sets(),
        lambda each: each.get_label_uncertainty(),
    ):
        pd.testing.assert_frame_equal(call(again), call(model))
    assert again.training_ == model.training_
    assert "trained" in repr(again)


def test_values_have_intervals_that_cover():
    adata = make(n=400)
    adata.obs.loc[adata.obs_names[:50], "age"] = np.nan
    setup_anndata(adata)
    model = LabelRegressor(adata, "age", use_rep="X_e")
    model.train(progress=False)
    assert model.training_["noise_sd"] == pytest.approx(5, rel=0.15)
    new = make(n=4000, seed=1)
    scores = scpln.tl.evaluate(model, new)
    assert 0.87 < scores["coverage_90"] < 0.93
    conformal = model.predict(new, conformal=True)
    held = (new.obs["age"] >= conformal["lower"]) & (new.obs["age"] <= conformal["upper"])
    assert 0.86 < held.mean() < 0.94
    assert scores["r2"] > 0.7
    assert (model.predict(new)["epistemic_sd"] < model.predict(new)["sd"]).all()
    # equal to ridge regression with the same penalty, of standardised values
    from sklearn.linear_model import Ridge

    known = adata[50:]
    scale = known.obsm["X_e"].std(0).max()
    noise = (model.training_["noise_sd"] / known.obs["age"].std(ddof=0)) ** 2
    ridge = Ridge(noise / model.training_["prior_scale"] ** 2).fit(known.obsm["X_e"] / scale, known.obs["age"])
    np.testing.assert_allclose(model.predict(new)["mean"], ridge.predict(new.obsm["X_e"] / scale), rtol=1e-4)


def test_regressors_are_written_and_saved(tmp_path):
    adata = make(n=100)
    setup_anndata(adata)
    model = LabelRegressor(adata, "age", use_rep="X_e")
    model.train(progress=False)
    model.annotate(key_added="age")
    assert list(adata.uns["age"]["written"]) == ["obs['age_mean']", "obs['age_sd']", "obs['age_epistemic_sd']"]
    model.save(tmp_path / "ages")
    again = LabelRegressor.load(tmp_path / "ages", adata)
    pd.testing.assert_frame_equal(again.predict(conformal=True), model.predict(conformal=True))


def wrong(adata, **changed):
    adata = adata.copy()
    for name, value in changed.items():
        adata.obs[name] = value
    return adata


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "a"}, "A classifier tells labels apart"),
        ({"type": np.nan}, "has no labels|A classifier tells labels apart"),
        ({"type": [f"cell{number}" for number in range(40)]}, "nothing can be learned of labels that one cell has"),
        ({"donor": "d1"}, "cv_key= has one group"),
        ({"donor": ["d1", np.nan] * 20}, r"\(cv_key\) has 20 missing values"),
    ],
)
def test_labels_that_say_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        trained(wrong(make(n=40), **change), cv_key="donor")


def test_features_that_are_none_are_refused(adata, model):
    for value, message in (
        (None, r"adata.obsm has no 'X_e' \(use_rep\)"),
        (np.ones((300, 2)), "has 2 dimensions, and the model was trained on 3"),
        (np.full((300, 3), np.nan), "missing or infinite in 300 cells"),
        (np.array([["x"] * 3] * 300, dtype=object), "is no table of numbers"),
    ):
        new = adata.copy()
        del new.obsm["X_e"]
        if value is not None:
            new.obsm["X_e"] = value
        with pytest.raises(ValueError, match=message):
            model.predict(new)
    with pytest.raises(TypeError, match="use_rep=3, but it must be the name"):
        LabelClassifier(adata, use_rep=3)
    few = trained(make(n=15), calibrate=False)
    with pytest.raises(ValueError, match="Calibration needs 20 cells"):
        few.calibrate()
    with pytest.raises(RuntimeError, match="is not calibrated, and cannot"):
        few.predict_sets()
    with pytest.raises(ValueError, match="target_error= is for labels"):
        model.predict(soft=True, target_error=0.1)
    plain = make(n=30)
    plain.layers["offset"] = np.zeros(plain.shape)
    setup_anndata(plain, offset_key="offset", labels_key="type")
    with pytest.raises(ValueError, match="has no place for offset_key"):
        LabelClassifier(plain)
    setup_anndata(plain)
    with pytest.raises(ValueError, match="LabelClassifier needs labels"):
        LabelClassifier(plain)


def test_values_that_are_none_are_refused():
    adata = make(n=40)
    setup_anndata(adata)
    with pytest.raises(ValueError, match="LabelRegressor needs values"):
        LabelRegressor(adata)
    with pytest.raises(ValueError, match="values that are no numbers, such as"):
        LabelRegressor(adata, "type")
    adata.obs["same"] = 1.0
    with pytest.raises(ValueError, match="1 different values in 40 cells"):
        LabelRegressor(adata, "same")
    model = LabelRegressor(adata, "age", use_rep="X_e")
    model.train(progress=False, calibrate=False)
    with pytest.raises(RuntimeError, match="conformal=True needs errors"):
        model.predict(conformal=True)


@pytest.mark.parametrize("make_model", ["classifier", "regressor"])
@pytest.mark.filterwarnings("ignore")
def test_wrong_arguments_are_refused_by_name(make_model):
    adata = make(n=60)
    setup_anndata(adata, labels_key="type")
    if make_model == "classifier":
        model = LabelClassifier(adata, use_rep="X_e")
        methods = ["train", "predict", "predict_sets", "get_label_uncertainty", "calibrate", "annotate"]
        needed = {}
    else:
        model, methods, needed = (
            LabelRegressor(adata, "age", use_rep="X_e"),
            ["train", "predict"],
            {"target_key": "age"},
        )
    model.train(progress=False)
    known = {"adata", "registry", "posterior", "diagnostics", "key_added"}
    calls = [(type(model), lambda **given: type(model)(adata, **{**needed, **given}))]
    calls += [(getattr(type(model), name), getattr(model, name)) for name in methods]
    for function, call in calls:
        for name in set(keywords(function)) - known:
            for value in wrong_for(name):
                refused(call, name, value)


def test_all_may_be_missed(adata, model):
    """Sets, intervals and labels of an error of 1 or 0 are those next to it, not the widest."""
    assert not model.predict_sets(adata, error=1.0).to_numpy().any()
    assert not model.predict_sets(adata, error=1.0, by_class=True).to_numpy().any()
    some = adata.copy()
    model.annotate(some, target_error=0.0)
    assert some.obs["labelclassifier_prediction"].isna().all()
    assert some.uns["labelclassifier"]["target_error"] == 0.0
    regressor = LabelRegressor(adata, "age", use_rep="X_e")
    regressor.train(progress=False)
    table = regressor.predict(adata, interval=0.0, conformal=True)
    np.testing.assert_allclose(table["upper"], table["lower"])


@pytest.mark.parametrize("values", [[3, 1, 8], [True, False, True], [0.5, 1.5, 2.5]])
def test_written_labels_have_the_type_of_those_that_were_given(adata, values, tmp_path):
    some = adata.copy()
    some.obs["code"] = pd.Series(values, index=["a", "b", "c"]).loc[adata.obs["type"]].to_numpy()
    model = trained(some, labels_key="code", calibrate=False)
    model.annotate()
    some.write_h5ad(tmp_path / "a.h5ad")
    written = ad.read_h5ad(tmp_path / "a.h5ad").obs["labelclassifier_prediction"]
    assert (np.asarray(written) == model.predict()).all()
    assert (np.asarray(written) == some.obs["code"].to_numpy()).mean() > 0.5


def test_groups_that_share_no_labels_are_refused(adata):
    setup_anndata(adata, labels_key="type")
    model = LabelClassifier(adata, use_rep="X_e")
    with pytest.raises(ValueError, match="Name a cv_key whose groups share labels"):
        model.train(progress=False, cv_key="type")
    assert not model.is_trained_  # before it is fitted


def test_the_models_own_cells_are_held_out(adata):
    model = trained(adata)
    before = model.training_["calibration"]
    model.calibrate(adata, seed=0)
    assert model.training_["calibration"]["held_out"] == "in five parts"
    assert model.training_["calibration"]["temperature"] == pytest.approx(before["temperature"])


def test_queries_need_no_values(adata):
    model = LabelRegressor(adata, "age", use_rep="X_e")
    model.train(progress=False)
    query = make(n=2, seed=3)
    assert "rmse" in scpln.tl.evaluate(model, query).summary
    del query.obs["age"]
    assert "rmse" not in scpln.tl.evaluate(model, query).summary
