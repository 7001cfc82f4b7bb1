"""Expected rates and drawn counts, against Monte Carlo over the posterior."""

import numpy as np
import pandas as pd
import pytest
import scvi
import sparse
from scvi.criticism import PosteriorPredictiveCheck

from scpln.data import _rows
from scpln.model.abilities import _predictive

from .conftest import train


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(_rows, "BLOCK_ENTRIES", 7 * 30)


@pytest.mark.usefixtures("blocks")
def test_normalized_expression_is_the_posterior_mean(trained):
    rates = trained.get_normalized_expression()
    assert isinstance(rates, pd.DataFrame)
    assert (list(rates.index), list(rates.columns)) == (list(trained.adata.obs_names), list(trained.adata.var_names))
    assert rates.to_numpy().dtype == np.float32
    z = trained.get_posterior().sample(4000, seed=1)
    design = np.column_stack([np.ones(150), trained.adata.obs["batch"] == "1"])
    fixed = design @ trained.get_coefficients().to_numpy().T
    for cell in (0, 77, 149):
        draws = np.exp(fixed[cell] + z[:, cell] @ trained.get_loadings().to_numpy().T)
        error = draws.std(0) / np.sqrt(len(draws))
        assert (np.abs(draws.mean(0) - rates.iloc[cell]) < 5 * error + 1e-5).all()


@pytest.mark.usefixtures("blocks")
def test_library_size_scales(fullrank):
    rates = fullrank.get_normalized_expression(return_numpy=True)
    np.testing.assert_allclose(
        fullrank.get_normalized_expression(library_size=10, return_numpy=True), 10 * rates, rtol=1e-6
    )
    totals = fullrank.adata.layers["counts"].toarray().sum(1)
    factors = totals / np.exp(np.log(totals).mean())
    expected = fullrank.get_normalized_expression(library_size="latent", return_numpy=True)
    np.testing.assert_allclose(expected, rates * factors[:, None], rtol=1e-5)
    # With an intercept, the optimum reproduces each gene's total count: with uncertain loadings, to first order.
    np.testing.assert_allclose(expected.sum(0), fullrank.adata.layers["counts"].toarray().sum(0), rtol=0.03)


def test_genes_and_cells_are_chosen_in_order(fullrank):
    rates = fullrank.get_normalized_expression()
    part = fullrank.get_normalized_expression(indices=[9, 2], gene_list=["gene_20", "gene_3"])
    pd.testing.assert_frame_equal(part, rates.iloc[[9, 2]][["gene_20", "gene_3"]])
    with pytest.raises(ValueError, match="1 of 1 genes are not in the model: 'CD4'"):
        fullrank.get_normalized_expression(gene_list="CD4")


def test_transform_batch_moves_cells(fullrank):
    own = fullrank.get_normalized_expression(return_numpy=True)
    zero, one = (fullrank.get_normalized_expression(transform_batch=batch, return_numpy=True) for batch in ("0", "1"))
    in_one = (fullrank.adata.obs["batch"] == "1").to_numpy()
    np.testing.assert_allclose(np.where(in_one[:, None], one, zero), own, rtol=1e-6)
    effect = np.exp(fullrank.get_coefficients()["batch[T.1]"].to_numpy())
    np.testing.assert_allclose(one / zero, np.tile(effect, (150, 1)), rtol=1e-4)
    both = fullrank.get_normalized_expression(transform_batch=["0", "1"], return_numpy=True)
    np.testing.assert_allclose(both, (zero + one) / 2, rtol=1e-5)
    with pytest.raises(ValueError, match=r"'2' is not a category of 'batch'; the model knows \['0', '1'\]"):
        fullrank.get_normalized_expression(transform_batch="2")


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("n_samples", 0, "n_samples=0, but it must be a whole number of at least 1"),
        ("library_size", "observed", "library_size='observed', but it must be a number or 'latent'"),
    ],
)
def test_arguments_that_make_no_sense(fullrank, argument, value, message):
    with pytest.raises(ValueError, match=message):
        fullrank.get_normalized_expression(**{argument: value})


def test_transform_batch_needs_batches(adata):
    with pytest.raises(
        ValueError, match="transform_batch needs batches, and setup_anndata was called without batch_key"
    ):
        train(adata).get_normalized_expression(transform_batch="0")


@pytest.mark.usefixtures("blocks")
def test_draws_of_rates(fullrank):
    draws = fullrank.get_normalized_expression(n_samples=500, return_mean=False, indices=[0, 5, 9], seed=1)
    assert draws.shape == (500, 3, 30)
    mean = fullrank.get_normalized_expression(indices=[0, 5, 9], return_numpy=True)
    assert (np.abs(draws.mean(0) - mean) < 5 * draws.std(0) / np.sqrt(500) + 1e-6).all()
    averaged = fullrank.get_normalized_expression(n_samples=500, indices=[0, 5, 9], seed=1)
    np.testing.assert_allclose(averaged, draws.mean(0), rtol=1e-4)


@pytest.mark.usefixtures("blocks")
def test_drawn_counts_have_the_models_moments(trained):
    n = 400
    counts = trained.posterior_predictive_sample(n_samples=n, indices=np.arange(20))
    assert isinstance(counts, sparse.GCXS)
    assert counts.shape == (20, 30, n)
    drawn = counts.todense().astype(float)
    expected = trained.get_normalized_expression(indices=np.arange(20), library_size="latent", return_numpy=True)
    rates = trained.get_normalized_expression(
        indices=np.arange(20), library_size="latent", n_samples=2000, return_mean=False, seed=3
    )
    error = np.sqrt((expected + rates.var(0)) / n)
    assert (np.abs(drawn.mean(2) - expected) < 5 * error).all()
    np.testing.assert_allclose(drawn.var(2).sum(), (expected + rates.var(0)).sum(), rtol=0.1)


def test_one_draw_has_two_dimensions_and_repeats(fullrank, monkeypatch):
    one = fullrank.posterior_predictive_sample(gene_list=["gene_4", "gene_1"], seed=2)
    assert one.shape == (150, 2)
    again = fullrank.posterior_predictive_sample(gene_list=["gene_4", "gene_1"], seed=2)
    np.testing.assert_array_equal(one.todense(), again.todense())
    monkeypatch.setattr(scvi.settings, "_seed", 2)
    default = fullrank.posterior_predictive_sample(gene_list=["gene_4", "gene_1"])
    np.testing.assert_array_equal(one.todense(), default.todense())


def test_blocks_have_their_own_draws(fullrank, monkeypatch):
    seeds = {_predictive._block_seed(0, slice(start, start + 10)) for start in range(0, 100, 10)}
    assert len(seeds) == 10
    monkeypatch.setattr(_rows, "BLOCK_ENTRIES", 30)
    same_cell = fullrank.posterior_predictive_sample(indices=[3] * 20).todense()
    assert len(np.unique(same_cell, axis=0)) > 10


def test_scvis_posterior_predictive_check_accepts_it(adata):
    model = train(adata)
    check = PosteriorPredictiveCheck(adata, {"PLNPCA": model}, n_samples=3)
    assert check.samples_dataset["PLNPCA"].sizes == {"cells": 150, "features": 30, "samples": 3}
