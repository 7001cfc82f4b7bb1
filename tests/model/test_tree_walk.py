"""TreeWalk: saving, new samples, the order of columns, draws, laws that are of every model, and errors."""

import copy
import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import multinomial

import scpln
from scpln.inference.treewalk import LocalWalk
from scpln.model import TreeWalk, setup_anndata

from .every_model import WALKS, make_adata, train, trained


def make():
    adata = scpln.datasets.simulate(n_obs=40, n_vars=6, n_latent=2, n_batches=2, density=0.7)
    adata.var["clade"] = list("xxxyyz")
    return adata


@pytest.fixture(scope="module")
def model():
    adata = make()
    setup_anndata(adata, batch_key="batch")
    model = TreeWalk(adata, "clade")
    model.train(progress=False)
    return model


def test_loaded_new_and_turned_samples_get_the_same(model, tmp_path):
    values = model.get_elbo(return_mean=False)
    model.save(tmp_path / "model")
    loaded = TreeWalk.load(tmp_path / "model", adata=False)
    new = model.adata[5:15, ::-1].copy()
    np.testing.assert_allclose(loaded.get_elbo(new, return_mean=False), values[5:15], atol=1e-10)
    np.testing.assert_array_equal(loaded.get_proportions(new), model.get_proportions(indices=np.arange(5, 15)))


def test_shares_add_up_and_nodes_make_the_whole(model):
    shares, clr = model.get_proportions(), model.get_proportions(clr=True)
    np.testing.assert_allclose(shares[list(model.adata.var_names)].sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(shares["x"], shares[list(model.adata.var_names[:3])].sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(clr[list(model.adata.var_names[:3])].sum(axis=1), 0, atol=1e-10)
    whole = model.get_node_log_likelihoods().sum(axis=1)
    np.testing.assert_allclose(whole, model.get_elbo(return_mean=False), atol=1e-10)
    positions = model.get_order_probabilities("x")
    np.testing.assert_allclose(positions.T.groupby(level="child").sum().T, 1, atol=1e-10)


def test_draws_have_totals_and_results_survive_a_file(model, tmp_path):
    drawn = model.sample(50, totals=30)
    assert (drawn.sum(axis=1) == 30).all()
    assert drawn.columns.tolist() == list(model.adata.var_names)
    assert drawn.equals(model.sample(50, totals=30))
    adata = model.adata.copy()
    model.annotate(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_allclose(read.obsm["treewalk_proportions"], model.get_proportions(clr=True), atol=1e-5)
    assert list(read.uns["treewalk"]["tree"]["names"]) == list(model.tree.names)


def test_the_walk_is_not_below_the_dirichlet_tree(model):
    baseline = TreeWalk(model.adata, "clade", walk="exchangeable")
    baseline.train(progress=False)
    objective = [each.history["objective"].to_numpy().ravel() for each in (baseline, model)]
    assert objective[1][-1] >= objective[0][-1]
    assert (np.diff(objective[1]) >= -1e-12).all()
    with pytest.raises(ValueError, match="has no order of children"):
        baseline.get_order_probabilities()


def results(model, adata):
    """Of each sample, and of some."""
    return [
        model.get_elbo(adata, return_mean=False),
        model.get_elbo(adata, [3, 1], return_mean=False, seed=1),
        model.get_iw_bound(adata, n_samples=5, return_mean=False),
        model.get_node_log_likelihoods(adata),
        model.get_proportions(adata, clr=True),
    ]


@pytest.mark.parametrize("kind", WALKS)
def test_every_walk_is_the_same_saved_pickled_copied_and_of_turned_columns(kind, tmp_path):
    model = trained(kind)
    model.save(tmp_path / "model")
    same = [TreeWalk.load(tmp_path / "model", model.adata), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    turned = model.adata[:, ::-1].copy()
    for again in same:
        for given in (model.adata, turned):
            for one, other in zip(results(again, given), results(model, model.adata), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-10)
        assert repr(again) == repr(model)
        assert again.sample(5, seed=3).equals(model.sample(5, seed=3))
    assert (model.sample(20, seed=1, totals=9).sum(axis=1) == 9).all()
    assert not model.sample(20, seed=1).equals(model.sample(20, seed=2))


@pytest.mark.parametrize("kind", WALKS)
def test_no_walk_depends_on_units_of_covariates(kind):
    def fitted(scale, shift):
        adata = make_adata()
        adata.obs["time"] = shift + scale * np.log1p(adata.X[:, :4].sum(1))
        return train(kind, adata, continuous_covariate_keys=["time"])

    one, other = fitted(1, 0), fitted(3e7, 1.7e9)
    np.testing.assert_allclose(other.get_elbo(return_mean=False), one.get_elbo(return_mean=False), atol=1e-3)
    np.testing.assert_allclose(other.get_proportions(), one.get_proportions(), atol=1e-4)


def test_global_walks_say_when_nodes_are_visited(tmp_path):
    model = trained("TreeWalk, global")
    ranks = model.get_visit_ranks(seed=1)
    assert list(ranks) == ["root", "a", "b"]
    np.testing.assert_allclose(ranks["root"], 1, atol=1e-10)
    np.testing.assert_allclose(ranks.sum(axis=1), 6, atol=1e-10)
    assert model.get_visit_ranks(seed=1).equals(ranks)
    assert not model.get_visit_ranks(seed=2).equals(ranks)
    assert model.get_elbo() <= model.get_iw_bound(n_samples=200)
    adata = model.adata.copy()
    model.annotate(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    assert read.obsm["treewalk_visit_ranks"].shape == (90, 3)
    nodes = read.uns["treewalk"]["nodes"]["visit_ranks"]
    assert np.isfinite(nodes[:3]).all()
    assert np.isnan(nodes[3:]).all()
    scpln.pl.tree(read, color="visit_ranks", show=False)
    found = scpln.tl.evaluate(model, n_samples=20)
    assert np.isfinite(found["elbo"])


def test_global_walks_of_samples_that_lack_nodes():
    """What stands where nothing was observed has no effect; a clade without counts, none on the bound."""
    adata = make()
    seen = np.ones(adata.shape, bool)
    seen[0, :3] = seen[1, 1] = False
    adata.layers["seen"] = seen
    setup_anndata(adata, mask_key="seen")
    model = TreeWalk(adata, "clade", walk="global", n_state=2)
    model.train(5, progress=False)
    values = model.get_node_log_likelihoods()
    assert abs(values.iloc[0]["x"]) < 1e-12
    assert np.isnan(model.get_proportions().iloc[0][["x", *adata.var_names[:3]]]).all()
    assert model.get_proportions().iloc[1].notna().sum() == 8
    other = adata.copy()
    other.X = np.where(seen, other.X.toarray(), 50)
    np.testing.assert_array_equal(model.get_elbo(other, return_mean=False), model.get_elbo(return_mean=False))


def test_a_global_walk_trains_as_it_is_told():
    adata = make()
    setup_anndata(adata)
    model = TreeWalk(adata, "clade", walk="global", n_state=2)
    model.train(4, n_walks=2, batch_size=20, learning_rate=0.02, seed=5, progress=False)
    assert model.stop_reason == "4 epochs, the maximum: 8 stochastic steps"
    assert {"n_walks": 2, "batch_size": 20, "learning_rate": 0.02, "seed": 5}.items() <= model.training_.items()
    free = [value.numel() for name, value in model.module.named_parameters() if not name.startswith("proposal.")]
    assert model.training_["n_parameters"] == sum(free)
    with pytest.raises(ValueError, match="no order of children"):
        model.get_order_probabilities()
    with pytest.raises(ValueError, match="n_walks=1"):
        model.train(n_walks=1)


def test_errors(model):
    with pytest.raises(ValueError, match="visits no nodes"):
        model.get_visit_ranks()
    with pytest.raises(ValueError, match="is no inner node"):
        model.get_order_probabilities("q")
    with pytest.raises(ValueError, match="totals must be whole"):
        model.sample(2, totals=1.5)
    with pytest.raises(ValueError, match="diagnostics"):
        model.annotate(diagnostics=True)
    with pytest.raises(ValueError, match="at most 12"):
        TreeWalk(model.adata, "clade", max_children=13)
    with pytest.raises(ValueError, match="There is no tree"):
        TreeWalk(model.adata)


def test_what_is_not_finite_has_not_converged(monkeypatch):
    """The mean is of the other samples, and everything is kept."""
    adata = scpln.datasets.simulate(n_obs=30, n_vars=6, n_latent=1, density=0.8)
    adata.var["clade"] = list("aabbcc")
    setup_anndata(adata)
    model = TreeWalk(adata, "clade", walk="exchangeable")
    original = LocalWalk.log_likelihood

    def spoiled(self, data):
        values = original(self, data)
        if len(values) == 30:
            values[7] = np.nan
        return values

    monkeypatch.setattr(LocalWalk, "log_likelihood", spoiled)
    model.train(progress=False)
    assert not model.converged
    assert "1 of 30 cells" in model.stop_reason
    assert np.isfinite(model.training_["elbo"])


@pytest.mark.parametrize("walk", ["local", "global"])
def test_no_training_is_lost_with_its_summary(walk, monkeypatch):
    adata = scpln.datasets.simulate(n_obs=20, n_vars=6, n_latent=1, density=0.8)
    adata.var["clade"] = list("aabbcc")
    setup_anndata(adata)
    model = TreeWalk(adata, "clade", walk=walk)

    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TreeWalk, "_walk", pressed)
        model.train(progress=False, max_epochs=3)
    assert model.is_trained_
    assert np.isfinite(model.get_elbo())


@pytest.mark.parametrize("walk", ["local", "exchangeable", "global"])
def test_counts_without_overdispersion_are_multinomial(walk):
    """Concentrations are then as large as one likes, and log-gamma functions of them lose all digits."""
    random = np.random.default_rng(0)
    counts = random.multinomial(3000, random.dirichlet(np.full(7, 5.0)), 50).astype(float)
    names = ["x|a|1", "x|a|2", "x|b|1", "x|b|2", "y|c|1", "y|c|2", "y|d|1"]
    adata = ad.AnnData(counts, var=pd.DataFrame(index=names))
    setup_anndata(adata)
    model = TreeWalk(adata, walk=walk)
    model.train(progress=False, **({"max_epochs": 20} if walk == "global" else {}))
    shares = counts.sum(0) / counts.sum()
    assert model.get_elbo() == pytest.approx(multinomial(3000, shares).logpmf(counts).mean(), abs=0.1)
    assert (model.get_elbo(return_mean=False) < 0).all()
    assert model.training_["converged"] or walk == "global"
