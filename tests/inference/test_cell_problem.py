"""Properties of cells under given genes that hold for every likelihood: what query mapping and others are written against."""

import numpy as np
import pytest
import scipy.sparse as sp

from scpln.core import CountData, threads
from scpln.inference import make_cell_problem
from scpln.inference.newton import FAMILIES, CellStates, GeneParameters
from scpln.module import LIKELIHOODS, make_likelihood

N, P, Q = 40, 6, 2


def draw(name, seed=0):
    random = np.random.default_rng(seed)
    design = np.column_stack([np.ones(N), random.normal(size=N)])
    genes = GeneParameters(random.normal(0.5, 0.3, (P, 2)), random.normal(0, 0.4, (P, Q)))
    eta = design @ genes.coefficients.T + random.normal(size=(N, Q)) @ genes.loadings.T
    values = eta + random.normal(size=(N, P)) if name == "gaussian" else random.poisson(np.exp(eta))
    return CountData(sp.csr_matrix(values), random.normal(0, 0.1, N), design), genes


@pytest.fixture(params=LIKELIHOODS)
def name(request):
    return request.param


def solved(pool, name, family, batch_size=None):
    data, genes = draw(name)
    family = FAMILIES[family](Q)
    problem = make_cell_problem(data, family, make_likelihood(name, P), pool, batch_size)
    cells = CellStates.at(np.zeros((N, Q)), family, 0.1, np.float64)
    problem.optimize_posteriors(genes, cells)
    return problem, genes, cells


def total(problem, genes, cells):
    return problem.bound(genes, cells.mean, problem.family.covariance(cells.variance)).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_slopes_are_derivatives_of_the_bound(name, family):
    with threads(2) as pool:
        problem, genes, cells = solved(pool, name, family, batch_size=7)
        slopes = problem.slopes(genes, cells, np.array([True, True]))
        step = 1e-4
        for gene, column in [(0, 0), (3, 1)]:
            bounds = []
            for sign in (-1, 1):
                moved = genes.coefficients.copy()
                moved[gene, column] += sign * step
                bounds.append(total(problem, GeneParameters(moved, genes.loadings), cells))
            numeric = (bounds[1] - bounds[0]) / (2 * step)
            assert slopes.gradient[gene, column] == pytest.approx(numeric, rel=2e-3, abs=2e-3)
        assert (np.linalg.eigvalsh(slopes.curvature) > -1e-9).all()


def test_posteriors_are_optimal(name):
    random = np.random.default_rng(1)
    with threads(1) as pool:
        problem, genes, cells = solved(pool, name, "fullrank")
        best = total(problem, genes, cells)
        for _ in range(5):
            moved = cells.take(np.arange(N))
            moved.mean += 0.05 * random.normal(size=moved.mean.shape)
            assert total(problem, genes, moved) < best + 1e-3


def test_blocks_and_threads_do_not_matter(name):
    with threads(1) as one, threads(2) as two:
        whole, genes, cells = solved(one, name, "fullrank")
        parts, _, same = solved(two, name, "fullrank", batch_size=3)
        np.testing.assert_allclose(same.mean, cells.mean, atol=1e-4)
        columns = np.array([False, True])
        expected, found = whole.slopes(genes, cells, columns), parts.slopes(genes, cells, columns)
        np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(found.curvature, expected.curvature, rtol=1e-8, atol=1e-8)


def test_derivatives_of_single_cells(name):
    """A function of blocks can keep what belongs to cells; together they give the sums."""
    with threads(2) as pool:
        problem, genes, cells = solved(pool, name, "fullrank", batch_size=11)
        scores = np.full((N, P), np.nan)

        def keep(some, slope, weight):
            scores[some] = slope
            return weight.sum(0)

        weights = problem.sum_derivatives(keep, genes, cells)
        slopes = problem.slopes(genes, cells, np.array([True, False]))
    np.testing.assert_allclose(scores.sum(0), slopes.gradient[:, 0])
    if name in ("poisson", "gaussian"):  # others may have negative weights, which count as none in curvatures
        np.testing.assert_allclose(weights, slopes.curvature[:, 0, 0])
