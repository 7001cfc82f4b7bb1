"""Paths of ranks: scores against independent sums, recovery of a known rank, and nothing lost."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from scpln.core import CountData
from scpln.core import _linalg as linalg
from scpln.inference import fit
from scpln.inference.ranks import _path as path_module
from scpln.inference.ranks import choose, entropies, held_out_cells, n_parameters, rank_path, table_of, thinned
from scpln.inference.ranks._scores import divergences
from scpln.module import make_likelihood


@pytest.fixture(scope="module")
def data():
    rng, n, p, q = np.random.default_rng(0), 300, 40, 3
    loadings = rng.normal(size=(p, q)) * 0.7
    log_rates = 1 + rng.normal(size=(n, q)) @ loadings.T
    return CountData(rng.poisson(np.exp(log_rates)), np.zeros(n), np.ones((n, 1)))


@pytest.fixture(scope="module")
def fitted(data):
    return fit(data, 2, n_threads=1)


def poisson():
    return make_likelihood("poisson", 40)


def ranks_of(data, ranks=(1, 2, 3, 4, 5), **settings):
    return rank_path(data, ranks, poisson, **{"tol": 1e-3, "seed": 0, "n_threads": 1, **settings})


def test_entropies_and_divergences_are_those_of_normal_distributions(fitted):
    covariance = linalg.unpack(fitted.covariance.astype(float), 2).transpose(2, 0, 1)
    expected = [scipy.stats.multivariate_normal(np.zeros(2), each).entropy() for each in covariance]
    np.testing.assert_allclose(entropies(fitted), expected, rtol=1e-6)
    normal = torch.distributions.MultivariateNormal
    posterior = normal(torch.tensor(fitted.mean, dtype=torch.float64), torch.tensor(covariance))
    kl = torch.distributions.kl_divergence(
        posterior, normal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    )
    np.testing.assert_allclose(divergences(fitted), kl, rtol=1e-5)


def test_parameters_are_counted():
    """As the dimension of the matrices C Cᵀ of rank q, by their tangent space at a random C, and of B."""
    p, q, d = 7, 3, 2
    c = np.random.default_rng(0).normal(size=(p, q))
    moves = [np.outer(e, c[:, k]) + np.outer(c[:, k], e) for e in np.eye(p) for k in range(q)]
    assert n_parameters(p, d, q) == p * d + np.linalg.matrix_rank(np.array([move.ravel() for move in moves]))


def test_table_has_the_signs_of_r(data):
    path = ranks_of(data)
    table, fits = table_of(path, 1), [each.fit for each in path]
    bounds = np.array([each.elbo.sum() for each in fits])
    k = np.array([40 * (1 + q) - q * (q - 1) / 2 for q in range(1, 6)])
    np.testing.assert_allclose(table["bic"], bounds - 0.5 * k * np.log(300), rtol=1e-12)
    np.testing.assert_allclose(table["icl"], table["bic"] - [entropies(each).sum() for each in fits], rtol=1e-12)
    assert (np.diff(table["bound"]) > 0).all()
    assert choose(table, "bic") == choose(table, "icl") == 3
    assert choose(table, "bound") == 5


def test_thinned_counts_are_independent_halves(data):
    parts = thinned(data, seed=1)
    train, test = (part.counts.toarray() for part in (parts.train, parts.test))
    np.testing.assert_array_equal(train + test, data.counts)
    np.testing.assert_allclose(parts.train.offsets, np.log(0.5))
    again = thinned(data, seed=1)
    assert (again.train.counts != parts.train.counts).nnz == 0
    counts = np.random.default_rng(0).poisson(4.0, (400, 100))
    halves = thinned(CountData(counts, np.zeros(400), np.ones((400, 1))), seed=0)
    correlation = np.corrcoef(halves.train.counts.toarray().ravel(), halves.test.counts.toarray().ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(counts.size)


def test_score_is_the_mean_over_draws_of_the_posterior(data):
    parts = thinned(data, seed=0)
    part = fit(parts.train, 2, n_threads=1)
    covariance = linalg.unpack(part.covariance.astype(float), 2).transpose(2, 0, 1)
    rng, y = np.random.default_rng(0), parts.test.counts.toarray()
    roots, total = np.linalg.cholesky(covariance), np.zeros(300)
    for _ in range(2000):
        z = part.mean + np.einsum("nab,nb->na", roots, rng.normal(size=(300, 2)))
        rates = np.exp(np.log(0.5) + part.coefficients[:, 0] + z @ part.loadings.T)
        total += scipy.stats.poisson.logpmf(y, rates).sum(1) / 2000
    np.testing.assert_allclose(parts.score(part, poisson(), 1), total, atol=0.3)
    np.testing.assert_allclose(parts.score(part, poisson(), 1).mean(), total.mean(), atol=0.02)


def test_the_path_ends_where_fits_from_scratch_do(data):
    for each in ranks_of(data, tol=1e-4):
        alone = fit(data, each.rank, n_threads=1)
        np.testing.assert_allclose(each.fit.elbo.mean(), alone.elbo.mean(), atol=5e-3)


def test_a_start_of_more_dimensions_is_cut_to_its_leading_ones(data, fitted):
    large = fit(data, 4, n_threads=1)
    again = fit(data, 2, start=large, n_threads=1)
    np.testing.assert_allclose(again.elbo.mean(), fitted.elbo.mean(), atol=5e-3)
    same = fit(data, 4, start=large, n_threads=1)
    assert len(same.history["elbo"]) < 6
    np.testing.assert_allclose(same.elbo.mean(), large.elbo.mean(), atol=2e-3)


@pytest.mark.parametrize("held_out", [thinned, held_out_cells])
def test_held_out_counts_find_the_rank(data, held_out):
    table = table_of(ranks_of(data, held_out=held_out(data, seed=0)), 1)
    assert choose(table, "thinning", one_se=held_out is held_out_cells) == 3
    assert table["held_out_se"].min() == 0


def test_a_rank_that_fails_does_not_lose_the_others(data, monkeypatch):
    real = path_module.fit_gaussians

    def sometimes(data, rank, *args, **settings):
        if rank == 2:
            message = "no"
            raise FloatingPointError(message)
        return real(data, rank, *args, **settings)

    monkeypatch.setattr(path_module, "fit_gaussians", sometimes)
    path = ranks_of(data, (1, 2, 3))
    assert [each.fit is None for each in path] == [False, True, False]
    table = table_of(path, 1)
    assert table.loc[2, "reason"] == "failed: FloatingPointError: no"
    assert choose(table, "bic") == 3


def test_ctrl_c_keeps_the_ranks_that_are_done(data, monkeypatch):
    real = path_module.fit_gaussians

    def interrupted(data, rank, *args, **settings):
        if rank == 3:
            raise KeyboardInterrupt
        return real(data, rank, *args, **settings)

    monkeypatch.setattr(path_module, "fit_gaussians", interrupted)
    assert [each.rank for each in ranks_of(data)] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        ranks_of(data, (3, 4))


def test_one_standard_error():
    table = pd.DataFrame(
        {"held_out": [-3, -1.02, -1, np.nan], "held_out_se": [0.1, 0.05, 0, np.nan]}, index=[1, 2, 3, 4]
    )
    assert choose(table, "cells") == 3
    assert choose(table, "cells", one_se=True) == 2
