"""Mixtures in gene space: what a user does with them."""

import anndata as ad
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import scpln
from scpln.model import PLN, PLNMixture, setup_anndata

P, K = 6, 3


def groups_of(n=120, seed=0, apart=2.0):
    """Counts of three kinds, and their kind."""
    random = np.random.default_rng(seed)
    means = 2 + apart * np.random.default_rng(5).standard_normal((K, P))
    kinds = random.integers(0, K, n)
    batches = random.integers(0, 2, n)
    sizes = np.exp(0.3 * random.standard_normal(n))
    states = means[kinds] + 0.4 * random.standard_normal((n, P)) + 0.5 * batches[:, None]
    adata = ad.AnnData(random.poisson(sizes[:, None] * np.exp(states)).astype(np.float32))
    adata.obs_names, adata.var_names = [f"cell_{i}" for i in range(n)], [f"gene_{j}" for j in range(P)]
    adata.obs["kind"], adata.obs["batch"], adata.obs["size"] = kinds.astype(str), batches.astype(str), sizes
    setup_anndata(adata, batch_key="batch", size_factor_key="size")
    return adata


def fitted(adata, *args, **kwargs):
    model = PLNMixture(adata, *args, **kwargs)
    model.train(progress=False)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted(groups_of(), K)


def test_it_finds_the_kinds(model):
    assert model.converged
    assert model.n_components == K
    assert adjusted_rand_score(model.adata.obs["kind"], model.predict()) > 0.9
    assert model.get_cluster_probabilities().shape == (120, K)
    summary = model.get_cluster_summary()
    assert summary["n_cells"].sum() == 120
    assert summary["weight"].sum() == pytest.approx(1)
    assert "3 components" in repr(model)


def test_icl_chooses_and_the_table_is_kept(tmp_path):
    model = fitted(groups_of(), [1, 2, 3, 4], covariance="spherical")
    table = model.get_component_selection()
    assert table.index.to_list() == [1, 2, 3, 4]
    assert table["icl"].idxmax() == model.n_components == K
    n = 120
    assert (table["bound"] - 0.5 * table["n_parameters"] * np.log(n)).to_numpy() == pytest.approx(
        table["bic"].to_numpy()
    )
    assert table["n_parameters"].to_list() == [k - 1 + k * P + P + k for k in (1, 2, 3, 4)]
    assert table.loc[K, "bound"] == pytest.approx(model.get_elbo() * n, abs=1e-2)
    assert (table["icl"] <= table["bic"]).all()
    model.save(tmp_path / "model")
    assert PLNMixture.load(tmp_path / "model", model.adata).get_component_selection().equals(table)
    model.annotate()
    assert list(model.adata.uns["plnmixture"]["training"]["selection"]["n_components"]) == [1, 2, 3, 4]


def test_one_component_is_pln():
    adata = groups_of(80)
    one, alone = PLNMixture(adata, 1), PLN(adata)
    for each in (one, alone):
        each.train(progress=False, tol=1e-8)
    assert one.get_elbo() == pytest.approx(alone.get_elbo(), abs=1e-6)
    assert one.get_covariance().to_numpy() == pytest.approx(alone.get_covariance().to_numpy(), abs=1e-2)
    assert one.get_coefficients().to_numpy() == pytest.approx(alone.get_coefficients().to_numpy(), abs=1e-3)
    assert one.get_posterior().mean == pytest.approx(alone.get_posterior().mean, abs=1e-2)


def test_one_component_with_factors_is_pln_with_factors(tmp_path):
    adata = groups_of(80)
    one, alone = PLNMixture(adata, 1, covariance="factor", n_factors=2), PLN(adata, "factor", n_factors=2)
    for each in (one, alone):
        each.train(progress=False, tol=1e-8)
    assert one.get_elbo() == pytest.approx(alone.get_elbo(), abs=1e-6)
    assert one.training_["n_parameters"] == alone.training_["n_parameters"]
    assert one.get_covariance().to_numpy() == pytest.approx(alone.get_covariance().to_numpy(), abs=1e-2)
    assert one.get_factor_loadings().to_numpy() == pytest.approx(alone.get_factor_loadings().to_numpy(), abs=5e-2)
    one.save(tmp_path / "model")
    loaded = PLNMixture.load(tmp_path / "model", adata)
    assert loaded.n_factors == 2
    assert loaded.get_factor_loadings("0").equals(one.get_factor_loadings())


def test_every_component_has_factors_of_its_own():
    model = fitted(groups_of(), K, covariance="factor", n_factors=1)
    assert adjusted_rand_score(model.adata.obs["kind"], model.predict()) > 0.9
    for k in range(K):
        table = model.get_factor_loadings(k)
        loadings, own = table[["factor_1"]].to_numpy(), table["uniqueness"].to_numpy()
        assert loadings @ loadings.T + np.diag(own) == pytest.approx(model.get_covariance(k).to_numpy(), abs=1e-10)
    assert not model.get_factor_loadings(0).equals(model.get_factor_loadings(1))
    assert model.get_factor_loadings(1, ["gene_2"]).equals(model.get_factor_loadings(1).loc[["gene_2"]])
    table = model.get_component_selection()
    assert table.loc[K, "n_parameters"] == K - 1 + K * P + P + K * 2 * P
    with pytest.raises(ValueError, match="This PLNMixture has no factors"):
        fitted(model.adata, 1).get_factor_loadings()
    with pytest.raises(ValueError, match="Pass n_factors=3"):
        PLNMixture(model.adata, 2, covariance="factor")


def test_components_have_parameters(model):
    means, coefficients = model.get_means(), model.get_coefficients()
    assert list(means.columns) == model.component_names
    given = model.get_component_parameters()
    assert means.to_numpy() @ given["weights"] == pytest.approx(coefficients.iloc[:, 0].to_numpy())
    for k in range(K):
        sigma = model.get_covariance(k)
        assert sigma.to_numpy() == pytest.approx(given["covariances"][k])
        assert model.get_covariance(str(k)).equals(sigma)
        assert sigma.to_numpy() @ model.get_precision(k).to_numpy() == pytest.approx(np.eye(P), abs=1e-6)
        assert np.diag(model.get_correlation(k)) == pytest.approx(np.ones(P))
    assert model.get_means(["gene_4", "gene_1"]).equals(means.loc[["gene_4", "gene_1"]])
    with pytest.raises(ValueError, match="component=7 is not one of"):
        model.get_covariance(7)


def test_bounds_are_confirmed_by_draws(model):
    terms = model.get_bound_terms()
    assert (terms["reconstruction"] - terms["kl"]).to_numpy() == pytest.approx(terms["elbo"].to_numpy())
    assert terms["kl"].to_numpy() == pytest.approx((terms["kl_z"] + terms["kl_k"]).to_numpy())
    weights = np.concatenate([w for _, w in model._log_weights(model.get_posterior(), None, None, 2000, 0)], axis=1)
    assert (weights.mean(0) > model.get_elbo(return_mean=False) - 0.2).all()
    assert model.get_elbo() < model.get_iw_bound(n_samples=500) < model.get_elbo() + 1


def test_what_posteriors_expect_is_what_draws_show(model):
    posterior = model.get_posterior(indices=range(5))
    draws = posterior.sample(4000, seed=1)
    assert draws.mean(0) == pytest.approx(posterior.mean, abs=0.05)
    assert draws.var(0) == pytest.approx(posterior.variance, abs=0.05)
    assert posterior.variance == pytest.approx(np.diagonal(posterior.covariance, axis1=1, axis2=2))
    exact = model.get_normalized_expression(indices=range(5)).to_numpy()
    drawn = model.get_normalized_expression(indices=range(5), n_samples=2000, return_numpy=True)
    assert drawn == pytest.approx(exact, rel=0.1)


def test_new_cells_are_training_cells(model):
    copy = model.adata[:, ::-1].copy()
    assert model.get_elbo(copy, return_mean=False) == pytest.approx(model.get_elbo(return_mean=False), abs=1e-5)
    assert model.get_cluster_probabilities(copy).to_numpy() == pytest.approx(
        model.get_cluster_probabilities().to_numpy(), abs=1e-5
    )
    new = groups_of(60, seed=9)
    assert adjusted_rand_score(new.obs["kind"], model.predict(new)) > 0.9


def test_diagonal_families_have_the_same_posteriors_of_either_kind():
    adata = groups_of(60)
    full, mean_field = (fitted(adata, 2, covariance="diagonal", posterior=each) for each in ("fullrank", "meanfield"))
    assert full.get_elbo() == mean_field.get_elbo()
    assert fitted(adata, 2).get_elbo() > full.get_elbo()


def test_it_is_saved_loaded_and_annotates(model, tmp_path):
    model.save(tmp_path / "model")
    alone = PLNMixture.load(tmp_path / "model", adata=False)
    assert alone.n_components == K
    assert alone.get_posterior().mean == pytest.approx(model.get_posterior().mean)
    adata = model.adata.copy()
    PLNMixture.load(tmp_path / "model", adata).annotate()
    assert list(adata.obs["plnmixture_cluster"]) == list(model.predict())
    assert adata.obsm["plnmixture_cluster_probs"].sum(1) == pytest.approx(np.ones(120), abs=1e-5)
    assert adata.varm["plnmixture_means"] == pytest.approx(model.get_means().to_numpy())
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").uns["plnmixture"]["components"]["covariances"].shape == (K, P, P)


def test_cells_far_from_all_components_are_refused(model):
    strange = model.adata[:5].copy()
    strange.X = np.tile([900.0, 0, 900, 0, 900, 0], (5, 1)).astype(np.float32)
    assert set(model.predict(strange, reject=0.01)) == {"unknown"}
    assert (model.predict(reject=0.05) == "unknown").mean() == pytest.approx(0.05, abs=0.04)


def test_counts_are_drawn_from_components(model):
    counts = model.prior_predictive_sample(2000, component="0", seed=1)
    expected = model.get_means()["0"] + np.diag(model.get_covariance(0)) / 2
    assert np.log(counts.mean(0)) == pytest.approx(expected.to_numpy(), abs=0.3)


def test_arguments_are_checked():
    adata = groups_of(20)
    for wrong, words in (
        ([], "a number to choose"),
        (21, "at most 20"),
        ([1, 0], "n_components"),
        ("a", "n_components"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            PLNMixture(adata, wrong)
    with pytest.raises(ValueError, match="covariance"):
        PLNMixture(adata, 2, covariance="fixed")
    assert PLNMixture(adata, range(1, 4)).n_components is None


def test_ctrl_c_keeps_what_there_is(monkeypatch):
    from scpln.inference.genespace import _maximize

    calls, step = [], _maximize.Maximizer._step

    def interrupted(self):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(_maximize.Maximizer, "_step", interrupted)
    model = fitted(groups_of(40), 2)
    assert model.is_trained_
    assert not model.converged
    assert "interrupted" in model.stop_reason
    assert np.isfinite(model.get_elbo())
    assert model.n_components == 2


def test_in_one_call():
    adata = groups_of(40)
    scpln.tl.pln_mixture(adata, n_components=2, covariance="spherical", size_factor_key="size", progress=False)
    assert adata.obs["plnmixture_cluster"].nunique() == 2
