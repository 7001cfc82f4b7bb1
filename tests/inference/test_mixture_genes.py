"""Genes under a mixture prior: against finite differences, the fit under N(0, I), and laws."""

import numpy as np
import pytest
import scipy.sparse as sp

from scpln.core import CountData, threads
from scpln.inference import fit_gaussians, gaussian_elbo
from scpln.inference.mixture import Components, fit_genes, infer_mixture
from scpln.inference.mixture._genes import _model
from scpln.inference.newton import GeneParameters, GenePrior
from scpln.module import LIKELIHOODS, StandardNormal, make_likelihood, mixture_posterior

N, P, Q = 90, 12, 2
TWO = Components(
    np.array([[1.2, 0.0], [-1.0, 0.5]]),
    np.array([[[0.3, 0.1], [0.1, 0.4]], [[0.2, 0], [0, 0.8]]]),
    np.array([0.4, 0.6]),
)
NORMAL = Components(np.zeros((1, Q)), np.eye(Q)[None], np.ones(1))


def draw(name, seed=0):
    """Cells of the two components, with a covariate."""
    random = np.random.default_rng(seed)
    design = np.column_stack([np.ones(N), random.normal(size=N)])
    genes = GeneParameters(random.normal(0.5, 0.3, (P, 2)), random.normal(0, 0.5, (P, Q)))
    component = random.choice(2, size=N, p=TWO.weights)
    noise = np.einsum("nab,nb->na", np.linalg.cholesky(TWO.covariance)[component], random.normal(size=(N, Q)))
    eta = design @ genes.coefficients.T + (TWO.loc[component] + noise) @ genes.loadings.T
    values = eta + random.normal(size=(N, P)) if name == "gaussian" else random.poisson(np.exp(eta))
    return CountData(sp.csr_matrix(values), random.normal(0, 0.1, N), design), genes


@pytest.fixture(params=LIKELIHOODS)
def name(request):
    return request.param


def expected(data, genes, likelihood, cells):
    """Sum over cells of the expected log-probability of their counts at given posteriors, by the bound of each component."""
    posterior, total = mixture_posterior(cells.probabilities, cells.mean, cells.covariance), 0.0
    for weights, part in zip(cells.weights.T, posterior.components, strict=True):
        linear = genes.coefficients, genes.loadings
        bound = gaussian_elbo(data, *linear, likelihood, part.mean, part.packed_covariance)
        total += (weights * (bound + part.divergence(StandardNormal(Q)))).sum()
    return total


def test_gradient_is_that_of_the_bound(name):
    data, genes = draw(name)
    likelihood = make_likelihood(name, P)
    cells = infer_mixture(data, genes.coefficients, genes.loadings, likelihood, TWO)
    assert (cells.weights.min(1) > 0.01).sum() > 5  # of both components
    with threads(2) as pool:
        model = _model(data, genes, likelihood, cells, pool, batch_size=7)
    step = 1e-4
    for gene, column in [(0, 0), (3, 1), (5, 2), (7, 3)]:
        values = []
        for sign in (-1, 1):
            moved = genes.stacked
            moved[gene, column] += sign * step
            values.append(expected(data, GeneParameters.unstacked(moved, 2), likelihood, cells))
        numeric = (values[1] - values[0]) / (2 * step)
        assert model.gradient[gene, column] == pytest.approx(numeric, rel=5e-3, abs=5e-3)


def test_curvature_is_that_of_the_bound():
    """Of Poisson counts, but for V C, which is averaged over cells; exactly by the coefficients."""
    data, genes = draw("poisson")
    likelihood, step = make_likelihood("poisson", P), 1e-3
    cells = infer_mixture(data, genes.coefficients, genes.loadings, likelihood, TWO)
    with threads(1) as pool:
        model = _model(data, genes, likelihood, cells, pool, None)
        for column in range(4):
            gradients = []
            for sign in (-1, 1):
                moved = genes.stacked
                moved[:, column] += sign * step
                gradients.append(
                    _model(data, GeneParameters.unstacked(moved, 2), likelihood, cells, pool, None).gradient
                )
            numeric = (gradients[0] - gradients[1]) / (2 * step)
            exact = model.curvature[column, :2].T if column < 2 else model.curvature[column].T
            scale = np.sqrt(model.curvature[column, column] * np.einsum("aap->ap", model.curvature)).T
            error = np.abs(numeric[:, : exact.shape[1]] - exact) / scale[:, : exact.shape[1]]
            assert error.max() < (1e-4 if column < 2 else 0.05)


@pytest.mark.parametrize("prior", ["none", "learned"])
def test_objective_rises_in_every_step(name, prior):
    data, genes = draw(name)
    likelihood, prior = make_likelihood(name, P), GenePrior.of(prior, data, Q)
    found = fit_genes(data, genes.coefficients, genes.loadings, likelihood, TWO, prior, max_iter=4)
    assert len(found.history) > 2
    assert (np.diff(found.history) > 0).all()
    linear = found.coefficients, found.loadings
    bound = infer_mixture(data, *linear, likelihood, TWO).bound.sum()
    density = prior.total_log_density(GeneParameters(*linear))
    assert bound + density == pytest.approx(found.history[-1], abs=1e-2)


def test_a_step_that_lowers_the_objective_is_not_taken():
    data, genes = draw("poisson")
    likelihood, prior = make_likelihood("poisson", P), GenePrior.of("none", data, Q)
    found = fit_genes(data, genes.coefficients, genes.loadings, likelihood, TWO, prior, max_iter=300)
    assert 3 < len(found.history) < 300
    assert (np.diff(found.history) > 0).all()
    again = fit_genes(data, found.coefficients, found.loadings, likelihood, TWO, prior, max_iter=3)
    assert again.history[-1] - again.history[0] < 1e-3


def test_bound_is_that_of_the_posterior(name):
    data, genes = draw(name)
    likelihood = make_likelihood(name, P)
    cells = infer_mixture(data, genes.coefficients, genes.loadings, likelihood, TWO)
    posterior, divergence = mixture_posterior(cells.probabilities, cells.mean, cells.covariance), 0.0
    for k in range(2):
        weights, own = cells.weights, posterior.numbers == k
        r = (weights * own).sum(1)
        slot = own.argmax(1)
        mean, part = cells.mean[np.arange(N), slot], np.zeros((N, Q, Q))
        part[:, *np.tril_indices(Q)] = cells.covariance[np.arange(N), slot]
        part = part + np.tril(part, -1).transpose(0, 2, 1)
        inverse, away = np.linalg.inv(TWO.covariance[k]), mean - TWO.loc[k]
        own_part = np.einsum("ab,nba->n", inverse, part) + np.einsum("na,ab,nb->n", away, inverse, away) - Q
        own_part += np.linalg.slogdet(TWO.covariance[k])[1] - np.linalg.slogdet(part)[1]
        divergence += (r * (0.5 * own_part + np.log(np.maximum(r, 1e-300) / TWO.weights[k]))).sum()
    assert cells.bound.sum() == pytest.approx(expected(data, genes, likelihood, cells) - divergence, abs=1e-2)


@pytest.mark.parametrize("name", ["poisson", "nb", "gaussian"])
def test_one_standard_component_is_the_plain_model(name):
    """Its genes are at their optimum already."""
    data, _ = draw(name)
    likelihood = make_likelihood(name, P)
    fit = fit_gaussians(data, Q, likelihood, tol=1e-6, max_iter=1000)
    found = fit_genes(data, fit.coefficients, fit.loadings, likelihood, NORMAL, fit.prior)
    assert found.history[-1] - found.history[0] < 1e-4 * N
    np.testing.assert_allclose(found.coefficients, fit.coefficients, atol=0.02)
    np.testing.assert_allclose(found.loadings, fit.loadings, atol=0.02)


def test_real_values_have_no_unit():
    data, _ = draw("gaussian")
    found = []
    for unit in (1.0, 1e4):
        scaled = CountData(sp.csr_matrix(data.counts * unit), data.offsets * unit, data.design)
        likelihood = make_likelihood("gaussian", P)
        fit = fit_gaussians(scaled, Q, likelihood, prior="learned")
        genes = fit_genes(scaled, fit.coefficients, fit.loadings, likelihood, TWO, fit.prior)
        found.append(genes.loadings / unit)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)
