"""PLN-PCA with a mixture prior: its bound, its clusters, and what it shares with the other models."""

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import norm

import scpln
from scpln.model import PLNPCA, setup_anndata


def make_cells(n_latent=1, n_obs=120, n_vars=25, seed=0):
    """Cells of two groups, far apart along the first dimension."""
    rng = np.random.default_rng(seed)
    group = rng.integers(2, size=n_obs)
    z = 0.3 * rng.normal(size=(n_obs, n_latent))
    z[:, 0] += np.where(group == 1, 1.2, -1.2)
    loadings = 0.5 * rng.normal(size=(n_vars, n_latent))
    counts = rng.poisson(np.exp(0.3 + z @ loadings.T)).astype(np.float32)
    adata = scpln.datasets.simulate(n_obs=n_obs, n_vars=n_vars, n_latent=1, seed=seed)
    adata.X = counts
    adata.obs["group"] = group
    return adata


@pytest.fixture(scope="module")
def model():
    adata = make_cells()
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1, n_components=2)
    model.train(progress=False)
    return model


def exact_log_likelihood(model, adata, cells):
    """By a grid in the one latent dimension."""
    parameters = model.get_component_parameters()
    z = np.linspace(-12, 12, 6001)
    data = model._read(adata, None).data
    b, c = model.module.coefficients.numpy(), model.module.loadings.numpy()
    prior = sum(
        w * norm.pdf(z, m[0], v[0, 0] ** 0.5)
        for w, m, v in zip(*(parameters[key] for key in ("weights", "means", "covariances")), strict=True)
    )
    found = []
    for i in cells:
        y = np.asarray(adata.X[i]).ravel()
        eta = data.offsets[i] + data.design[i] @ b.T + z[:, None] * c[:, 0]
        log_p = (y * eta - np.exp(eta) - gammaln(y + 1)).sum(1)
        top = log_p.max()
        found.append(top + np.log(np.trapezoid(np.exp(log_p - top) * prior, z)))
    return np.array(found)


def test_bound_is_below_the_exact_likelihood_and_near_it(model):
    cells = np.arange(0, 120, 6)
    exact = exact_log_likelihood(model, model.adata, cells)
    elbo = model.get_elbo(indices=cells, return_mean=False)
    assert (elbo <= exact + 1e-5).all()
    assert (exact - elbo).mean() < 0.1
    weighted = model.get_iw_bound(indices=cells, n_samples=3000, return_mean=False)
    np.testing.assert_allclose(weighted, exact, atol=0.05)


def test_bound_is_above_that_under_one_prior(model):
    adata = make_cells()
    setup_anndata(adata)
    alone = PLNPCA(adata, n_latent=1)
    alone.train(progress=False)
    assert model.get_elbo() > alone.get_elbo() + 0.05
    assert alone.n_components == 1


def test_genes_are_fitted_under_the_mixture():
    """In the identified rotation, and not as N(0, I) had them, but near to it."""
    adata = make_cells(n_latent=2)
    setup_anndata(adata)
    loadings = {}
    for k in (1, 2):
        model = PLNPCA(adata, n_latent=2, n_components=k)
        model.train(progress=False)
        loadings[k] = model.get_loadings().to_numpy()
    products = loadings[2].T @ loadings[2]
    assert abs(products[0, 1]) < 1e-6 * products[1, 1]
    assert products[0, 0] > products[1, 1]
    assert (loadings[2].max(0) == np.abs(loadings[2]).max(0)).all()
    first, second = loadings[1][:, 0], loadings[2][:, 0]
    assert not np.allclose(first, second, atol=1e-3)
    assert np.corrcoef(first, second)[0, 1] > 0.98


def test_clusters_are_the_groups(model):
    group, cluster = model.adata.obs["group"].to_numpy(), model.predict().astype(int)
    same = (group == cluster).mean()
    assert max(same, 1 - same) > 0.9
    np.testing.assert_allclose(model.get_cluster_probabilities().sum(1), 1)
    assert model.get_cluster_summary()["n_cells"].sum() == 120
    assert model.prior_predictive_sample(3, component="1").shape == (3, 25)


def test_terms_of_the_bound_add_up(model):
    terms = model.get_bound_terms()
    np.testing.assert_allclose(terms["reconstruction"] - terms["kl_z"] - terms["kl_k"], terms["elbo"], atol=1e-8)
    assert (terms[["kl_z", "kl_k"]] > -1e-6).all().all()
    np.testing.assert_allclose(terms["elbo"], model.get_elbo(return_mean=False))


def test_new_cells_get_the_same(model):
    cells = make_cells()
    np.testing.assert_allclose(
        model.get_elbo(cells, return_mean=False), model.get_elbo(return_mean=False), rtol=1e-6, atol=1e-3
    )
    ours, new = model.get_cluster_probabilities(), model.get_cluster_probabilities(cells[:30].copy())
    np.testing.assert_allclose(new, ours[:30], atol=2e-3)
    assert model.get_posterior(cells, refine=5).mean.shape == (120, 1)


def test_saving_and_annotation(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = PLNPCA.load(tmp_path / "model", adata=model.adata)
    assert loaded.n_components == 2
    np.testing.assert_array_equal(loaded.get_cluster_probabilities(), model.get_cluster_probabilities())
    assert loaded.get_elbo() == model.get_elbo()
    model.annotate()
    assert set(model.adata.obs["plnpca_cluster"]) == {"0", "1"}
    assert model.adata.obsm["plnpca_cluster_probs"].shape == (120, 2)
    assert model.adata.uns["plnpca"]["components"]["means"].shape == (2, 1)


def test_means_of_rates_are_those_of_draws(model):
    rates = model.get_normalized_expression(indices=np.arange(5)).to_numpy()
    z = model.get_posterior(indices=np.arange(5)).sample(20_000, seed=1)
    design = np.ones((5, 1))
    draws = np.exp(
        np.einsum("nd,pd->np", design, model.module.coefficients.numpy()) + z @ model.module.loadings.numpy().T
    )
    expected = draws.mean(0)
    ratio = rates / expected
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio.mean(), ratio.shape), rtol=0.03)


def test_number_is_chosen():
    adata = make_cells()
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=2, n_components=None)
    assert model.n_components is None
    model.train(progress=False)
    assert model.n_components == model.get_component_parameters()["weights"].size >= 2


def test_without_a_mixture_there_are_no_clusters():
    adata = make_cells(n_obs=40)
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1)
    model.train(progress=False, max_epochs=3)
    with pytest.raises(ValueError, match="no clusters"):
        model.get_cluster_probabilities()
    model.annotate()
    assert "plnpca_cluster" not in adata.obs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"posterior": "meanfield"}, "needs posterior='fullrank'"),
        ({"amortized": True}, "needs posterior='fullrank'"),
        ({"n_components": 41}, "at most 40"),
        ({"n_components": 0}, "n_components"),
    ],
)
def test_what_it_does_not_go_with(arguments, message):
    adata = make_cells(n_obs=40)
    setup_anndata(adata)
    with pytest.raises(ValueError, match=message):
        PLNPCA(adata, n_latent=1, **{"n_components": 2, **arguments})


def test_no_importance_weighted_training():
    adata = make_cells(n_obs=40)
    setup_anndata(adata)
    with pytest.raises(ValueError, match="n_components=1"):
        PLNPCA(adata, n_latent=1, n_components=2).train(n_importance_samples=4, progress=False)
