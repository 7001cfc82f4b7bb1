"""Properties of log size factors that groups of genes have of their own, and of groups that cells lack."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scpln.core._threads import threads
from scpln.inference import (
    ABSENT,
    CountData,
    as_batch,
    elbo,
    elbo_likelihood,
    fit,
    infer,
    infer_likelihood,
    log_weights,
    refine,
    sample_exact,
)
from scpln.inference.expectations._rules import expectations_of
from scpln.inference.newton.poisson._start import Totals, principal_scores, regress
from scpln.module import CountBatch, GaussianPosterior, Generative, LinearDecoder, make_likelihood

from . import reference
from .conftest import draw
from .modalities import LIKELIHOOD_NAMES, draw_joint, take_genes

SIZES = {"poisson": 25, "nb": 15}
FULL_AND_MEAN_FIELD = ["fullrank", "meanfield"]


def grouped(data: CountData, n_groups: int = 3) -> CountData:
    """The same data with equal log size factors of several groups, which alternate from gene to gene."""
    offsets = np.repeat(data.offsets[:, None], n_groups, axis=1)
    return CountData(data.counts, offsets, data.design, groups=np.arange(data.n_genes) % n_groups)


@pytest.fixture(scope="module")
def patchy() -> tuple[CountData, dict]:
    """Poisson counts of two modalities, one of which two in five cells lack."""
    data, truth, _ = draw_joint(120, 2, {"poisson": 40}, d=2, seed=1)
    groups = np.repeat([0, 1], [25, 15])
    random = np.random.default_rng(0)
    offsets = data.offsets[:, [0, 0]] + 0.2 * random.standard_normal((120, 2))
    offsets[:30, 0] = offsets[30:50, 1] = ABSENT
    eta = offsets[:, groups] + data.design @ truth["coefficients"].T + truth["latent"] @ truth["loadings"].T
    return CountData(sp.csr_matrix(random.poisson(np.exp(eta))), offsets, data.design, groups=groups), truth


@pytest.fixture(scope="module")
def fitted(patchy):
    return fit(patchy[0], 2, tol=1e-6)


def without(data: CountData, cell: int) -> tuple[np.ndarray, CountData]:
    """Genes that a cell has, and the cell with these alone."""
    genes = np.flatnonzero(data.offsets[cell, data.groups] > ABSENT)
    return genes, take_genes(data, genes, np.array([cell]))


@pytest.mark.parametrize("posterior", FULL_AND_MEAN_FIELD)
def test_groups_with_equal_sizes_change_nothing(posterior, small):
    expected, actual = fit(small, 3, posterior=posterior), fit(grouped(small), 3, posterior=posterior)
    np.testing.assert_allclose(actual.elbo, expected.elbo, rtol=1e-3)
    np.testing.assert_allclose(actual.elbo.mean(), expected.elbo.mean(), atol=1e-3)
    np.testing.assert_allclose(actual.loadings, expected.loadings, atol=5e-3)
    parameters = expected.coefficients, expected.loadings
    at = *parameters, expected.mean, expected.covariance
    np.testing.assert_allclose(elbo(grouped(small), *at), elbo(small, *at), rtol=1e-12)
    posteriors = (infer(data, *parameters, posterior=posterior) for data in (small, grouped(small)))
    for ours, theirs in zip(*posteriors, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("name", LIKELIHOOD_NAMES)
def test_groups_with_equal_sizes_change_nothing_of_any_likelihood(name, small):
    truth = draw(200, 40, 3, 2)[1]
    likelihood_module = make_likelihood(name, 40).double()
    posteriors = [
        infer_likelihood(data, truth["coefficients"], truth["loadings"], likelihood_module)
        for data in (small, grouped(small))
    ]
    for ours, theirs in zip(*posteriors, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    at = truth["coefficients"], truth["loadings"], likelihood_module, *posteriors[0]
    np.testing.assert_allclose(elbo_likelihood(grouped(small), *at), elbo_likelihood(small, *at), rtol=1e-12)


def test_start_follows_the_sizes_of_each_group(patchy):
    """Poisson regression is that of each modality on the cells that have it, and residuals are those of the rest."""
    data, _ = patchy
    with threads(1) as pool:
        coefficients = regress(data, Totals.of(data, pool, 64), pool, 64)
        for group in (0, 1):
            genes, cells = data.groups == group, np.flatnonzero(data.offsets[:, group] > ABSENT)
            alone = take_genes(data, np.flatnonzero(genes), cells)
            expected = regress(alone, Totals.of(alone, pool, 64), pool, 64)
            np.testing.assert_allclose(coefficients[genes], expected, atol=0.05)
        exact = CountData(data.counts, data.offsets, data.design[:, :1], groups=data.groups)
        intercepts = regress(exact, Totals.of(exact, pool, 64), pool, 64)[:, 0]
        scores = principal_scores(data, coefficients, 2, 0, pool, 64)
    exposure = np.where(data.offsets > ABSENT, np.exp(data.offsets), 0).sum(0)[data.groups]
    np.testing.assert_allclose(intercepts, np.log(np.asarray(data.counts.sum(0)).ravel() / exposure), rtol=1e-12)
    assert np.isfinite(scores).all()


def test_bound_and_its_gradient_are_those_of_the_genes_that_cells_have(patchy, fitted):
    """Against the bound written out in torch, with absent genes left out of each cell."""
    data, _ = patchy
    parameters = [torch.from_numpy(a).requires_grad_() for a in (fitted.coefficients, fitted.loadings)]
    mean, covariance = torch.from_numpy(fitted.mean).double(), reference.unpack(fitted.covariance, 2)
    total = torch.zeros(())
    for cell in range(data.n_cells):
        genes, alone = without(data, cell)
        bound = reference.elbo(alone, *(each[genes] for each in parameters), mean[[cell]], covariance[[cell]])
        np.testing.assert_allclose(fitted.elbo[cell], bound.item(), rtol=1e-10)
        total = total + bound
    for gradient in torch.autograd.grad(total.sum(), parameters):
        assert gradient.abs().max() / data.n_cells < 1e-3


def test_posteriors_are_those_of_the_genes_that_cells_have(patchy, fitted):
    data, _ = patchy
    mean, covariance = infer(data, fitted.coefficients, fitted.loadings)
    np.testing.assert_allclose(mean, fitted.mean, atol=1e-4)
    for cell in (0, 35, 60):
        genes, alone = without(data, cell)
        expected = infer(alone, fitted.coefficients[genes], fitted.loadings[genes])
        np.testing.assert_allclose(mean[cell], expected[0][0], atol=1e-4)
        np.testing.assert_allclose(covariance[cell], expected[1][0], atol=1e-4)


def test_a_fit_with_missing_modalities_is_the_optimum(patchy, fitted):
    assert fitted.converged
    assert (np.diff(fitted.history["elbo"]) > -1e-5).all()
    again = fit(patchy[0], 2, tol=1e-6, seed=5)
    np.testing.assert_allclose(again.elbo.mean(), fitted.elbo.mean(), atol=2e-3)


def test_a_modality_that_no_cell_has_and_a_cell_without_modalities(patchy):
    data, _ = patchy
    offsets, counts = data.offsets.copy(), data.counts.toarray()
    offsets[:, 1] = offsets[3, 0] = ABSENT
    counts[offsets[:, data.groups] <= ABSENT] = 0
    alone = CountData(sp.csr_matrix(counts), offsets, data.design, groups=data.groups)
    result = fit(alone, 2)
    for numbers in (result.coefficients, result.loadings, result.mean, result.covariance, result.elbo):
        assert np.isfinite(numbers).all()
    mean, covariance = infer(alone, result.coefficients, result.loadings)
    np.testing.assert_allclose(mean[3], 0, atol=1e-5)
    np.testing.assert_allclose(covariance[3], [1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(result.elbo[3], 0, atol=1e-2)
    first = take_genes(alone, np.flatnonzero(data.groups == 0))
    np.testing.assert_allclose(result.elbo.mean(), fit(first, 2).elbo.mean(), atol=5e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LIKELIHOOD_NAMES)
def test_absent_genes_add_nothing_to_expectations(name, dtype):
    """Not to values, and not to slopes by log-rates and parameters, wherever the genes' own levels are."""
    p = 6
    likelihood_module = make_likelihood(name, p).double()
    counts = CountBatch.from_counts(np.zeros((2, p)), torch.float64 if dtype is np.float64 else torch.float32)
    mean = np.tile(np.linspace(-10, 12, p), (2, 1)).astype(dtype) + dtype(ABSENT)
    rule = expectations_of(likelihood_module, 12, dtype, requires_grad=True)
    expectation = rule.expect(counts, mean, np.full_like(mean, 2.0))
    largest = 1e-18
    assert np.abs(expectation.value).max() <= largest
    assert np.abs(expectation.slope).max() <= largest
    assert np.abs(expectation.weight).max() <= largest
    assert np.abs(expectation.parameters).max(initial=0.0) <= largest
    assert np.abs(rule.value(counts, mean, np.full_like(mean, 2.0))).max() <= largest


@pytest.mark.parametrize("name", LIKELIHOOD_NAMES)
def test_draws_bounds_and_chains_leave_absent_genes_out(name, patchy):
    """Importance weights, refined Gaussians and exact draws of a cell, with and without the columns that it lacks."""
    data, truth = patchy
    b, c = truth["coefficients"], truth["loadings"]
    results = []
    for genes, cells in ((np.arange(40), slice(35, 36)), (np.flatnonzero(data.groups == 0), slice(35, 36))):
        part = take_genes(data, genes, cells)
        likelihood_module = make_likelihood(name, len(genes)).double()
        model = Generative(LinearDecoder(b[genes], c[genes]), likelihood_module).double().requires_grad_(False)
        gaussian = GaussianPosterior(np.zeros((1, 2)), np.array([[0.3, 0.1, 0.4]]))
        ((_, weights),) = log_weights(part, model, gaussian, n_samples=50)
        (chain,) = sample_exact(part, model, gaussian, n_samples=4, n_warmup=3)
        moved = refine(part, model.float(), gaussian, n_steps=3)
        results.append((weights, chain.z, moved.mean))
    for ours, theirs, atol in zip(*results, (1e-9, 1e-6, 1e-5), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=1e-9)


def test_blocks_of_any_kind_have_the_groups(patchy, tmp_path):
    data, _ = patchy
    batch = as_batch(data, data.rows(30, 34), slice(30, 34), dtype=torch.float64)
    np.testing.assert_array_equal(batch.gene_offsets, data.gene_offsets(slice(30, 34)))
    assert batch.to("cpu").groups.tolist() == data.groups.tolist()
    part = data.subset(np.array([3, 31]))
    np.testing.assert_array_equal(part.gene_offsets(slice(None)), data.gene_offsets(np.array([3, 31])))
    np.testing.assert_array_equal(part.log_sizes @ part.membership.T, part.gene_offsets(slice(None)))


def test_wrong_groups_are_named():
    counts, design = np.zeros((3, 4)), np.ones((3, 1))
    with pytest.raises(ValueError, match=r"expected \(3,\) and \(3, d\), or groups"):
        CountData(counts, np.zeros((3, 2)), design)
    with pytest.raises(ValueError, match=r"groups have shape \(3,\).*expected a code for each gene, \(4,\)"):
        CountData(counts, np.zeros((3, 2)), design, groups=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"offsets \(3,\)"):
        CountData(counts, np.zeros(3), design, groups=np.zeros(4, int))
    with pytest.raises(ValueError, match="groups have 2 at gene 1; expected integer codes from 0 to 1"):
        CountData(counts, np.zeros((3, 2)), design, groups=np.array([0, 2, 1, 0]))
    with pytest.raises(ValueError, match="dtype float64"):
        CountData(counts, np.zeros((3, 2)), design, groups=np.zeros(4))
    with pytest.raises(ValueError, match=r"expected \(3, 2\)"):
        CountData(counts, np.zeros((2, 2)), design, groups=np.zeros(4, int))
