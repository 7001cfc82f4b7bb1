"""Discriminant analysis of counts: what a user does with it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from sklearn.model_selection import StratifiedKFold

import scpln
from scpln.inference.genespace import infer_pln
from scpln.model import PLNLDA, setup_anndata
from scpln.module.covariances import Fixed

P, G = 5, 3
MEANS = 1.5 + 0.9 * np.random.default_rng(1).standard_normal((G, P))
ROOT = 0.6 * (np.eye(P) + 0.4 * np.random.default_rng(2).standard_normal((P, P)))


def labelled(n=150, seed=0, **keys):
    """Counts of three overlapping kinds, of which the last is rare."""
    random = np.random.default_rng(seed)
    kinds = random.choice(G, n, p=[0.45, 0.4, 0.15])
    states = MEANS[kinds] + random.standard_normal((n, P)) @ ROOT.T
    adata = ad.AnnData(random.poisson(np.exp(states)).astype(np.float32))
    adata.obs_names, adata.var_names = [f"cell_{i}" for i in range(n)], [f"gene_{j}" for j in range(P)]
    adata.obs["kind"], adata.obs["one"] = pd.Categorical(np.array(["b", "c", "a"])[kinds]), 1.0
    setup_anndata(adata, labels_key="kind", size_factor_key="one", **keys)
    return adata


def fitted(adata, *args, **kwargs):
    model = PLNLDA(adata, *args, **kwargs)
    model.train(progress=False)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted(labelled())


def bayes(adata, n_draws=4000):
    """Labels by the truth: p(y | g) by draws of the states, with the true shares."""
    random, log_weights = np.random.default_rng(0), np.log([0.45, 0.4, 0.15])
    noise = random.standard_normal((n_draws, P)) @ ROOT.T
    log_prob = np.empty((adata.n_obs, G))
    for group in range(G):
        states = MEANS[group] + noise
        rates = np.exp(states).sum(1)
        log_prob[:, group] = log_weights[group] + logsumexp(adata.X @ states.T - rates, axis=1)
    return np.array(["b", "c", "a"])[log_prob.argmax(1)]


def test_held_out_accuracy_is_near_that_of_the_truth():
    adata = labelled(450, seed=3)
    kinds, correct, best = adata.obs["kind"].to_numpy(), [], bayes(adata)
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(kinds, kinds):
        part = adata[train].copy()
        setup_anndata(part, labels_key="kind", size_factor_key="one")
        correct.append((fitted(part).predict(adata[test].copy()) == kinds[test]).mean())
    optimum = (best == kinds).mean()
    assert 0.6 < optimum < 0.95
    assert np.mean(correct) > optimum - 0.03


def test_probabilities_are_bayes_rule_on_the_bounds(model):
    adata, data = model.adata, model._read(None).data
    soft = model.predict(soft=True)
    assert list(soft.columns) == ["a", "b", "c"]
    bounds = []
    for label in soft.columns:
        covariance = Fixed(P, model.get_covariance().to_numpy())
        bounds.append(infer_pln(data, model.get_means()[[label]].to_numpy(), covariance).elbo)
    shares = adata.obs["kind"].value_counts(normalize=True)[list(soft.columns)].to_numpy()
    joint = np.stack(bounds, 1) + np.log(shares)
    assert soft.to_numpy() == pytest.approx(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)), abs=1e-5)
    assert model.get_elbo(return_mean=False) == pytest.approx(logsumexp(joint, axis=1), abs=1e-5)
    assert list(model.predict()) == list(soft.idxmax(axis=1))


def test_priors_move_labels(model):
    adata = model.adata
    uniform = fitted(adata, "uniform")
    assert (uniform.predict() == "a").sum() > (model.predict() == "a").sum()
    given = fitted(adata, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert given.predict(soft=True).to_numpy() == pytest.approx(uniform.predict(soft=True).to_numpy(), abs=1e-6)
    odds = model.predict(soft=True) / uniform.predict(soft=True)
    shares = adata.obs["kind"].value_counts(normalize=True)
    assert (odds["a"] / odds["b"]).to_numpy() == pytest.approx(np.full(150, shares["a"] / shares["b"]), rel=1e-3)


def test_axes_tell_labels_apart_in_units_of_the_covariance(model):
    axes, scores = model.get_discriminant_axes(), model.get_discriminant_scores()
    assert list(axes.columns) == ["LD1", "LD2"]
    assert axes.T.to_numpy() @ model.get_covariance().to_numpy() @ axes.to_numpy() == pytest.approx(np.eye(2), abs=1e-6)
    means = model.get_means().sub(model.get_coefficients().iloc[:, 0], axis=0)
    weights = model.get_component_parameters()["weights"]
    between = (means * weights).to_numpy() @ means.T.to_numpy()
    along = axes.T.to_numpy() @ between @ axes.to_numpy()
    assert along == pytest.approx(np.diag(np.diag(along)), abs=1e-6)
    assert along[0, 0] > along[1, 1] > 0
    assert np.trace(along) == pytest.approx(np.trace(np.linalg.solve(model.get_covariance(), between)))
    assert scores.to_numpy() == pytest.approx(model.get_posterior().mean @ axes.to_numpy())


def test_cells_without_a_label_have_no_part_in_training():
    adata = labelled(120, seed=4)
    partly = adata.copy()
    partly.obs["kind"] = partly.obs["kind"].where(np.arange(120) < 80)
    setup_anndata(partly, labels_key="kind", size_factor_key="one")
    some = adata[:80].copy()
    setup_anndata(some, labels_key="kind", size_factor_key="one")
    one, two = fitted(partly), fitted(some)
    assert one.get_means().to_numpy() == pytest.approx(two.get_means().to_numpy(), abs=1e-6)
    assert one.training_["n_labelled"] == 80
    assert one.predict().shape == (120,)
    assert list(one.predict(indices=range(80, 120))) == list(two.predict(adata[80:].copy()))
    named = adata.copy()
    named.obs["kind"] = named.obs["kind"].astype(str).where(np.arange(120) < 80, "?")
    setup_anndata(named, labels_key="kind", unlabeled_category="?", size_factor_key="one")
    assert fitted(named).component_names == ["a", "b", "c"]


def test_the_names_of_labels_do_not_matter():
    adata = labelled(100, seed=5)
    renamed = adata.copy()
    renamed.obs["kind"] = renamed.obs["kind"].astype(str).map({"a": "z", "b": "b", "c": "a"})
    setup_anndata(renamed, labels_key="kind", size_factor_key="one")
    one, two = (PLNLDA(each, prior_precision=3.0) for each in (adata, renamed))
    for each in (one, two):
        each.train(progress=False, tol=1e-8)
    assert two.get_means()["z"].to_numpy() == pytest.approx(one.get_means()["a"].to_numpy(), abs=1e-3)
    assert two.get_elbo() == pytest.approx(one.get_elbo(), abs=1e-5)


def test_labels_keep_their_type(tmp_path):
    adata = labelled(60)
    adata.obs["kind"] = np.arange(60) % 3
    setup_anndata(adata, labels_key="kind")
    model = fitted(adata, {0: 0.2, 1: 0.3, 2: 0.5})
    assert model.predict().dtype == np.int64
    model.save(tmp_path / "model")
    loaded = PLNLDA.load(tmp_path / "model", adata)
    assert np.array_equal(loaded.predict(), model.predict())
    assert loaded.priors == {"0": 0.2, "1": 0.3, "2": 0.5}


def test_it_annotates(model, tmp_path):
    adata = model.adata.copy()
    model.annotate(adata)
    assert adata.obsm["X_plnlda"] == pytest.approx(model.get_discriminant_scores().to_numpy(), abs=1e-5)
    assert list(adata.obs["plnlda_cluster"]) == list(model.predict())
    assert adata.varm["plnlda_axes"].shape == (P, 2)
    assert adata.varp["plnlda_correlation"] == pytest.approx(model.get_correlation().to_numpy())
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_covariates_are_taken_out():
    adata = labelled(200, seed=6)
    adata.obs["shift"] = np.random.default_rng(0).standard_normal(200)
    adata.X = np.random.default_rng(1).poisson(adata.X * np.exp(0.7 * adata.obs["shift"].to_numpy()[:, None]))
    setup_anndata(adata, labels_key="kind", size_factor_key="one", continuous_covariate_keys=["shift"])
    model = fitted(adata)
    assert model.get_coefficients()["shift"].to_numpy() == pytest.approx(np.full(P, 0.7), abs=0.2)


def test_what_cannot_be_is_said():
    adata = labelled(40)
    setup_anndata(adata)
    with pytest.raises(ValueError, match="PLNLDA needs labels of some cells"):
        PLNLDA(adata)
    for labels, words in (
        (["x"] * 40, "between labels"),
        ([None] * 40, "between labels"),
        (["x"] * 39 + ["y"], "fewer than 2 cells with the label 'y'"),
    ):
        adata.obs["kind"] = pd.Series(labels, index=adata.obs_names, dtype=object)
        setup_anndata(adata, labels_key="kind")
        with pytest.raises(ValueError, match=words):
            fitted(adata)
    adata.obs["kind"] = ["x", "y"] * 20
    setup_anndata(adata, labels_key="kind")
    for priors, words in (
        ("equal", "priors"),
        ({"x": 1.0}, "look at 'y'"),
        ({"x": 0.5, "y": 0.2, "z": 0.3}, "look at 'z'"),
        ({"x": 0.9, "y": 0.9}, "add up to 1"),
        ({"x": "much", "y": 0.5}, "add up to 1"),
    ):
        with pytest.raises(ValueError, match=words):
            PLNLDA(adata, priors)
    model = fitted(adata)
    with pytest.raises(ValueError, match="soft=True"):
        model.predict(soft=True, reject=0.1)


def test_in_one_call():
    adata = labelled(60)
    scpln.tl.pln_lda(adata, "kind", priors="uniform", progress=False)
    assert adata.obs["plnlda_cluster"].cat.categories.to_list() == ["a", "b", "c"]
