"""Counts on a tree: what a user does with them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scpln
from scpln.model import PLN, PLNTree, setup_anndata

TREE = "(((g1,g3)d,g0)a,(g2,(g8,g4,g5)e)b,((g6)q)c,g7)root;"


def table(n=60, seed=0, **keys):
    random = np.random.default_rng(seed)
    states = random.standard_normal((n, 9)) @ (0.5 * random.standard_normal((9, 9)))
    adata = ad.AnnData(random.poisson(np.exp(1.5 + states)).astype(np.float32))
    adata.obs_names, adata.var_names = [f"s{i}" for i in range(n)], [f"g{j}" for j in range(9)]
    adata.obs["x"], adata.obs["one"] = random.standard_normal(n), 1.0
    adata.var["class"] = list("aabbccccd")
    setup_anndata(adata, continuous_covariate_keys=["x"], size_factor_key="one", **keys)
    return adata


def fitted(adata, tree=TREE, **options):
    model = PLNTree(adata, tree, **options)
    model.train(progress=False)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted(table())


def test_bounds_are_in_order(model):
    assert model.converged
    few, many = (model.get_iw_bound(n_samples=n) for n in (50, 2000))
    assert model.get_elbo() + 0.03 < few < many + 0.02
    terms = model.get_bound_terms()
    np.testing.assert_allclose(terms["elbo"], model.get_elbo(return_mean=False))
    draws = model.get_posterior(indices=[0]).sample(4000, seed=0)
    expected = -(model.get_posterior(indices=[0]).log_prob(draws)).mean()
    prior = model.module.scale.numpy() @ model.module.scale.numpy().T
    quadratic = np.einsum("sij,jk,sik->s", draws, np.linalg.inv(prior), draws).mean()
    log_prior = -0.5 * (quadratic + np.linalg.slogdet(prior)[1] + 9 * np.log(2 * np.pi))
    assert terms["kl"].iloc[0] == pytest.approx(-expected - log_prior, abs=0.3)


def test_proportions_add_up(model):
    shares, ratios = model.get_proportions(), model.get_proportions(clr=True)
    tree = model.contrasts.tree
    for node in tree.inner:
        below = [tree.names[child] for child in tree.children[node]]
        np.testing.assert_allclose(shares[below].sum(1), 1)
        np.testing.assert_allclose(ratios[below].sum(1), 0, atol=1e-9)
    leaves = model.get_proportions(of="all")
    np.testing.assert_allclose(leaves.sum(1), 1)
    np.testing.assert_allclose(model.get_proportions(of="all", clr=True).sum(1), 0, atol=1e-9)
    observed = np.asarray(model.adata.X) / np.asarray(model.adata.X).sum(1, keepdims=True)
    assert np.corrcoef(leaves[model.genes].to_numpy().ravel(), observed.ravel())[0, 1] > 0.95


def test_rates_are_those_of_the_nodes(model):
    rates = model.get_normalized_expression(n_samples=2000, return_numpy=True)
    assert np.corrcoef(np.log(rates).ravel(), np.log(np.asarray(model.adata.X) + 0.5).ravel())[0, 1] > 0.9
    tops = model.contrasts.node_counts(rates)[:, model.contrasts.top - 1]
    posterior, design = model.get_posterior(), model._read(None).data.design
    size = len(model.contrasts.top)
    at = (design @ model.module.coefficients.numpy().T + posterior.mean)[:, :size] + 0.5 * posterior.variance[:, :size]
    np.testing.assert_allclose(tops, np.exp(at), rtol=0.15)


def test_annotation_saving_and_loading(model, tmp_path):
    model.annotate(diagnostics=True)
    adata, written = model.adata, model.adata.uns["plntree"]
    np.testing.assert_allclose(adata.obsm["X_plntree"], model.get_latent_representation())
    np.testing.assert_allclose(adata.obsm["plntree_proportions"], model.get_proportions(clr=True), rtol=1e-5, atol=1e-5)
    tree = model.contrasts.tree
    assert (tuple(written["tree"]["names"]), tuple(written["tree"]["parents"])) == (tree.names, tree.parents)
    counts = tree.sums(np.asarray(adata[:, tree.leaf_names].X))
    np.testing.assert_allclose(written["nodes"]["mean_counts"], counts.mean(0), rtol=1e-6)
    np.testing.assert_allclose(written["nodes"]["proportions"], (counts / counts[:, :1]).mean(0), atol=0.03)
    assert scpln.pl.tree(adata, key="plntree", color="proportions", show=False).has_data()
    np.testing.assert_allclose(written["covariances"]["level_2"], model.get_level_covariance(2))
    np.testing.assert_allclose(written["transitions"]["level_3"], model.get_level_transitions(3))
    rates = adata.varm["plntree_log_rates"]
    assert rates.shape == (9, 3)
    np.testing.assert_allclose(rates[7], rates[7, 0])  # a child of the root
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert (ad.read_h5ad(tmp_path / "a.h5ad").obs["plntree_elbo"] <= adata.obs["plntree_iw_bound"] + 0.5).all()
    model.save(tmp_path / "model", overwrite=True)
    for other in (PLNTree.load(tmp_path / "model", adata=False), PLNTree.load(tmp_path / "model", adata)):
        assert other.contrasts.tree == model.contrasts.tree
        np.testing.assert_array_equal(other.get_posterior().covariance, model.get_posterior().covariance)
        np.testing.assert_array_equal(other.get_elbo(return_mean=False), model.get_elbo(return_mean=False))


def test_new_samples_and_training_samples_have_the_same_posteriors(model):
    new = model.adata[::-1, [3, 1, 4, 0, 5, 8, 2, 6, 7]].copy()
    np.testing.assert_allclose(
        model.get_elbo(new, return_mean=False)[::-1], model.get_elbo(return_mean=False), atol=1e-6
    )
    np.testing.assert_allclose(
        model.get_posterior(new, indices=[0]).mean, model.get_posterior(indices=[59]).mean, atol=1e-4
    )


def test_new_samples_are_like_those_of_the_table(model):
    real = np.log(np.asarray(model.adata.X) + 1)
    for drawn in (model.sample(2000, seed=1), model.vamp_sample(2000, seed=1)):
        assert drawn.columns.to_list() == model.genes
        logs = np.log(drawn + 1)
        np.testing.assert_allclose(logs.mean(), real.mean(0), atol=0.35)
        assert np.corrcoef(logs.std(), real.std(0))[0, 1] > 0.5
    pd.testing.assert_frame_equal(model.sample(3, seed=2), model.sample(3, seed=2))


def test_new_samples_have_the_mean_of_the_model(model):
    data, top = model._read(None).data, model.contrasts.top - 1
    size, posterior = len(top), model.get_posterior()
    prior = np.diagonal(model.module.scale.numpy() @ model.module.scale.numpy().T)[:size]
    eta = (data.offsets[:, None] + data.design @ model.module.coefficients.numpy().T)[:, :size]
    around = eta + posterior.mean[:, :size] + 0.5 * posterior.variance[:, :size]
    for drawn, log_means in ((model.sample(40_000), eta + 0.5 * prior), (model.vamp_sample(40_000), around)):
        found = model.contrasts.node_counts(drawn.to_numpy())[:, top].mean(0)
        np.testing.assert_allclose(found, np.exp(log_means).mean(0), rtol=0.06)


def test_coefficients_of_covariates_are_found():
    adata = table(300)
    log_rates = 3 + np.outer(adata.obs["x"], [1, 1, 1, 1, 0, 0, 0, 0, 0])
    adata.X = np.random.default_rng(1).poisson(np.exp(log_rates)).astype(np.float32)
    setup_anndata(adata, continuous_covariate_keys=["x"], size_factor_key="one")
    effects = fitted(adata, ["class"]).get_coefficients()["x"]
    np.testing.assert_allclose(effects[["a", "b", "c", "g8"]], [1, 1, 0, 0], atol=0.06)
    np.testing.assert_allclose(effects[["g0", "g1", "g4", "g5"]], 0, atol=0.06)


def test_without_levels_it_is_pln():
    adata = table()
    star = fitted(adata, "(g0,g1,g2,g3,g4,g5,g6,g7,g8)root;", shrinkage=0)
    star.train(tol=1e-6, progress=False)
    other = PLN(adata)
    other.train(tol=1e-6, progress=False)
    assert star.get_elbo() == pytest.approx(other.get_elbo(), abs=2e-3)


def test_one_call_is_the_same():
    adata = table()
    scpln.tl.pln_tree(adata, "class", size_factor_key="one", continuous_covariate_keys=["x"], progress=False)
    np.testing.assert_allclose(adata.obsm["X_plntree"], fitted(table(), ["class"]).get_latent_representation())


def test_messages(model):
    with pytest.raises(ValueError, match="There is no tree of the columns"):
        PLNTree(table())
    with pytest.raises(ValueError, match="levels 1 to 3, and this is asked of 2 to 3"):
        model.get_level_transitions(1)
    adata = table()
    adata.layers["seen"] = np.ones((60, 9), bool)
    setup_anndata(adata, mask_key="seen", size_factor_key="one")
    with pytest.raises(ValueError, match="one size factor of each sample"):
        PLNTree(adata, TREE)
    with pytest.raises(ValueError, match="shrinkage=-1"):
        PLNTree(table(), TREE, shrinkage=-1)
