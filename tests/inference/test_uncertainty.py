"""Covariances of genes' parameters, and what follows for log-rates and states, against sums, draws and finite differences."""

import numpy as np
import pytest
import scipy.sparse as sp

from scpln.core import CountData, threads
from scpln.core import _linalg as linalg
from scpln.inference import fit, infer, make_cell_problem
from scpln.inference.newton import FAMILIES, CellStates, GeneParameters
from scpln.inference.uncertainty import GeneUncertainty, gene_information
from scpln.inference.uncertainty._prior import gene_precision
from scpln.module import make_likelihood

Q = 2


def counts(n=150, p=40, seed=0, n_covariates=1):
    random = np.random.default_rng(seed)
    design = np.column_stack([np.ones(n), *(random.normal(size=(n_covariates, n)))])
    loadings, coefficients = random.normal(0, 0.6, (p, Q)), random.normal(0.3, 0.4, (p, 1 + n_covariates))
    states = random.normal(size=(n, Q))
    eta = design @ coefficients.T + states @ loadings.T
    return CountData(sp.csr_matrix(random.poisson(np.exp(eta))), np.zeros(n), design), eta


def problem_of(data, result, pool, likelihood="poisson"):
    problem = make_cell_problem(data, FAMILIES["fullrank"](Q), make_likelihood(likelihood, data.n_genes), pool, 37)
    genes = GeneParameters(result.coefficients, result.loadings, result.spread)
    return problem, genes, CellStates.known(result.mean, result.covariance)


def test_information_is_the_sum_over_cells():
    data, _ = counts(n_covariates=2)
    result = fit(data, Q, n_threads=1)
    with threads(2) as pool:
        problem, genes, cells = problem_of(data, result, pool)
        information = linalg.unpack(gene_information(problem, genes, cells), 3 + Q)
    v = linalg.unpack(cells.variance, Q).transpose(2, 0, 1)
    inputs = np.hstack([data.design, cells.mean])
    for gene in (0, 7, 39):
        b, c = genes.coefficients[gene], genes.loadings[gene]
        explained = np.einsum("a,nab,b->n", c, v, c)
        rate = np.exp(data.design @ b + cells.mean @ c + explained / 2)
        without = np.linalg.inv(np.linalg.inv(v) - rate[:, None, None] * np.outer(c, c))
        weight = rate / (1 + rate * np.einsum("a,nab,b->n", c, without, c))
        assert information[:, :, gene] == pytest.approx((inputs * weight[:, None]).T @ inputs, rel=1e-8)


def test_moments_of_log_rates_are_those_of_draws():
    data, _ = counts(n=60, p=5)
    result = fit(data, Q, n_threads=1)
    random = np.random.default_rng(1)
    with threads(1) as pool:
        problem, genes, cells = problem_of(data, result, pool)
        found = GeneUncertainty.of(problem, genes, cells, np.zeros(5, int))
    mean, variance = found.log_rate_moments(data.design, cells.mean, cells.variance, [3, 1])
    n_draws, i = 200_000, 17
    v = linalg.unpack(cells.variance[i : i + 1], Q)[:, :, 0]
    z = random.multivariate_normal(cells.mean[i], v, n_draws)
    for column, gene in enumerate((3, 1)):
        s = linalg.unpack(found.covariance[gene : gene + 1], 2 + Q)[:, :, 0]
        drawn = random.multivariate_normal(genes.stacked[gene], s, n_draws)
        eta = drawn[:, :2] @ data.design[i] + (drawn[:, 2:] * z).sum(1)
        assert mean[i, column] == pytest.approx(eta.mean(), abs=0.01)
        assert variance[i, column] == pytest.approx(eta.var(), rel=0.02)


def test_states_move_with_genes_as_finite_differences_say():
    data, _ = counts(n=60, p=30)
    result = fit(data, Q, n_threads=1)
    with threads(1) as pool:
        problem, genes, cells = problem_of(data, result, pool)
        found = GeneUncertainty.of(problem, genes, cells, np.zeros(30, int))
        wider = linalg.unpack(found.state_covariance(problem, cells), Q)
    added, step = np.zeros((60, Q, Q)), 1e-3
    for gene in range(30):
        moves = []
        for parameter in range(2 + Q):
            ends = []
            for sign in (-1, 1):
                b, c = genes.coefficients.copy(), genes.loadings.copy()
                (b if parameter < 2 else c)[gene, parameter % 2] += sign * step
                ends.append(infer(data, b, c, n_threads=1)[0].astype(float))
            moves.append((ends[1] - ends[0]) / (2 * step))
        s = linalg.unpack(found.covariance[gene : gene + 1], 2 + Q)[:, :, 0]
        added += np.einsum("kna,kl,lnb->nab", np.array(moves), s, np.array(moves))
    mine = np.einsum("aan->n", wider - linalg.unpack(cells.variance, Q))
    assert mine.sum() == pytest.approx(np.einsum("naa->", added), rel=0.1)
    assert np.corrcoef(mine, np.einsum("naa->n", added))[0, 1] > 0.9


def test_the_prior_is_that_which_the_fit_learned():
    data, _ = counts(n=300, p=80, n_covariates=2)
    result = fit(data, Q, prior="learned", tol=1e-6)
    codes = np.zeros(80, int)
    with threads(1) as pool:
        problem, genes, cells = problem_of(data, result, pool)
        information = linalg.unpack(gene_information(problem, genes.known(0.0), cells), 3 + Q)
    precision = gene_precision(genes, np.einsum("aap->ap", information)[:3].T, codes)
    assert precision[3:, 3:, 0] == pytest.approx(result.prior.precision[0], rel=0.05, abs=0.05)
    assert np.diag(precision[:, :, 5])[:3] == pytest.approx(result.prior.weight[0], rel=0.1)
    assert not gene_precision(GeneParameters(genes.coefficients, genes.loadings), information[0, :3].T, codes).any()


@pytest.mark.parametrize(("likelihood", "prior"), [("poisson", "learned"), ("poisson", "none"), ("nb", "none")])
def test_intervals_hold_the_truth(likelihood, prior):
    data, truth = counts(n=200, p=120, seed=3)
    result = fit(data, Q, prior=prior)
    with threads(1) as pool:
        problem, genes, cells = problem_of(data, result, pool, likelihood)
        found = GeneUncertainty.of(problem, genes, cells, np.zeros(120, int))
    shares = []
    for parameters in (found, GeneUncertainty.none(genes)):
        mean, variance = parameters.log_rate_moments(data.design, cells.mean, cells.variance)
        shares.append((np.abs(truth - mean) < 1.645 * np.sqrt(variance)).mean())
    assert shares[1] < 0.75
    assert 0.86 < shares[0] < 0.94 if likelihood == "poisson" else shares[0] > shares[1]


def test_a_gene_that_no_cell_has_is_uncertain():
    data, _ = counts(p=6)
    dense = data.counts.toarray()
    dense[:, 2] = 0
    data = CountData(sp.csr_matrix(dense), data.offsets, data.design)
    with threads(1) as pool:
        problem, genes, cells = problem_of(data, fit(data, Q), pool)
        found = GeneUncertainty.of(problem, genes, cells, np.zeros(6, int))
    variance = found.log_rate_moments(data.design, cells.mean, cells.variance)[1].mean(0)
    assert np.isfinite(variance).all()
    assert variance[2] > 100 * np.delete(variance, 2).max()
