"""Series of samples: what a user does with them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scpln
from scpln.model import PLN, PLNAR, setup_anndata

P = 4
ROOT = 0.5 * np.eye(P) + 0.25 * np.random.default_rng(1).standard_normal((P, P))


def series(n_series=8, length=25, phi=0.8, seed=0, **keys):
    """Counts of series, whose rows are in no order."""
    random, phi = np.random.default_rng(seed), np.broadcast_to(phi, P)
    states = np.empty((n_series, length, P))
    states[:, 0] = random.multivariate_normal(np.zeros(P), ROOT @ ROOT.T / (1 - np.outer(phi, phi)), n_series)
    for t in range(1, length):
        states[:, t] = phi * states[:, t - 1] + random.standard_normal((n_series, P)) @ ROOT.T
    adata = ad.AnnData(random.poisson(np.exp(2 + states.reshape(-1, P))).astype(np.float32))
    adata.obs_names = [f"sample_{i}" for i in range(adata.n_obs)]
    adata.var_names = [f"gene_{j}" for j in range(P)]
    adata.obs["subject"] = np.repeat([f"s{i}" for i in range(n_series)], length)
    adata.obs["day"], adata.obs["one"] = np.tile(np.arange(length), n_series), 1.0
    adata = adata[random.permutation(adata.n_obs)].copy()
    setup_anndata(adata, size_factor_key="one", **keys)
    return adata


def fitted(adata, **options):
    model = PLNAR(adata, "day", "subject", **options)
    model.train(progress=False)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted(series())


def test_autoregression_is_found(model):
    assert model.converged
    phi = model.get_autoregression()
    assert phi.index.to_list() == model.genes
    np.testing.assert_allclose(phi, 0.8, atol=0.06)
    innovation = model.get_innovation_covariance()
    np.testing.assert_allclose(innovation, model.get_covariance() * (1 - phi.iloc[0] ** 2), atol=1e-12)
    assert np.linalg.norm(innovation - ROOT @ ROOT.T) < 0.3 * np.linalg.norm(ROOT @ ROOT.T)
    alone = PLN(model.adata)
    alone.train(progress=False)
    assert model.get_elbo() > alone.get_elbo() + 0.3


@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_diagonal_autoregression_tells_genes_apart(likelihood):
    truth = np.array([0.9, 0.5, -0.5, 0.0])
    model = fitted(series(10, 40, truth), autoregression="diagonal", likelihood=likelihood)
    np.testing.assert_allclose(model.get_autoregression(), truth, atol=0.15)
    found = model.get_innovation_covariance(["gene_1", "gene_0"])
    assert found.shape == (2, 2)
    assert model.training_["n_parameters"] == P + P * (P + 1) / 2 + P + P * (likelihood == "nb")


def test_annotation_saving_and_loading(model, tmp_path):
    model.annotate()
    adata = model.adata
    np.testing.assert_allclose(adata.obsm["X_plnar"], model.get_latent_representation())
    np.testing.assert_allclose(adata.obs["plnar_elbo"].mean(), model.get_elbo())
    np.testing.assert_allclose(adata.var["plnar_autoregression"], model.get_autoregression())
    np.testing.assert_allclose(adata.varp["plnar_correlation"], model.get_correlation())
    assert adata.uns["plnar"]["time_step"] == 1
    assert adata.uns["plnar"]["autoregression"] == pytest.approx(model.get_autoregression().iloc[0])
    with pytest.raises(ValueError, match="no diagnostics of single samples"):
        model.annotate(diagnostics=True)
    model.save(tmp_path / "model", overwrite=True)
    for other in (PLNAR.load(tmp_path / "model"), PLNAR.load(tmp_path / "model", adata)):
        np.testing.assert_array_equal(other.get_posterior().covariance, model.get_posterior().covariance)
        np.testing.assert_array_equal(other.get_elbo(return_mean=False), model.get_elbo(return_mean=False))
        pd.testing.assert_series_equal(other.get_autoregression(), model.get_autoregression())


def test_new_series_and_training_series_have_the_same_posteriors(model):
    new = model.adata.copy()
    np.testing.assert_allclose(model.get_elbo(new, return_mean=False), model.get_elbo(return_mean=False), atol=1e-5)
    shares = model.get_elbo(new, indices=[3, 1], return_mean=False)
    np.testing.assert_allclose(shares, model.get_elbo(return_mean=False)[[3, 1]], atol=1e-5)
    np.testing.assert_allclose(model.get_posterior(new).covariance, model.get_posterior().covariance, atol=1e-4)
    new.obs["day"] *= 3  # as if two of three days were missing
    assert model.get_elbo(new) < model.get_elbo() - 0.1


def test_backwards_a_series_is_as_likely(model):
    """With one φ, but samples' shares are not the same."""
    subject, backwards = model.adata.obs["subject"].to_numpy(), model.adata.copy()
    backwards.obs["day"] = -backwards.obs["day"]
    one, two = (pd.Series(model.get_elbo(each, return_mean=False)) for each in (None, backwards))
    assert abs(one - two).max() > 0.01
    np.testing.assert_allclose(one.groupby(subject).sum(), two.groupby(subject).sum(), atol=1e-4)


def test_samples_that_get_another_time_are_inferred_anew():
    model = fitted(series(3, 8))
    before = model.get_elbo()
    model.adata.obs["subject"] = "one"
    model.adata.obs["day"] = np.arange(24)
    assert abs(model.get_elbo() - before) > 0.01


def test_dates_are_days():
    adata = series(3, 8)
    one = fitted(adata)
    adata.obs["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(2 * adata.obs["day"].to_numpy(), unit="D")
    two = fitted(adata)
    assert two.training_["time_step"] == 2
    np.testing.assert_allclose(two.get_autoregression(), one.get_autoregression())


def test_unequal_times_are_taken_as_they_are():
    adata = series(8, 40)
    kept = np.random.default_rng(2).random(adata.n_obs) < 0.6
    adata = adata[kept].copy()
    setup_anndata(adata, size_factor_key="one")
    model = fitted(adata)
    assert model.training_["time_step"] == 1
    np.testing.assert_allclose(model.get_autoregression(), 0.8, atol=0.08)
    adata.obs["day"] *= np.pi
    adata.obs["day"] += np.random.default_rng(3).uniform(-0.01, 0.01, adata.n_obs)
    model = fitted(adata)
    step = model.training_["time_step"] / np.pi
    np.testing.assert_allclose(model.get_autoregression(), 0.8**step, atol=0.08)
    with pytest.raises(ValueError, match="whole multiples of a step"):
        fitted(adata, autoregression="diagonal")


def test_hidden_entries_are_predicted_from_neighbours():
    adata = series(8, 25, 0.95)
    truth = adata.X.copy()
    hidden = (adata.obs["day"] == 12).to_numpy()
    adata.layers["seen"] = ~(hidden[:, None] & (np.arange(P) > 0))
    adata.X[~adata.layers["seen"]] = 0
    setup_anndata(adata, size_factor_key="one", mask_key="seen")
    rates = fitted(adata).get_normalized_expression(library_size=1.0, return_numpy=True)
    rates, counts = (values[hidden][:, 1:].ravel() for values in (rates, truth))
    assert np.corrcoef(np.log(rates), np.log(counts + 0.5))[0, 1] > 0.8


def test_one_call_is_the_same():
    adata = series(3, 8)
    scpln.tl.pln_ar(adata, "day", "subject", size_factor_key="one", progress=False)
    np.testing.assert_allclose(adata.obsm["X_plnar"], fitted(series(3, 8)).get_latent_representation())


def test_messages():
    adata = series(2, 5)
    with pytest.raises(ValueError, match="PLNAR needs the times of samples"):
        PLNAR(adata)
    with pytest.raises(ValueError, match="no column 'hour'"):
        PLNAR(adata, "hour")
    with pytest.raises(ValueError, match="are of one series and have the same time"):
        PLNAR(adata, "day")
    with pytest.raises(ValueError, match="times are numbers or dates"):
        PLNAR(adata, "subject")
    with pytest.raises(ValueError, match="none of the 10 samples follows another"):
        adata.obs["each"] = adata.obs_names
        PLNAR(adata, "day", "each").train(progress=False)
    adata.obs["gap"] = [None, *["a"] * 9]
    with pytest.raises(ValueError, match=r"\(group_key\) is missing for 1 of 10 samples"):
        PLNAR(adata, "day", "gap")
    adata.obs["some"] = [np.nan, *range(9)]
    with pytest.raises(ValueError, match=r"\(order_key\) is missing for 1 of 10 samples"):
        PLNAR(adata, "some", "subject")
