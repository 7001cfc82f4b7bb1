"""Mixture classifiers of annotated data: what is written, what is held out, the figure, and errors."""

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import scpln
from scpln.model import MixtureClassifier
from scpln.model.mixture_classifier import plane_of
from scpln.tl.mixture_classifiers._cross_validation import scores

mpl.use("Agg")


@pytest.fixture
def table():
    """Cell types of donors, twelve of each of ten clinics."""
    adata = scpln.datasets.simulate_mixture_classifier(
        120, components="dirichlet_multinomial", standardize=True, n_vars=5, total=300, seed=2
    )
    adata.X = sp.csr_matrix(adata.X)
    adata.obs["age"] = np.linspace(30, 70, 120)
    adata.obs["sex"] = np.resize(["f", "m", "m"], 120)
    return adata


@pytest.fixture
def cells():
    adata = scpln.datasets.simulate_mixture_classifier(300, seed=2)
    adata.obsm["X_pca"] = adata.X
    return adata


def call(adata, *args, **more):
    return scpln.tl.mixture_classifier(adata, "label", *args, **{"n_components": 2, "n_init": 3, **more})


def test_what_is_written(table, tmp_path):
    model = call(table, cv_key="donor", covariate_keys=["age", "sex"])
    assert isinstance(model, MixtureClassifier)
    covariates = pd.DataFrame({"age": table.obs["age"], "sex_m": (table.obs["sex"] == "m").astype(float)})
    rows, labels = table.to_df(), table.obs["label"].astype(str).to_numpy(dtype=object)
    np.testing.assert_allclose(
        table.obsm["mixture_component_probs"], model.predict_component_proba(rows, labels, covariates)
    )
    assert (
        table.obs["mixture_component"].astype(int).tolist() == table.obsm["mixture_component_probs"].argmax(1).tolist()
    )
    best = model.classes_[table.obsm["mixture_probs"].argmax(1)]
    assert (table.obs["mixture_prediction"].astype(str) == best).all()
    found = table.uns["mixture_classifier"]
    assert found["bic"] == pytest.approx(model.bic(rows, labels, covariates=covariates))
    coefficients = found["coefficients"].set_index(["component", "class", "feature"])
    assert coefficients.loc[("0", "control", "age"), "coefficient"] == pytest.approx(model.coef_[0, 0, 5])
    table.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_allclose(read.uns["mixture_classifier"]["concentrations"], model.concentrations_)
    assert read.uns["mixture_classifier"]["params"]["cv_key"] == "donor"
    assert scpln.pl.mixture_classifier(read, show=False).has_data()


def test_a_second_call_replaces_the_first(cells):
    before = set(cells.obs), set(cells.obsm), set(cells.uns)
    call(cells, use_rep="X_pca")
    call(cells, use_rep="X_pca", n_components=1)
    assert cells.obsm["mixture_component_probs"].shape == (300, 1)
    scpln.model.base.forget(cells, "mixture_classifier")
    assert (set(cells.obs), set(cells.obsm), set(cells.uns)) == before


def test_held_out_donors_are_not_seen(table):
    """Labels of a donor that are all changed do not change its own predictions, where K is given."""
    call(table, cv_key="donor", n_folds=10)
    one = table[table.obs["donor"] == "donor_3"].obsm["mixture_probs"]
    changed = table.copy()
    mine = (changed.obs["donor"] == "donor_3").to_numpy()
    other = np.where(changed.obs["label"] == "case", "control", "case")
    changed.obs["label"] = np.where(mine, other, changed.obs["label"].astype(str))
    call(changed, cv_key="donor", n_folds=10)
    by_hand = MixtureClassifier(2, components="dirichlet_multinomial", n_init=3)
    rest = table[~mine]
    by_hand.fit(rest.to_df(), rest.obs["label"].astype(str).to_numpy(), groups=rest.obs["donor"])
    np.testing.assert_allclose(one, by_hand.predict_proba(table[mine].to_df()), atol=1e-8)
    np.testing.assert_allclose(one, changed[mine].obsm["mixture_probs"], atol=1e-8)


def test_scores_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    p = random.dirichlet([1, 1], size=200)
    codes, groups = random.integers(2, size=200), random.integers(8, size=200)
    found = scores(p, codes, groups)
    assert found["accuracy"] == pytest.approx((p.argmax(1) == codes).mean())
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(codes, p.argmax(1)))
    assert found["auroc"] == pytest.approx(roc_auc_score(codes, p[:, 1]))
    assert found["log_prob"] == pytest.approx(np.log(p[np.arange(200), codes]).mean())
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high
    assert found["n_groups"] == 8
    one_each = scores(p, codes, np.arange(200))
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 200)
    assert np.ptp(one_each["accuracy_interval"]) == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_rows_without_a_label(table):
    table.obs["label"] = table.obs["label"].astype(str).replace({"case": "sick"})
    table.obs.loc[table.obs_names[:20], "label"] = "Unknown"
    model = call(table, unlabeled_category="Unknown", cv_key="donor")
    assert list(model.classes_) == ["control", "sick"]
    assert not np.isnan(table.obsm["mixture_probs"]).any()
    np.testing.assert_allclose(table.obsm["mixture_probs"][:20], model.predict_proba(table.to_df())[:20])
    assert not set(table.obs["mixture_prediction"]) - {"control", "sick"}


@pytest.mark.parametrize("components", ["gaussian", "dirichlet"])
def test_other_components_of_counts(table, components):
    table.X = table.X.toarray() + 1.0
    model = call(table, components=components)
    counts = table.X
    logs = np.log(counts + 0.5)
    rows = logs - logs.mean(1, keepdims=True) if components == "gaussian" else counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(rows), table.obsm["mixture_probs"])


def test_the_number_is_chosen_and_written(cells):
    model = scpln.tl.mixture_classifier(cells, "label", use_rep="X_pca", max_components=3, n_init=3, key_added="mine")
    assert model.n_components_ == 2
    assert cells.uns["mine_classifier"]["selection"]["n_components"].tolist() == [1, 2, 3]
    assert {"mine_component", "mine_prediction"} <= set(cells.obs)


def test_composition_of_cells(cells):
    """From cells to donors to labels of donors."""
    random = np.random.default_rng(0)
    cells.obs["donor"] = [f"d{number % 30}" for number in range(300)]
    cells.obs["state"] = [f"d{number % 30}"[-1] > "4" for number in range(300)]
    cells.obs["state"] = cells.obs["state"].map({True: "ill", False: "well"})
    p = np.where(cells.obs["state"] == "ill", 0.8, 0.3)
    cells.obs["type"] = np.where(random.random(300) < p, "B", "T")
    table = scpln.tl.composition(cells, "donor", "type")
    scpln.tl.mixture_classifier(table, "state", n_components=1, cv_key="donor")
    assert table.uns["mixture_classifier"]["cross_validation"]["accuracy"] > 0.7


class TestPlane:
    def test_of_two_columns_it_is_exact(self, cells):
        model = call(cells, use_rep="X_pca")
        plane = cells.uns["mixture_classifier"]["plane"]
        np.testing.assert_array_equal(cells.obsm["mixture_plane"], cells.obsm["X_pca"])
        points = np.stack(np.meshgrid(plane["x"], plane["y"]), axis=-1).reshape(-1, 2)
        np.testing.assert_allclose(plane["probabilities"].reshape(-1, 2), model.predict_proba(points))
        assert list(plane["axes"]) == ["pca1", "pca2"]
        np.testing.assert_allclose(plane["means"], model.means_, atol=0.05)
        np.testing.assert_allclose(plane["covariances"], model.covariances_, atol=0.1)

    def test_of_more_it_tells_components_apart(self):
        adata = scpln.datasets.simulate_mixture_classifier(500, n_components=3, n_vars=8, standardize=True, seed=1)
        labels = adata.obs["label"].astype(str).to_numpy(dtype=object)
        model = MixtureClassifier(3, n_init=3).fit(adata.X, labels)
        plane = plane_of(model, adata.X, labels)
        off = ((plane.coordinates[:, None] - plane.means) ** 2).sum(2)
        assert (off.argmin(1) == model.predict_component(adata.X)).mean() > 0.95
        assert not plane.is_exact
        np.testing.assert_allclose(plane.probabilities.sum(2), 1)

    def test_of_one_there_is_none(self, cells):
        cells.obsm["one"] = cells.X[:, :1]
        call(cells, use_rep="X_pca")
        call(cells, use_rep="one")
        assert "mixture_plane" not in cells.obsm
        with pytest.raises(KeyError, match=r"has no 'plane'. Run `scpln.tl.mixture_classifier\(adata, labels_key"):
            scpln.pl.mixture_classifier(cells, show=False)


def test_figure(cells, tmp_path):
    cells.obs["label"] = cells.obs["label"].astype(object)
    cells.obs.loc[cells.obs_names[:30], "label"] = None
    call(cells, use_rep="X_pca")
    ax = plt.subplots()[1]
    assert scpln.pl.mixture_classifier(cells, ax=ax, show=False, save=tmp_path / "a.png") is ax
    assert sorted(text.get_text() for text in ax.texts) == ["0", "1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("pca1", "pca2")
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["case", "control", "no label", "border", "component, 2 s.d."]
    assert mpl.image.imread(tmp_path / "a.png")[..., :3].std() > 0.01
    assert (
        scpln.pl.mixture_classifier(cells, color="component", show=False).get_legend().get_title().get_text()
        == "component"
    )
    with pytest.raises(KeyError, match=r"has no 'lable' \(color\). Did you mean 'label'"):
        scpln.pl.mixture_classifier(cells, color="lable", show=False)
    with pytest.raises(KeyError, match="key_added='other'"):
        scpln.pl.mixture_classifier(cells, key="other", show=False)
    plt.close("all")


def test_warnings(cells, table):
    logs = np.log(table.X.toarray() + 0.5)
    table.obs["label"] = np.where(logs[:, 0] > logs.mean(1), "a", "b")
    with pytest.warns(UserWarning, match=r"Classes are perfectly separated in components \[0\].*prior_scale=100"):
        call(table, n_components=1, prior_scale=100)
    cells.obs["label"] = cells.obs["component"].astype(str)
    with pytest.warns(UserWarning, match=r"Components are nearly the labels: I\(z; y\) is 0.69 of 0.69 nats"):
        call(cells, use_rep="X_pca")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_rep": "X_pca", "layer": "counts"}, "Pass one of them"),
        ({"use_rep": "X_umap"}, r"adata.obsm has no 'X_umap' \(use_rep\); it has \['X_pca'\]"),
        ({"layer": "counts"}, "adata.layers has no 'counts'"),
        ({}, r"adata.X has values that are not counts. Pass layer= with counts, or use_rep= with an embedding"),
        ({"use_rep": "X_pca", "covariate_keys": "holes"}, r"\(covariate_keys\) has 3 missing values. Fill them"),
        ({"use_rep": "X_pca", "cv_key": "holes"}, r"\(cv_key\) has 3 missing values. Give every row a donor"),
        ({"use_rep": "X_pca", "cv_key": "one"}, "all rows with a label are of one group"),
        ({"use_rep": "X_pca", "cv_key": "by label"}, "only one class is left to learn from"),
        (
            {"use_rep": "nan"},
            r"adata.obsm\['nan'\] has values that are missing or infinite in 300 rows, such as 'row_0'",
        ),
        ({"use_rep": "X_pca", "components": "dirichlet"}, "takes proportions. Pass components='gaussian'"),
        (
            {"use_rep": "X_pca", "covariate_keys": "infinite"},
            r"\['infinite'\] \(covariate_keys\) is infinite in 1 rows",
        ),
        ({"use_rep": "X_pca", "covariate_keys": "one"}, r"'one'\] \(covariate_keys\) has one value, 'a'. Leave it out"),
        ({"use_rep": "X_pca", "covariate_keys": "label"}, "'label' is both labels_key and among covariate_keys"),
        ({"use_rep": "X_pca", "unlabeled_category": "unkown"}, r"no row of adata.obs\['label'\] has 'unkown'"),
        (
            {"use_rep": "X_pca", "cv_key": "donors", "n_folds": 1},
            "n_folds=1, but it must be a whole number of at least 2",
        ),
    ],
)
def test_errors(cells, change, message):
    cells.obs["holes"] = np.where(np.arange(300) < 3, np.nan, 1.0)
    cells.obs["one"] = "a"
    cells.obs["infinite"] = np.where(np.arange(300) == 3, np.inf, 1.0 * np.arange(300))
    cells.obs["donors"] = [f"d{number % 9}" for number in range(300)]
    cells.obs["by label"] = cells.obs["label"]
    if change.get("use_rep") == "nan":
        cells.obsm["nan"] = np.full((300, 2), np.nan)
    with pytest.raises((ValueError, KeyError), match=message):
        call(cells, **change)


def test_measurements_are_no_labels(cells):
    cells.obs["label"] = np.linspace(0, 1, 300)
    with pytest.raises(ValueError, match=r"adata.obs\['label'\] \(labels_key\) has numbers that are not whole"):
        call(cells, use_rep="X_pca")


def test_columns_of_one_name_are_refused(table):
    table.var_names = ["a", "a", "b", "c", "d"]
    with pytest.raises(ValueError, match=r"adata\.var_names are not unique"):
        call(table)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="adata must be an AnnData, not str"):
        scpln.tl.mixture_classifier("table.h5ad", "label")


def test_scores_of_few_donors_are_said_to_be(table):
    table.obs["donor"] = [f"d{number % 4}" for number in range(120)]
    with pytest.warns(UserWarning, match=r"Scores are of 4 held-out groups of 'donor'"):
        call(table, cv_key="donor")


def test_donors_without_cells_are_named(table):
    counts = table.X.toarray()
    counts[7] = 0
    table.X = counts
    with pytest.raises(
        ValueError, match=r"1 rows of adata.X have no counts, such as 'row_7'. Leave them out: `adata = "
    ):
        call(table)
