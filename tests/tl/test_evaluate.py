"""Terms of the bound against independent references, and scores against scikit-learn's."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats as st
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from sklearn import metrics

import scpln
from scpln.module import GaussianMixture, GaussianPosterior, Posterior, StandardNormal

QUICK = {"max_epochs": 4, "n_threads": 1, "progress": False}
MODELS = {
    "plnpca": ("PLNPCA", {}),
    "plnpca-nb": ("PLNPCA", {"likelihood": "nb", "posterior": "meanfield"}),
    "plnpca-flow": ("PLNPCA", {"posterior": "flow"}),
    "vae": ("CountVAE", {"n_hidden": 8, "size_factors": False}),
    "vae-flow": ("CountVAE", {"n_hidden": 8, "posterior": "flow", "flow": "planar"}),
    "gmvae": ("CountGMVAE", {"n_hidden": 8, "n_components": 3}),
    "gmvae-each": ("CountGMVAE", {"n_hidden": 8, "n_components": 3, "component_posteriors": True}),
}


@pytest.fixture(scope="module")
def cells():
    adata = scpln.datasets.simulate(160, 20, n_latent=2, n_batches=2, density=0.5)
    adata.obs["kind"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "high", "low")
    return adata


@pytest.fixture(scope="module")
def models(cells):
    """Models of the first 100 cells, made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            class_name, parameters = MODELS[name]
            adata = cells[:100].copy()
            scpln.model.setup_anndata(adata, batch_key="batch")
            model = getattr(scpln.model, class_name)(adata, n_latent=2, **parameters)
            more = {"n_steps": 20} if name == "plnpca-flow" else {}
            model.train(**QUICK, **more, **({} if class_name == "PLNPCA" else {"start": "random"}))
            made[name] = model
        return made[name]

    return get


def log_densities(model, adata, n_draws):
    """Log p(y | z), log p(z) and log q(z | y) (draws × cells), from SciPy's distributions and draws of one's own."""
    posterior = model.get_posterior(adata)
    noise = torch.from_numpy(np.random.default_rng(99).standard_normal((n_draws, adata.n_obs, posterior.n_noise)))
    with torch.no_grad():
        z, log_q = (value.numpy() for value in posterior.reparameterize(noise))
    data, counts = model._read(adata).data, adata.X.toarray()
    eta = model.module.decode(z, data.design, data.batches)[0].numpy() + data.offsets[:, None]
    if "inverse_dispersion" in model.get_gene_parameters():
        theta = model.get_gene_parameters()["inverse_dispersion"].to_numpy()
        log_likelihood = st.nbinom.logpmf(counts, theta, theta / (theta + np.exp(eta)))
    else:
        log_likelihood = st.poisson.logpmf(counts, np.exp(eta))
    if isinstance(model, scpln.model.CountGMVAE):
        prior = model.get_component_parameters()
        parts = zip(prior["weights"], prior["means"], prior["covariances"], strict=True)
        log_prior = logsumexp([np.log(w) + st.multivariate_normal.logpdf(z, m, v) for w, m, v in parts], axis=0)
    else:
        log_prior = st.norm.logpdf(z).sum(-1)
    return log_likelihood.sum(-1), log_prior, log_q


@pytest.mark.parametrize("name", MODELS)
def test_terms_add_up_and_are_what_they_say(models, cells, name):
    model, held_out = models(name), cells[100:].copy()
    terms = model.get_bound_terms(held_out)
    assert list(terms.index) == list(held_out.obs_names)
    np.testing.assert_allclose(terms["reconstruction"] - terms["kl"], terms["elbo"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(terms["elbo"], model.get_elbo(held_out, return_mean=False), atol=1e-6)

    n_draws = 400
    log_likelihood, log_prior, log_q = log_densities(model, held_out, n_draws)
    n_theirs = np.inf if name in ("plnpca", "plnpca-nb") else 100
    for values, term in [(log_likelihood, "reconstruction"), (log_q - log_prior, "kl")]:
        error = values.std(0) * np.sqrt(1 / n_draws + 1 / n_theirs)
        assert (np.abs(values.mean(0) - terms[term]) < 5 * error + 1e-5).all()


@pytest.mark.parametrize("name", ["gmvae", "gmvae-each"])
def test_the_component_has_its_part_of_the_divergence(models, cells, name):
    model, held_out = models(name), cells[100:].copy()
    terms = model.get_bound_terms(held_out)
    weights = model.get_component_parameters()["weights"]
    probabilities = model.get_cluster_probabilities(held_out).to_numpy()
    np.testing.assert_allclose(terms["kl_k"], st.entropy(probabilities, weights[None], axis=1), atol=1e-5)
    np.testing.assert_allclose(terms["kl_z"] + terms["kl_k"], terms["kl"])
    assert terms["kl_z"].mean() > 0
    assert "kl_k" not in models("vae").get_bound_terms(held_out)


def test_terms_do_not_depend_on_the_other_cells(models, cells):
    model, held_out = models("vae"), cells[100:].copy()
    all_cells, reversed_genes = model.get_bound_terms(held_out), held_out[:, ::-1].copy()
    pd.testing.assert_frame_equal(model.get_bound_terms(reversed_genes), all_cells, rtol=1e-4)
    some = model.get_bound_terms(held_out, indices=[3, 7], batch_size=1)
    pd.testing.assert_frame_equal(some, all_cells.iloc[[3, 7]], rtol=1e-4)
    assert not np.allclose(model.get_bound_terms(held_out, seed=1)["elbo"], all_cells["elbo"])


MEANS, VARIANCES = np.array([[0.5, 0.0], [-1.0, 0.3]]), np.array([[0.2, 1.0], [0.05, 0.9]])


def posterior_of(means, variances, correlation=0.3):
    off_diagonal = correlation * np.sqrt(variances.prod(1))
    return GaussianPosterior(means, np.column_stack([variances[:, 0], off_diagonal, variances[:, 1]]))


def mixture():
    prior = GaussianMixture(2, 2, full=True)
    prior.place(np.array([[1.0, 0.0], [-1.0, 0.5]]), np.array([[[0.5, 0.1], [0.1, 1.0]]] * 2), np.array([0.3, 0.7]))
    return prior


def test_marginal_divergences_from_a_standard_normal():
    q, p = (torch.distributions.Normal(*map(torch.as_tensor, parts)) for parts in [(MEANS, VARIANCES**0.5), (0.0, 1.0)])
    expected = torch.distributions.kl_divergence(q, p).mean(0)
    found = posterior_of(MEANS, VARIANCES).marginal_divergences(StandardNormal(2)).mean(0)
    np.testing.assert_allclose(found, expected)


def test_marginal_divergences_from_a_mixture():
    prior, expected = mixture(), np.zeros((2, 2))
    weights = prior.log_weights.exp().detach().numpy()
    loc, variance = prior.loc.detach().numpy(), prior.covariance.detach().numpy().diagonal(axis1=1, axis2=2)
    for cell in range(2):
        for j in range(2):
            q = st.norm(MEANS[cell, j], VARIANCES[cell, j] ** 0.5)

            def integrand(x, q=q, j=j):
                return q.pdf(x) * (q.logpdf(x) - np.log(weights @ st.norm.pdf(x, loc[:, j], variance[:, j] ** 0.5)))

            expected[cell, j] = quad(integrand, *q.interval(1 - 1e-12))[0]
    found = posterior_of(MEANS, VARIANCES).marginal_divergences(prior).mean(0)
    np.testing.assert_allclose(found, expected.mean(0), atol=1e-5)


@pytest.mark.parametrize("prior", [StandardNormal(2), mixture()])
def test_marginal_divergences_from_draws(prior):
    posterior = posterior_of(np.tile(MEANS, (100, 1)), np.tile(VARIANCES, (100, 1)))
    drawn = Posterior.marginal_divergences(posterior, prior).mean(0)
    np.testing.assert_allclose(drawn, posterior.marginal_divergences(prior).mean(0), atol=0.03)


def test_active_dimensions(models, monkeypatch):
    model = models("vae")
    means = np.random.default_rng(0).normal(0, [0.5, 0.05], (200, 2))
    posterior = posterior_of(means, np.ones((200, 2)))
    monkeypatch.setattr(type(model), "_infer", lambda *_args, **_kwargs: (posterior, np.empty(0)))
    table = model.get_latent_dimensions()
    assert table["active"].to_list() == [True, False]
    np.testing.assert_allclose(table["variance"], means.var(0))
    np.testing.assert_allclose(table["kl"], 0.5 * (means**2).mean(0))


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_of_a_model(models, cells, name):
    model, held_out = models(name), cells[100:].copy()
    before = repr(held_out)
    found = scpln.tl.evaluate(model, held_out, labels_key="kind", batch_key="batch", n_samples=50)
    assert repr(held_out) == before
    assert found["n_cells"] == len(found.cells) == 60
    for term in ("elbo", "reconstruction", "kl", "iw_bound"):
        assert found[term] == pytest.approx(found.cells[term].mean())
    assert found["elbo"] == pytest.approx(model.get_elbo(held_out), abs=1e-6)
    assert found["iw_bound"] == pytest.approx(model.get_iw_bound(held_out, n_samples=50))
    assert found["iw_bound"] > found["elbo"]
    assert found["elbo_se"] == pytest.approx(st.sem(found.cells["elbo"]))
    assert found["n_latent"] == 2 == len(found.dimensions)
    assert found["n_active"] == found.dimensions["active"].sum()
    given = ", given the size factors" in repr(found)
    assert given != (name == "vae")
    is_mixture = name.startswith("gmvae")
    assert ("n_effective_clusters" in found.summary) == is_mixture
    assert ("of the components" if is_mixture else "of k-means, 2 clusters") in repr(found)

    latent = model.get_latent_representation(held_out)
    assert found["silhouette"] == pytest.approx(metrics.silhouette_score(latent, held_out.obs["kind"]), abs=1e-5)
    if is_mixture:
        predicted = model.predict(held_out)
        assert found["ari"] == metrics.adjusted_rand_score(held_out.obs["kind"], predicted)
        assert found["ami"] == metrics.adjusted_mutual_info_score(held_out.obs["kind"], predicted)
        assert found["nmi"] == metrics.normalized_mutual_info_score(held_out.obs["kind"], predicted)
        probabilities = model.get_cluster_probabilities(held_out).to_numpy().mean(0)
        assert found["n_effective_clusters"] == pytest.approx(np.exp(st.entropy(probabilities)))


def test_some_of_the_models_own_cells(models):
    model = models("vae")
    found = scpln.tl.evaluate(model, indices=model.validation_indices, n_samples=30)
    assert found["n_cells"] == len(model.validation_indices) == 10
    assert found["elbo"] == pytest.approx(model.get_elbo(indices=model.validation_indices))
    assert "ari" not in found.summary


@pytest.fixture
def stored():
    """Three groups that are far apart, with batches that mix in the first two and not in the third."""
    rng = np.random.default_rng(0)
    adata = scpln.datasets.simulate(150, 5)
    adata.obs["kind"] = np.repeat(["a", "b", "c"], 50)
    adata.obs["batch"] = np.tile(["x", "y"], 75)
    latent = np.repeat(rng.normal(0, 20, (3, 4)), 50, axis=0) + rng.normal(size=(150, 4))
    latent[100:] += np.where(adata.obs["batch"] == "x", 5, -5)[100:, None]
    adata.obsm["X_any"] = latent
    return adata


def test_scores_of_what_is_stored(stored):
    stored.obs["cluster"] = stored.obs["kind"].map({"a": 1, "b": 0, "c": 0})
    found = scpln.tl.evaluate(stored, labels_key="kind", batch_key="batch", use_rep="X_any", cluster_key="cluster")
    pair = stored.obs["kind"], stored.obs["cluster"]
    assert found["ari"] == metrics.adjusted_rand_score(*pair)
    assert found["silhouette"] == pytest.approx(metrics.silhouette_score(stored.obsm["X_any"], pair[0]))
    assert scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any")["ari"] == 1.0
    assert scpln.tl.evaluate(stored, labels_key="kind", cluster_key="cluster").summary.index[-1] == "nmi"
    mixed, apart = (scpln.tl.evaluate(stored[part], batch_key="batch", use_rep="X_any")["batch_silhouette"]
                    for part in (slice(0, 50), slice(100, 150)))  # fmt: skip
    assert mixed > 0.95
    assert apart < 0.4
    within = scpln.tl.evaluate(stored, labels_key="kind", batch_key="batch", use_rep="X_any")["batch_silhouette"]
    own = [scpln.tl.evaluate(stored[stored.obs["kind"] == kind], batch_key="batch", use_rep="X_any") for kind in "abc"]
    assert within == pytest.approx(np.mean([each["batch_silhouette"] for each in own]))


def test_cells_without_a_label_do_not_count(stored):
    stored.obs.loc[stored.obs_names[::4], "kind"] = np.nan
    known = stored[stored.obs["kind"].notna()]
    found, of_known = (scpln.tl.evaluate(some, labels_key="kind", use_rep="X_any") for some in (stored, known))
    pd.testing.assert_series_equal(found.summary.drop("n_cells"), of_known.summary.drop("n_cells"))


def test_one_label_and_many_cells(stored, monkeypatch):
    one = stored[:50]
    found = scpln.tl.evaluate(one, labels_key="kind", use_rep="X_any")
    assert np.isnan(found["silhouette"])
    assert found["ari"] == 1.0
    monkeypatch.setattr("scpln.tl._scores.MOST_CELLS", 60)
    found = [scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any", seed=1)["silhouette"] for _ in range(2)]
    assert found[0] == found[1] > 0.5


def test_what_cannot_be_evaluated(models, stored):
    model = models("vae")
    for arguments, message in [
        ({"labels_key": "kinds"}, r"no column 'kinds' \(labels_key\)"),
        ({"cluster_key": "kind"}, "needs labels to compare with"),
        ({"use_rep": "X_any"}, "has a latent space of its own"),
    ]:
        with pytest.raises(ValueError, match=message):
            scpln.tl.evaluate(model, **arguments)
    for arguments, message in [
        ({"labels_key": "kind", "use_rep": "X_other"}, "adata.obsm has no 'X_other'"),
        ({"labels_key": "kind"}, r"There is nothing to score.*\['X_any', 'true_latent'\]"),
        ({"use_rep": "X_any"}, "There is nothing to score"),
        ({"indices": [1], "labels_key": "kind", "use_rep": "X_any"}, r"adata\[cells\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            scpln.tl.evaluate(stored, **arguments)
    with pytest.raises(TypeError, match="not dict"):
        scpln.tl.evaluate({})
    stored.obs["kind"] = np.nan
    with pytest.raises(ValueError, match="has no labels"):
        scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any")
    with pytest.raises(RuntimeError, match="not trained"):
        scpln.model.setup_anndata(stored)
        scpln.tl.evaluate(scpln.model.CountVAE(stored))
    with pytest.raises(KeyError, match="'silhouette' was not evaluated"):
        scpln.tl.evaluate(model, indices=[0, 1, 2], n_samples=2)["silhouette"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, "frame", "masked"])
def test_a_representation_with_gaps(stored, value, form):
    latent = stored.obsm["X_any"].copy()
    latent[7, 1] = value
    if form == "frame":
        stored.obsm["X_any"] = pd.DataFrame(latent, index=stored.obs_names, columns=list("abcd"))
    elif form != "masked":
        stored.obsm["X_any"] = form(latent)
    else:
        stored.obsm._data["X_any"] = np.ma.masked_invalid(latent)
    for keys in ({"labels_key": "kind"}, {"batch_key": "batch"}, {"labels_key": "kind", "cluster_key": "batch"}):
        with pytest.raises(
            ValueError,
            match=r"adata.obsm\['X_any'\] \(use_rep\) has NaN or infinite values in 1 of 150 cells, first in 'cell_7'",
        ):
            scpln.tl.evaluate(stored, use_rep="X_any", **keys)


def test_representations_that_are_stored_otherwise(stored):
    expected = scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any").summary
    latent = stored.obsm["X_any"]
    for other in (sp.csr_matrix(latent), pd.DataFrame(latent, index=stored.obs_names), latent.astype(">f8")):
        stored.obsm["X_any"] = other
        pd.testing.assert_series_equal(scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any").summary, expected)
    stored.obsm["X_any"] = latent.astype(np.float16)
    half = scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any").summary
    np.testing.assert_allclose(half, expected, atol=1e-2)
    stored.obsm["X_any"] = pd.DataFrame({"a": ["x"] * 150}, index=stored.obs_names)
    with pytest.raises(ValueError, match=r"adata.obsm\['X_any'\] \(use_rep\) is not a table of numbers"):
        scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any")


HAS_SCIB = importlib.util.find_spec("scib_metrics") is not None


@pytest.mark.skipif(HAS_SCIB, reason="scib-metrics is installed")
def test_scib_metrics_are_asked_for_but_not_there(stored):
    with pytest.raises(ImportError, match="pip install scib-metrics"):
        scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any", scib_metrics=True)


@pytest.mark.skipif(not HAS_SCIB, reason="scib-metrics is not installed")
def test_scib_metrics(stored):
    found = scpln.tl.evaluate(stored, labels_key="kind", batch_key="batch", use_rep="X_any", scib_metrics=True)
    scores = found.summary.filter(like="scib_")
    assert len(scores) == 7
    assert scores.between(0, 1).all()
    assert found["scib_clisi"] > 0.99
    alone = scpln.tl.evaluate(stored, labels_key="kind", use_rep="X_any", scib_metrics=True)
    assert len(alone.summary.filter(like="scib_")) == 3
