"""Posteriors of counts on a tree from an encoder, beside the optimal ones of the same model."""

import numpy as np
import pytest
import torch

from scpln.inference.tree._blocks import BlockLayout
from scpln.model import PLNTree
from scpln.module import Batch, TreeEncoder
from scpln.train import SimulatedBatches

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


def test_refined_posteriors_are_the_optimal_ones(models):
    exact, encoded = models
    for adata in (None, table(10, seed=5)):
        refined = encoded.get_elbo(adata, refine=1, return_mean=False)
        np.testing.assert_allclose(refined, exact.get_elbo(adata, return_mean=False), atol=1e-6)


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


def test_an_encoder_starts_from_what_was_observed(models):
    contrasts = models[0].contrasts
    random = np.random.default_rng(0)
    root = random.standard_normal((9, 9)) + 2 * np.eye(9)
    precision, coefficients = root @ root.T, random.standard_normal((9, 2))
    counts = random.poisson(3.0, (5, 9))
    counts[0, :] = 0
    offsets, design = random.standard_normal(5), np.column_stack([np.ones(5), random.standard_normal(5)])
    encoder = TreeEncoder(contrasts, 2, hidden=[4])
    encoder.set_model(coefficients, precision)
    with torch.no_grad():
        loc, scale, _ = encoder(Batch.from_arrays(counts, offsets, design, dtype=torch.float64))
    nodes, tree = contrasts.node_counts(counts), contrasts.tree
    weights = nodes + 0.5
    for node in tree.inner[1:]:
        weights[nodes[:, node - 1] == 0, tree.children[node][:, None] - 1] = 0
    layout = BlockLayout(contrasts)
    observed = layout.dense(layout.of_weights(weights, 1e-8 * np.diagonal(precision)))
    np.testing.assert_allclose(np.linalg.inv(scale @ scale.mT), precision + observed, rtol=1e-6, atol=1e-8)
    assert (np.triu(scale, 1) == 0).all()
    shares = contrasts.log_shares(design @ coefficients.T)
    z, top = np.zeros_like(shares), contrasts.top - 1
    z[:, top] = np.log(nodes[:, top] + 0.5 * np.exp(np.minimum(shares[:, top] + offsets[:, None], 0)))
    z[:, top] -= offsets[:, None]
    for node in tree.inner[1:]:
        own = tree.children[node] - 1
        z[:, own] = np.log(nodes[:, own] + 0.5 * len(own) * np.exp(shares[:, own]))
    response = np.einsum("nij,nj->ni", observed, z @ contrasts.matrix - design @ coefficients.T)
    expected = np.linalg.solve(precision + observed, response[..., None])[..., 0]
    np.testing.assert_allclose(loc, expected, rtol=1e-6, atol=1e-8)


def test_drawn_samples_have_the_moments_of_the_model(models):
    encoded = models[1]
    data, generative = encoded._read(None).data, encoded.module.generative
    cells, batch = next(iter(SimulatedBatches(data, generative, 40_000, dtype=torch.float64)))
    np.testing.assert_array_equal(batch.design, data.design[cells])
    top = encoded.contrasts.top - 1
    counts = encoded.contrasts.node_counts(batch.counts.dense.numpy())[:, top]
    variances = generative.prior.total_covariance().numpy().diagonal()[: len(top)]
    mean = np.exp((batch.design.numpy() @ encoded.module.coefficients.numpy().T)[:, : len(top)] + variances / 2)
    np.testing.assert_allclose((counts / mean).mean(0), 1, rtol=0.05)
