"""TreeWalk: saving, new samples, the order of columns, draws, and errors."""

import anndata as ad
import numpy as np
import pytest

import scpln
from scpln.inference.treewalk import LocalWalk
from scpln.model import TreeWalk, setup_anndata


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
    with pytest.raises(ValueError, match="has no order"):
        baseline.get_order_probabilities()


def test_errors(model):
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
