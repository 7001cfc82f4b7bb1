"""PLNPCA: what its methods return, against independent formulas."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, poisson

from scpln.model import PLNPCA, setup_anndata

from .conftest import MATRICES, make_adata, train


def own_bound(model: PLNPCA, n_draws: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Bound of each cell by Monte Carlo with SciPy's densities, and its standard error."""
    posterior = model.get_posterior()
    z = posterior.sample(n_draws, seed=1)
    counts = model.adata.layers["counts"].toarray()
    totals = np.log(counts.sum(1))
    design = np.column_stack([np.ones(len(counts)), model.adata.obs["batch"] == "1"])
    fixed = (totals - totals.mean())[:, None] + design @ model.get_coefficients().to_numpy().T
    q = z.shape[-1]
    weights = np.empty((n_draws, len(counts)))
    for i in range(len(counts)):
        rates = np.exp(fixed[i] + z[:, i] @ model.get_loadings().to_numpy().T)
        prior = multivariate_normal(np.zeros(q), np.eye(q)).logpdf(z[:, i])
        own = multivariate_normal(posterior.mean[i], posterior.covariance[i]).logpdf(z[:, i])
        weights[:, i] = poisson(rates).logpmf(counts[i]).sum(1) + prior - own
    return weights.mean(0), weights.std(0) / np.sqrt(n_draws)


def test_elbo_is_the_expected_log_weight(trained):
    expected, error = own_bound(trained)
    assert (np.abs(trained.get_elbo(return_mean=False) - expected) < 5 * error + 1e-4).all()


def test_elbo_of_training_cells_is_recomputed_the_same(trained):
    stored = trained.get_elbo(return_mean=False)
    again = trained.get_elbo(trained.adata.copy(), return_mean=False)
    np.testing.assert_allclose(again, stored, atol=1e-3)
    assert trained.get_elbo() == pytest.approx(stored.mean())
    assert stored.dtype == np.float64


def test_latent_representation(trained):
    posterior = trained.get_posterior()
    mean, variance = trained.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(mean, posterior.mean)
    np.testing.assert_allclose(variance, posterior.covariance.diagonal(axis1=1, axis2=2), rtol=1e-6)
    np.testing.assert_array_equal(trained.get_latent_representation(), mean)
    assert mean.shape == (150, 2)
    assert mean.dtype == variance.dtype == np.float32


@pytest.mark.parametrize("indices", [[5, 0, 5], [-1], np.arange(150) % 7 == 0, pd.Index([3, 4]), np.int64(9)])
def test_indices_choose_cells(trained, indices):
    chosen = np.atleast_1d(np.arange(150)[np.asarray(indices)])
    np.testing.assert_array_equal(
        trained.get_latent_representation(indices=indices), trained.get_latent_representation()[chosen]
    )
    np.testing.assert_array_equal(
        trained.get_elbo(indices=indices, return_mean=False), trained.get_elbo(return_mean=False)[chosen]
    )


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([150], IndexError, r"indices contains 150, but there are 150 cells \(0 to 149\)"),
        ([True, False], ValueError, r"mask of shape \(2,\), but there are 150 cells"),
        ([], ValueError, "indices selects no cells"),
        ([0.5], TypeError, "positions of cells or a mask over them, not float64"),
        (["cell_1"], TypeError, "positions of cells or a mask"),
    ],
)
def test_wrong_indices(fullrank, indices, error, message):
    for method in (fullrank.get_latent_representation, fullrank.get_elbo, fullrank.get_normalized_expression):
        with pytest.raises(error, match=message):
            method(indices=indices)


def test_loadings_are_identified(trained):
    loadings = trained.get_loadings()
    assert list(loadings.index) == list(trained.adata.var_names)
    assert list(loadings.columns) == ["Z_0", "Z_1"]
    gram = loadings.T @ loadings
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-8 * np.trace(gram))
    assert (np.diff(np.diag(gram)) <= 0).all()
    assert (loadings.to_numpy()[np.abs(loadings).to_numpy().argmax(0), [0, 1]] > 0).all()


def test_coefficients_are_named(fullrank):
    coefficients = fullrank.get_coefficients()
    assert list(coefficients.columns) == ["(Intercept)", "batch[T.1]"]
    assert list(coefficients.index) == list(fullrank.adata.var_names)


def test_covariance_and_variance_explained(fullrank):
    loadings = fullrank.get_loadings()
    covariance = fullrank.get_covariance()
    np.testing.assert_allclose(covariance, loadings @ loadings.T)
    part = fullrank.get_covariance(["gene_7", "gene_2"])
    pd.testing.assert_frame_equal(part, covariance.loc[["gene_7", "gene_2"], ["gene_7", "gene_2"]])
    share = fullrank.get_variance_explained()
    assert share.sum() == pytest.approx(1)
    assert share["Z_0"] == pytest.approx(np.square(loadings["Z_0"]).sum() / np.trace(covariance))
    with pytest.raises(
        ValueError, match=r"1 of 2 genes are not in the model: 'CD4'. It has 30 genes.* such as 'gene_0'"
    ):
        fullrank.get_covariance(["gene_1", "CD4"])


def test_truth_is_recovered():
    adata = make_adata(n_obs=2000, n_vars=60)
    model = train(adata, layer="counts", batch_key="batch", size_factor_key="size_factor")
    truth, estimate = adata.varm["true_loadings"], model.get_loadings().to_numpy()
    angles = np.linalg.svd(np.linalg.qr(truth)[0].T @ np.linalg.qr(estimate)[0])[1]
    assert angles.min() > 0.98
    assert (
        np.corrcoef(np.ravel(adata.varm["true_coefficients"]), model.get_coefficients().to_numpy().ravel())[0, 1] > 0.98
    )
    assert np.corrcoef((truth @ truth.T).ravel(), model.get_covariance().to_numpy().ravel())[0, 1] > 0.95


@pytest.mark.parametrize("form", MATRICES.values(), ids=MATRICES)
def test_the_result_does_not_depend_on_the_matrix(adata, fullrank, form):
    adata.layers["counts"] = form(adata.layers["counts"])
    model = train(adata, layer="counts", batch_key="batch")
    np.testing.assert_allclose(model.get_elbo(), fullrank.get_elbo(), atol=1e-3)
    np.testing.assert_allclose(model.get_latent_representation(), fullrank.get_latent_representation(), atol=1e-2)
    new = fullrank.get_latent_representation(adata)
    np.testing.assert_allclose(new, fullrank.get_latent_representation(), atol=1e-3)


class TestRefused:
    """What cannot be made or asked, and what the user is told."""

    def test_more_dimensions_than_cells_or_genes(self, adata):
        setup_anndata(adata)
        with pytest.raises(ValueError, match=r"n_latent=31, but it can be at most 30.*cells \(150\) and genes \(30\)"):
            PLNPCA(adata, n_latent=31)

    @pytest.mark.parametrize(
        ("n_latent", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("2", TypeError)]
    )
    def test_dimensions_that_are_no_number(self, adata, n_latent, error):
        setup_anndata(adata)
        with pytest.raises(error, match=f"n_latent={n_latent!r}, but it must be a whole number of at least 1"):
            PLNPCA(adata, n_latent=n_latent)

    @pytest.mark.parametrize(("argument", "value"), [("posterior", "laplace"), ("likelihood", "binomial")])
    def test_unknown_choices(self, adata, argument, value):
        setup_anndata(adata)
        with pytest.raises(ValueError, match=rf"{argument}='{value}' is not available; choose from \['"):
            PLNPCA(adata, n_latent=2, **{argument: value})

    def test_results_before_training(self, adata):
        setup_anndata(adata)
        model = PLNPCA(adata, n_latent=2)
        for method in (
            model.get_latent_representation,
            model.get_posterior,
            model.get_elbo,
            model.get_loadings,
            model.get_coefficients,
            model.get_covariance,
            model.get_variance_explained,
            model.get_normalized_expression,
            model.posterior_predictive_sample,
            model.annotate,
        ):
            with pytest.raises(RuntimeError, match=r"This PLNPCA is not trained: call train\(\) first"):
                method()


@pytest.mark.filterwarnings("ignore:.* have no counts")
@pytest.mark.parametrize(("n", "p"), [(1, 30), (150, 1), (1, 1), (2, 30)])
@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_the_smallest_data(n, p, posterior):
    adata = make_adata()[:n, :p].copy()
    model = train(adata, n_latent=1, posterior=posterior, layer="counts")
    model.annotate()
    assert np.isfinite(model.get_elbo())
    assert np.isfinite(adata.obsm["X_plnpca"]).all()
    assert np.isfinite(model.get_normalized_expression()).all(axis=None)


@pytest.mark.filterwarnings("ignore:.* have no counts")
def test_cells_genes_and_batches_of_nothing(adata):
    counts = adata.layers["counts"].toarray()
    counts[:4] = 0
    counts[:, :3] = 0
    adata.layers["counts"] = counts
    adata.obs["single"] = ["alone", *["together"] * 149]
    model = train(adata, layer="counts", batch_key="single")
    assert np.isfinite(model.get_elbo(return_mean=False)).all()
    assert np.isfinite(model.get_coefficients()).all(axis=None)
    assert np.isfinite(model.get_loadings()).all(axis=None)
    empty = model.get_latent_representation(return_dist=True)
    assert np.isfinite(empty[0]).all()
    assert (empty[1] > 0).all()
