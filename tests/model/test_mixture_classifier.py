"""The mixture classifier as an estimator of scikit-learn: its own checks, what is predicted, files, and errors."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from scpln.datasets import simulate_mixture_classifier
from scpln.model import MixtureClassifier

FAMILIES = ("gaussian", "dirichlet", "dirichlet_multinomial")


@parametrize_with_checks(
    [MixtureClassifier(n_init=3, max_components=3), MixtureClassifier(2, covariance="tied", n_init=3)]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn(estimator, check):
    check(estimator)


def rows(components="gaussian", n=300, seed=1, **more):
    adata = simulate_mixture_classifier(n, components=components, standardize=True, seed=seed, **more)
    return adata.X, adata.obs["label"].astype(str).to_numpy(dtype=object), adata


@pytest.mark.parametrize("components", FAMILIES)
def test_generators_are_recovered(components):
    """Accuracy within a point of the truth's, and components, at 5,000 rows, of rows that were not seen."""
    x, y, adata = rows(components, 10_000, seed=2)
    model = MixtureClassifier(2, components=components).fit(x[:5000], y[:5000])
    truth = np.where(adata.obs["true_probability"] > 0.5, "case", "control")[5000:]
    assert model.score(x[5000:], y[5000:]) > (truth == y[5000:]).mean() - 0.01
    assert adjusted_rand_score(adata.obs["component"][5000:], model.predict_component(x[5000:])) > 0.9
    np.testing.assert_allclose(model.weights_, 0.5, atol=0.03)
    order = np.argsort(model.predict_component(x)[[np.flatnonzero(adata.obs["component"] == k)[0] for k in "01"]])
    own = model.concentrations_ if components != "gaussian" else model.means_
    true = adata.uns["truth"]["means" if components == "gaussian" else "concentrations"]
    np.testing.assert_allclose(own, true[order], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_too_small_a_scale_is_a_matter_of_the_labels(seed):
    """Published: divided by ten, labels are coins. The fit does not depend on the scale; labels do, unless their rule is on one scale."""

    def found(scale, standardize):
        adata = simulate_mixture_classifier(2000, scale=scale, standardize=standardize, seed=seed)
        y = adata.obs["label"].astype(str).to_numpy(dtype=object)
        model = MixtureClassifier(2, n_init=3).fit(adata.X, y)
        of_kind = [adata.obs[adata.obs["component"] == k] for k in "01"]
        return model.predict_proba(adata.X), np.mean(
            [roc_auc_score(each["label"] == "case", each["true_probability"]) for each in of_kind]
        )

    assert found(0.1, False)[1] < min(0.65, found(1.0, False)[1] - 0.1)
    (one, of_one), (tenth, of_tenth) = found(1.0, True), found(0.1, True)
    np.testing.assert_allclose(one, tenth, atol=1e-3)
    assert of_one == pytest.approx(of_tenth)
    assert of_tenth > found(0.1, False)[1] + 0.1


@pytest.mark.parametrize("criterion", ["bic", "icl", "held_out"])
def test_the_number_of_components_is_chosen(criterion):
    x, y, _ = rows(n=600, seed=2)
    groups = np.arange(600) % 6
    model = MixtureClassifier(criterion=criterion, max_components=3, n_init=2).fit(x, y, groups=groups)
    assert model.n_components_ == 2
    table = model.selection_
    better = table["held_out"] if criterion == "held_out" else -table[criterion]
    assert better.idxmax() == 2
    assert table.loc[2, "bic"] == pytest.approx(model.bic(x, y))
    assert table.loc[2, "icl"] == pytest.approx(model.icl(x, y))


@pytest.mark.parametrize("components", FAMILIES)
def test_predictions_are_those_of_the_formula(components):
    x, y, _ = rows(components)
    model = MixtureClassifier(2, components=components).fit(x, y)
    features = x
    if components != "gaussian":
        logs = np.log(x + (0.5 if components == "dirichlet_multinomial" else 0))
        features = logs - logs.mean(1, keepdims=True)
    of_class = expit(model.intercept_[:, 0] + features @ model.coef_[:, 0].T)
    given_x = model.predict_component_proba(x)
    np.testing.assert_allclose(model.predict_proba(x)[:, 1], (given_x * of_class).sum(1), atol=1e-9)
    likelihood = given_x * np.where(y[:, None] == model.classes_[1], of_class, 1 - of_class)
    with_y = model.predict_component_proba(x, y)
    np.testing.assert_allclose(with_y, likelihood / likelihood.sum(1, keepdims=True), atol=1e-9)
    np.testing.assert_allclose(model.score_samples(x, y) - model.score_samples(x), np.log(likelihood.sum(1)), atol=1e-8)
    assert (model.predict_component(x, y) == with_y.argmax(1)).all()
    assert (np.diff(model.log_likelihood_path_) > -1e-8).all()


def test_more_than_two_classes():
    x, _, adata = rows(n=600, seed=0)
    y = np.array(["a", "b", "c"])[(adata.obs["component"].to_numpy().astype(int) + (x[:, 0] > x[:, 0].mean()))]
    model = MixtureClassifier(2).fit(x, y)
    logits = model.intercept_ + np.einsum("if,krf->ikr", x, model.coef_)
    expected = np.einsum("ik,ikc->ic", model.predict_component_proba(x), softmax(logits, axis=2))
    np.testing.assert_allclose(model.predict_proba(x), expected, atol=1e-9)
    assert model.coef_.shape == (2, 3, 2)
    assert len(model.get_coefficients()) == 2 * 3 * 3


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels(missing):
    """They help to find components, and are not a class."""
    x, y, adata = rows(n=600)
    some = y.copy()
    some[60:] = missing
    model = MixtureClassifier(2).fit(x, some)
    assert list(model.classes_) == ["case", "control"]
    assert adjusted_rand_score(adata.obs["component"], model.predict_component(x)) > 0.9
    few = MixtureClassifier(2).fit(x[:60], y[:60])
    true = adata.uns["truth"]["means"]
    error = [np.abs(np.sort(each.means_, axis=0) - np.sort(true, axis=0)).sum() for each in (model, few)]
    assert error[0] < error[1]
    numbers = np.where(np.arange(600) < 60, y == "case", np.nan).astype(float)
    np.testing.assert_allclose(
        MixtureClassifier(2).fit(x, numbers).predict_proba(x)[:, 1], model.predict_proba(x)[:, 0], atol=1e-3
    )


def test_covariates_are_of_the_classifiers_only():
    x, _, _ = rows(n=800)
    random = np.random.default_rng(0)
    age = pd.DataFrame({"age": random.normal(50, 10, 800)})
    y = (random.random(800) < expit((age["age"] - 50) / 5)).astype(int).to_numpy()
    with_age = MixtureClassifier(2).fit(x, y, covariates=age)
    without = MixtureClassifier(2).fit(x, y)
    np.testing.assert_allclose(np.sort(with_age.means_, 0), np.sort(without.means_, 0), atol=0.3)
    assert with_age.score(x, y, covariates=age) > without.score(x, y) + 0.2
    table = with_age.get_coefficients().xs("age", level="feature")
    assert (np.abs(table["coefficient"] - 0.2) < 4 * table["se"]).all()
    only = MixtureClassifier(2, features="covariates").fit(x, y, covariates=age)
    assert only.coef_.shape == (2, 1, 1)
    with pytest.raises(ValueError, match="covariates have 0 columns, and the model was fitted with 1"):
        with_age.predict(x)
    labels = with_age.sample(800, covariates=age)[1]
    assert np.corrcoef(labels, age["age"])[0, 1] > 0.4


@pytest.mark.parametrize("components", FAMILIES)
def test_draws_are_of_the_model(components):
    x, y, _ = rows(components, 2000, seed=2)
    model = MixtureClassifier(2, components=components).fit(x, y)
    drawn, labels, component = model.sample(20_000)
    np.testing.assert_allclose(drawn.mean(0), x.mean(0), atol=0.05 * x.std() + 0.02 * x.mean())
    assert abs((labels == "case").mean() - (y == "case").mean()) < 0.02
    assert abs((component == 0).mean() - model.weights_[0]) < 0.02
    assert adjusted_rand_score(component, model.predict_component(drawn)) > 0.9
    if components == "dirichlet_multinomial":
        assert set(model.sample(5, totals=[7, 8, 9, 10, 11])[0].sum(1)) == {7, 8, 9, 10, 11}


@pytest.mark.parametrize("components", FAMILIES)
def test_saved_models_are_the_same(components, tmp_path):
    x, y, _ = rows(components)
    frame = pd.DataFrame(x, columns=[f"part {number}" for number in range(x.shape[1])])
    model = MixtureClassifier(2, components=components, concentration_scale=np.inf).fit(frame, y)
    model.save(tmp_path / "model")
    loaded = MixtureClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
    assert loaded.get_params() == model.get_params()
    pd.testing.assert_frame_equal(loaded.get_coefficients(), model.get_coefficients())
    assert list(loaded.feature_names_in_) == list(frame)
    with pytest.raises(ValueError, match="Pass overwrite=True"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)
    assert {each.suffix for each in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
    text = json.loads((tmp_path / "model" / "model.json").read_text())
    text["model"]["class"] = "PLN"
    (tmp_path / "model" / "model.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="was changed after it was saved"):
        MixtureClassifier.load(tmp_path / "model")


def test_models_of_other_classes_are_not_loaded(tmp_path):
    from scpln.model.base.saving import write_model

    write_model(tmp_path / "other", None, metadata={"class": "PLN"}, tensors={})
    with pytest.raises(ValueError, match=r"holds a 'PLN', not a MixtureClassifier. Load it with scpln.model.PLN.load"):
        MixtureClassifier.load(tmp_path / "other")


def test_in_a_pipeline_and_a_search():
    x, y, _ = rows(n=200)
    y = y.astype(str)
    pipe = make_pipeline(StandardScaler(), MixtureClassifier(n_init=2))
    found = GridSearchCV(pipe, {"mixtureclassifier__n_components": [1, 2]}, cv=3).fit(x, y)
    assert 0.5 < found.best_score_ <= 1


def test_errors_of_coefficients_cover_the_truth():
    """Wald intervals at 95 % of 60 sets, of components that lie apart: between 90 and 99 %."""
    inside = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        kind = random.integers(2, size=500)
        x = random.standard_normal((500, 1)) + 5 * kind[:, None]
        slope, middle = np.array([1.0, -1.0])[kind], 5 * kind
        y = (random.random(500) < expit(slope * (x[:, 0] - middle))).astype(int)
        model = MixtureClassifier(2, n_init=3, prior_scale=100).fit(x, y)
        order = np.argsort(model.means_[:, 0])
        off = np.abs(model.coef_[order, 0, 0] - [1.0, -1.0]) / model.coef_se_[order, 0, 0]
        inside += list(off < 1.96)
    assert 0.90 < np.mean(inside) < 0.99


def test_confounded_labels_are_seen():
    x, _, adata = rows(n=400)
    y = adata.obs["component"].astype(str).to_numpy()
    model = MixtureClassifier(2).fit(x, y)
    assert model.mutual_information_ > 0.95 * model.label_entropy_
    assert model.label_entropy_ == pytest.approx(np.log(2), abs=0.01)


def test_what_is_not_done_is_said():
    noise = np.random.default_rng(0).standard_normal((300, 2))
    with pytest.warns(ConvergenceWarning, match=r"has not converged in .* steps. Pass a larger max_iter"):
        MixtureClassifier(3, max_iter=1, n_init=1, tol=1e-9).fit(noise, np.arange(300) % 2)
    twins = np.repeat(np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]]), [20, 20, 20], axis=0)
    with pytest.raises(ValueError, match=r"has 6 different rows. Pass n_components=6 or fewer"):
        MixtureClassifier(7).fit(twins, np.arange(60) % 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "requires y to be passed"),
        ({"y": np.full(300, "a")}, "y has one class, 'a', and a classifier needs two or more"),
        ({"y": np.full(300, None)}, "y has no labels: all of them are missing"),
        ({"y": np.arange(10)}, "y has 10 rows, and X has 300"),
        ({"sample_weight": np.ones(3)}, "sample_weight has 3 rows"),
        ({"sample_weight": -np.ones(300)}, "negative or not finite. Pass 0"),
        ({"sample_weight": np.zeros(300)}, "sample_weight is 0 for all rows"),
        ({"sample_weight": np.ones((300, 2))}, "sample_weight has 2 dimensions"),
        ({"covariates": np.ones((3, 1))}, "covariates has 3 rows"),
        ({"groups": np.zeros(3)}, "groups has 3 rows, and X has 300"),
        ({"groups": np.r_[np.nan, np.zeros(299)]}, "groups has 1 missing values. Give every row a group"),
        ({"n_components": 301}, "n_components=301, and X has 300 different rows. Pass n_components=300 or fewer"),
        ({"n_components": 0}, "n_components=0"),
        ({"features": "covariates"}, r"Pass them to fit\(\.\.\., covariates=\.\.\.\)"),
        ({"components": "poisson"}, "choose from"),
        ({"components": "dirichlet_multinomial"}, "takes counts. Pass components='gaussian'"),
        ({"random_state": "a"}, "cannot be used to seed"),
    ],
)
def test_what_cannot_be_fitted(change, message):
    x, y, _ = rows(n=300)
    of_fit = {name: change[name] for name in ("y", "sample_weight", "covariates", "groups") if name in change}
    arguments = {"n_components": 1, **{name: value for name, value in change.items() if name not in of_fit}}
    with pytest.raises(ValueError, match=message):
        MixtureClassifier(**arguments).fit(x, **{"y": y, **of_fit})


@pytest.mark.parametrize(
    ("components", "x", "message"),
    [
        (
            "dirichlet",
            [[0.5, 0.5], [0.2, 0.7]],
            r"row 1 of X adds up to 0.9 \(1 rows .*Pass X / X.sum\(1, keepdims=True\)",
        ),
        ("dirichlet", [[1.0, 0.0], [0.2, 0.8]], "X has 1 zeros.*dirichlet_multinomial"),
        ("dirichlet", [[1.5, -0.5], [0.2, 0.8]], "takes proportions"),
        ("dirichlet_multinomial", [[0.5, 1], [2, 3]], "takes counts, and X has values that are not whole"),
        (
            "dirichlet_multinomial",
            [[0, 0], [2, 3]],
            r"1 rows of X have no counts, the first of them row 0. .*X\[X.sum\(1\) > 0\]",
        ),
        ("gaussian", [[np.nan, 0], [2, 3]], "contains NaN"),
        ("dirichlet_multinomial", [[3], [2]], "takes two columns or more"),
    ],
)
def test_rows_that_no_component_has_a_density_of(components, x, message):
    with pytest.raises(ValueError, match=message):
        MixtureClassifier(1, components=components).fit(x, [0, 1])


def test_a_singular_covariance_names_the_ridge():
    x = np.column_stack([np.arange(20.0), np.zeros(20)])
    with pytest.raises(ValueError, match=r"singular with ridge=0.0. Pass a larger ridge"):
        MixtureClassifier(1, ridge=0).fit(x, np.arange(20) % 2)
    assert np.isfinite(MixtureClassifier(1).fit(x, np.arange(20) % 2).predict_proba(x)).all()


def test_labels_that_are_unknown():
    x, y, _ = rows(n=300)
    model = MixtureClassifier(2).fit(x, y)
    with pytest.raises(ValueError, match=r"y has 'other', which is not among the classes \['case', 'control'\]"):
        model.predict_component(x, np.full(300, "other", dtype=object))


@pytest.mark.parametrize("kind", [int, bool, float])
def test_numbers_among_which_one_is_missing_are_labels(kind):
    x, y, _ = rows(n=40)
    codes = (y == "case").astype(kind).astype(object)
    codes[3] = None
    model = MixtureClassifier(1).fit(x, codes)
    assert model.classes_.tolist() == [kind(0), kind(1)]
    assert model.score(x[:3], codes[:3].astype(kind)) >= 0
    np.testing.assert_allclose(
        model.predict_component_proba(x, codes), model.predict_component_proba(x, codes.astype(float))
    )


def test_a_choice_drops_components_in_silence():
    """Numbers that are too large are the choice's to leave, and not the user's."""
    x = np.full((4, 5), 100)
    x[:, [0, 3, 4]] = [[100, 74, 80], [100, 100, 100], [44, 20, 32], [54, 15, 37]]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*became empty")
        model = MixtureClassifier(components="dirichlet_multinomial").fit(x, [0, 1, 0, 1])
    whole = model.selection_[model.selection_["n_left"] == model.selection_.index]
    assert len(whole) < len(model.selection_)
    assert model.n_components_ == whole["bic"].idxmin()


def test_classes_of_few_rows_are_held_out():
    """Fewer folds where no class has a row for each."""
    x, y, _ = rows(n=6)
    y = np.resize(["a", "b"], 6)
    model = MixtureClassifier(criterion="held_out", max_components=1).fit(x, y, groups=np.arange(6))
    assert np.isfinite(model.selection_["held_out"]).all()


def test_nothing_to_hold_out():
    x, y, _ = rows(n=300)
    with pytest.raises(ValueError, match="all rows with a label are of one group"):
        MixtureClassifier(criterion="held_out").fit(x, y, groups=np.zeros(300))
