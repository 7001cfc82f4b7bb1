"""Posteriors of counts on a tree from an encoder, beside the optimal ones of the same model."""

import numpy as np
import pytest
import torch

from scpln.model import PLNTree

from .test_pln_tree import TREE, fitted, table


def amortized(adata, steps):
    model = PLNTree(adata, TREE, amortized=True, encoder_hidden=[16])
    model.train(n_steps=steps, progress=False)
    return model


@pytest.fixture(scope="module")
def models():
    return fitted(table()), amortized(table(), 150)


def test_bounds_are_below_those_of_the_optimal_posteriors(models):
    exact, encoded = models
    np.testing.assert_array_equal(encoded.module.scale, exact.module.scale)  # of the same parameters
    for adata in (None, table(40, seed=5)):
        gap = exact.get_elbo(adata, return_mean=False) - encoded.get_elbo(adata, return_mean=False)
        assert gap.min() > -1e-6
        assert gap.mean() < 0.6
        assert encoded.get_elbo(adata) < encoded.get_iw_bound(adata, n_samples=500)
    assert encoded.get_iw_bound(n_samples=2000) == pytest.approx(exact.get_iw_bound(n_samples=2000), abs=0.02)
    start = amortized(table(), 1)
    assert encoded.get_elbo() > start.get_elbo() + 0.1


def test_the_reported_bound_is_that_of_its_terms(models):
    encoded = models[1]
    terms, posterior = encoded.get_bound_terms(), encoded.get_posterior()
    np.testing.assert_allclose(terms["elbo"], encoded.get_elbo(return_mean=False))
    data = encoded._read(None).data
    draws = posterior.sample(4000, seed=0)
    eta = encoded.module.decode(draws, data.design)[0].numpy() + data.offsets[:, None]
    counts = np.asarray(encoded.adata.X, np.float64)
    log_counts = counts * eta - np.exp(eta) - torch.lgamma(torch.from_numpy(counts) + 1).numpy()
    prior = encoded.module.generative.prior.log_prob(torch.from_numpy(draws)).numpy()
    values = log_counts.sum(-1) + prior - posterior.log_prob(draws)
    error = values.std(0) / 4000**0.5
    assert (encoded.get_elbo(return_mean=False) < values.mean(0) + 4 * error).all()
    assert encoded.get_elbo() == pytest.approx(values.mean(), abs=0.1)  # expectations of log-sum-exp are bounded


def test_levels_are_a_chain_backwards(models):
    encoded = models[1]
    levels = encoded.contrasts.levels
    precision = np.linalg.inv(encoded.get_posterior().covariance)
    first, second, third = levels
    assert np.abs(precision[:, first, second]).max() > 1e-3
    np.testing.assert_allclose(precision[:, first, third], 0, atol=1e-7)


def test_samples_do_not_depend_on_each_other(models):
    encoded, new = models[1], table(40, seed=5)
    one = encoded.get_posterior(new, indices=[3])
    np.testing.assert_allclose(one.mean, encoded.get_posterior(new).mean[[3]], atol=1e-10)
    np.testing.assert_allclose(encoded.get_posterior(table()).mean, encoded.get_posterior().mean, atol=1e-10)


def test_saving_and_loading(models, tmp_path):
    encoded, new = models[1], table(10, seed=5)
    encoded.save(tmp_path / "model")
    other = PLNTree.load(tmp_path / "model", adata=False)
    assert other.amortized
    np.testing.assert_array_equal(other.get_elbo(new, return_mean=False), encoded.get_elbo(new, return_mean=False))
    assert len(other.history["stochastic_bound"]) == 15
    assert other.stop_reason.endswith("150 stochastic steps")


def test_an_encoder_is_asked_for():
    with pytest.raises(ValueError, match=r"encoder_hidden=.* needs amortized=True"):
        PLNTree(table(), TREE, encoder_hidden=[16])
