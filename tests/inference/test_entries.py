"""Properties of offsets that every entry has of its own, and of entries that were not observed."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scpln.core import threads
from scpln.inference import (
    CountData,
    Entries,
    as_batch,
    elbo,
    elbo_likelihood,
    fit,
    infer,
    infer_likelihood,
    log_weights,
)
from scpln.inference.newton.general import in_unit
from scpln.inference.newton.poisson._start import Totals, regress
from scpln.module import GaussianPosterior, Generative, LinearDecoder, make_likelihood

from .conftest import draw
from .modalities import LIKELIHOOD_NAMES

N, P, Q = 120, 30, 2


@pytest.fixture(scope="module")
def patchy() -> tuple[CountData, dict]:
    """Poisson counts with offsets of entries, three in ten of which were not observed."""
    data, truth = draw(N, P, Q, 2, seed=3, level=1.0)
    random = np.random.default_rng(4)
    offsets, observed = 0.5 * random.standard_normal((N, P)), random.random((N, P)) > 0.3
    eta = data.gene_offsets(slice(None)) + offsets + data.design @ truth["coefficients"].T
    counts = random.poisson(np.exp(eta + truth["latent"] @ truth["loadings"].T)) * observed
    return replace(data, counts=sp.csr_matrix(counts), entries=Entries(offsets, observed)), truth


@pytest.fixture(scope="module")
def fitted(patchy):
    return fit(patchy[0], Q, tol=1e-6)


def only_observed(data: CountData, cell: int) -> tuple[np.ndarray, CountData]:
    """Genes of a cell that were observed, and the cell with these alone, whose offsets are then size factors of groups."""
    genes = np.flatnonzero(data.entries.observed[cell])
    sizes = data.offsets[[cell], None] + data.entries.offsets[[cell]][:, genes]
    counts = sp.csr_matrix(data.counts[[cell]][:, genes])
    return genes, CountData(counts, sizes, data.design[[cell]], groups=np.arange(len(genes)))


@pytest.mark.parametrize("name", LIKELIHOOD_NAMES)
def test_the_bound_is_that_of_the_observed_entries(name, patchy, fitted):
    data, likelihood = patchy[0], make_likelihood(name, P).double()
    everything = elbo_likelihood(data, fitted.coefficients, fitted.loadings, likelihood, fitted.mean, fitted.covariance)
    for cell in (0, 57):
        genes, part = only_observed(data, cell)
        parameters = fitted.coefficients[genes], fitted.loadings[genes], likelihood.subset(torch.from_numpy(genes))
        expected = elbo_likelihood(part, *parameters, fitted.mean[[cell]], fitted.covariance[[cell]])
        np.testing.assert_allclose(everything[cell], expected[0], rtol=1e-12)


def test_the_closed_form_is_that_of_quadrature(patchy, fitted):
    at = fitted.mean, fitted.covariance
    ours = elbo(patchy[0], fitted.coefficients, fitted.loadings, *at)
    theirs = elbo_likelihood(patchy[0], fitted.coefficients, fitted.loadings, make_likelihood("poisson", P), *at)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    np.testing.assert_allclose(ours.mean(), np.mean(fitted.elbo), atol=1e-3)


@pytest.mark.parametrize("name", ["poisson", "nb"])
def test_posteriors_are_those_of_the_observed_entries(name, patchy):
    data, truth = patchy
    likelihood = make_likelihood(name, P).double()
    mean, covariance = infer_likelihood(data, truth["coefficients"], truth["loadings"], likelihood)
    for cell in (3, 90):
        genes, part = only_observed(data, cell)
        parameters = truth["coefficients"][genes], truth["loadings"][genes]
        expected = infer_likelihood(part, *parameters, likelihood.subset(torch.from_numpy(genes)))
        np.testing.assert_allclose(mean[cell], expected[0][0], atol=1e-4)
        np.testing.assert_allclose(covariance[cell], expected[1][0], atol=1e-4)


def test_equal_offsets_of_entries_are_size_factors(patchy):
    data = replace(patchy[0], entries=None)
    spread = np.repeat(data.offsets[:, None], P, axis=1)
    by_entry = replace(data, offsets=np.zeros(N), entries=Entries(spread))
    expected, actual = fit(data, Q, tol=1e-7), fit(by_entry, Q, tol=1e-7)
    np.testing.assert_allclose(actual.coefficients, expected.coefficients, atol=5e-3)
    np.testing.assert_allclose(actual.loadings, expected.loadings, atol=5e-3)
    np.testing.assert_allclose(actual.elbo.mean(), expected.elbo.mean(), atol=1e-3)
    at = expected.coefficients, expected.loadings, expected.mean, expected.covariance
    np.testing.assert_allclose(elbo(by_entry, *at), elbo(data, *at), rtol=1e-12)


def test_offsets_of_entries_and_groups_add_up(patchy):
    """Three modalities of which a cell lacks one, with entries; and the same said by groups alone."""
    random, groups = np.random.default_rng(0), np.arange(P) % 3
    data = patchy[0]
    sizes = 0.3 * random.standard_normal((N, 3))
    both = CountData(data.counts, sizes, data.design, groups=groups, entries=data.entries)
    together = np.where(data.entries.observed, data.entries.offsets + sizes[:, groups], -60.0)
    one = CountData(data.counts, together, data.design, groups=np.arange(P))
    np.testing.assert_allclose(both.exposures, one.exposures, rtol=1e-12)
    at = np.ones((P, 2)), np.full((P, Q), 0.3), np.zeros((N, Q)), np.ones((N, 3)) * [1, 0, 1]
    np.testing.assert_allclose(elbo(both, *at), elbo(one, *at), rtol=1e-12)


def test_the_start_is_a_regression_on_observed_entries(patchy):
    """Of an intercept alone: observed counts over observed exposures, by hand."""
    data = replace(patchy[0], design=np.ones((N, 1)))
    with threads(1) as pool:
        start = regress(data, Totals.of(data, pool, 32), pool, 32)
    exposure = np.exp(data.offsets[:, None] + data.entries.offsets) * data.entries.observed
    total = np.asarray(data.counts.sum(0)).ravel()
    np.testing.assert_allclose(start[:, 0], np.log(total / exposure.sum(0)), rtol=1e-10)


def test_values_at_entries_that_were_not_observed_are_predicted(patchy, fitted):
    data, truth = patchy
    eta = data.design @ truth["coefficients"].T + truth["latent"] @ truth["loadings"].T
    predicted = data.design @ fitted.coefficients.T + fitted.mean @ fitted.loadings.T
    hidden = ~data.entries.observed
    assert np.corrcoef(predicted[hidden], eta[hidden])[0, 1] > 0.85


def test_draws_see_what_the_closed_form_sees(patchy, fitted):
    """The mean of log-weights of a Gaussian posterior is the bound."""
    data = patchy[0]
    decoder = LinearDecoder(fitted.coefficients, fitted.loadings).double()
    generative = Generative(decoder, make_likelihood("poisson", P).double())
    posterior = GaussianPosterior(fitted.mean, fitted.covariance)
    expected = elbo(data, fitted.coefficients, fitted.loadings, fitted.mean, fitted.covariance)
    for cells, weights in log_weights(data, generative, posterior, n_samples=400, seed=0):
        error = weights.std(0) / np.sqrt(400)
        assert (np.abs(weights.mean(0) - expected[cells]) < 5 * error + 1e-6).mean() > 0.98


def test_subsets_and_batches_keep_entries(patchy):
    data = patchy[0]
    some = np.array([2, 5, 100])
    part = data.subset(some)
    np.testing.assert_array_equal(part.gene_offsets(slice(None)), data.gene_offsets(some))
    batch = as_batch(data, data.counts[some], some, dtype=torch.float64)
    np.testing.assert_allclose(batch.gene_offsets, data.gene_offsets(some))
    features = batch.entry_features.numpy()
    np.testing.assert_array_equal(features[:, P:], ~data.entries.observed[some])
    assert np.abs(features).max() < 10
    ours = infer(part, np.ones((P, 2)), np.full((P, Q), 0.3))
    theirs = infer(data, np.ones((P, 2)), np.full((P, Q), 0.3))
    np.testing.assert_allclose(ours[0], theirs[0][some], atol=1e-4)


def test_offsets_of_real_values_have_their_unit(patchy):
    data = replace(patchy[0], entries=Entries(patchy[0].entries.offsets))
    scaled = in_unit(data, 2.0)
    np.testing.assert_allclose(scaled.gene_offsets(slice(None)), data.gene_offsets(slice(None)) / 2)


def test_wrong_shapes_are_refused(patchy):
    data = patchy[0]
    with pytest.raises(ValueError, match=r"entries have shape \(120, 29\), but counts \(120, 30\)"):
        replace(data, entries=Entries(np.zeros((N, P - 1))))
    with pytest.raises(ValueError, match=r"offsets have shape \(2, 3\), but observed \(3, 2\)"):
        Entries(np.zeros((2, 3)), np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="leave entries out"):
        Entries()
