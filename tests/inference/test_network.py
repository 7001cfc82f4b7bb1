"""Sparse networks of genes, against the conditions of their optimum, scikit-learn, and models of which they are special cases."""

import numpy as np
import pytest
from sklearn.covariance import graphical_lasso as of_scikit_learn

from scpln.inference import CountData
from scpln.inference.genespace import fit_pln, infer_pln
from scpln.inference.genespace.network import _fit, _path, _stability, fit_network
from scpln.module.covariances import Diagonal, Full, SparsePrecision, _graphical_lasso

POSTERIORS = ["fullrank", "meanfield"]


def chain(p, partial=-0.4):
    """Precision of a chain, whose log-rates have a variance of 1 given their neighbours."""
    return np.eye(p) + partial * (np.eye(p, k=1) + np.eye(p, k=-1))


def draw(n, p, *, seed=0, level=2.0):
    random = np.random.default_rng(seed)
    log_rates = level + random.multivariate_normal(np.zeros(p), np.linalg.inv(chain(p)), size=n)
    design = np.column_stack([np.ones(n), random.standard_normal(n)])
    return CountData(random.poisson(np.exp(log_rates)), np.zeros(n), design)


@pytest.fixture(scope="module")
def data():
    return draw(80, 6)


@pytest.fixture(scope="module", params=POSTERIORS)
def fitted(request, data):
    return fit_network(data, 0.08, posterior=request.param, tol=1e-9), request.param


def moment(data, result, posterior):
    """Mean second moment of residuals under posteriors, by their covariances, of which those of the cells are inferred anew."""
    cells = infer_pln(data, result.coefficients, result.covariance, posterior=posterior)
    residual = cells.mean - data.design @ result.coefficients.T
    if posterior == "meanfield":
        variances = np.diag(cells.variance.sum(0))
    else:
        precision = result.covariance.precision
        variances = sum(np.linalg.inv(precision + np.diag(weight)) for weight in cells.weight)
    return (residual.T @ residual + variances) / len(residual)


def test_the_conditions_of_the_optimum_hold(data, fitted):
    """S − Σ is ±2 λ where there is an edge, within that where there is none, and zero on the diagonal."""
    result, posterior = fitted
    assert result.converged
    slopes = (moment(data, result, posterior) - result.covariance.dense) / (2 * result.penalty)
    precision, apart = result.covariance.precision, ~np.eye(6, dtype=bool)
    edges = (precision != 0) & apart
    assert 3 < edges.sum() / 2 < 15
    np.testing.assert_allclose(slopes[edges], -np.sign(precision[edges]), atol=1e-3)
    assert np.abs(slopes[~edges & apart]).max() < 1 + 1e-3
    np.testing.assert_allclose(np.diagonal(slopes), 0, atol=1e-3)
    np.testing.assert_allclose(precision @ result.covariance.dense, np.eye(6), atol=1e-9)


def test_no_other_network_is_better(data, fitted):
    result, posterior = fitted

    def objective(precision):
        covariance = SparsePrecision(6)
        covariance.restore({"precision": precision})
        bound = infer_pln(data, result.coefficients, covariance, posterior=posterior).elbo.sum()
        return bound - 80 * result.penalty * covariance.size

    best, random = objective(result.covariance.precision), np.random.default_rng(0)
    for _ in range(10):
        change = 0.02 * random.standard_normal((6, 6))
        assert objective(result.covariance.precision + change + change.T) < best + 1e-4


def test_a_large_penalty_leaves_independent_genes(data, fitted):
    expected = fit_pln(data, Diagonal(6), posterior=fitted[1], tol=1e-8)
    result = fit_network(data, 1e3, posterior=fitted[1], tol=1e-8)
    assert result.covariance.n_edges == 0
    assert result.covariance.n_parameters == 6
    np.testing.assert_allclose(result.elbo.sum(), expected.elbo.sum(), atol=1e-4)


def test_a_small_penalty_is_nearly_none(data, fitted):
    whole = fit_pln(data, Full(6), posterior=fitted[1]).elbo.sum()
    bounds = [fit_network(data, size, posterior=fitted[1]).elbo.sum() for size in (1e-1, 1e-2, 1e-4)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < whole + 1e-3
    np.testing.assert_allclose(bounds[-1], whole, atol=0.1)


def test_order_of_genes_does_not_matter(data, fitted):
    result, posterior = fitted
    order = np.array([3, 0, 5, 1, 4, 2])
    moved = CountData(data.counts[:, order], data.offsets, data.design)
    actual = fit_network(moved, 0.08, posterior=posterior, tol=1e-9).covariance.precision
    np.testing.assert_allclose(actual, result.covariance.precision[np.ix_(order, order)], atol=1e-3)


def test_a_path_ends_where_cold_fits_do(data):
    penalties = [0.2, 0.1, 0.05, 0.02]
    path = fit_network(data, penalties, tol=1e-8).path
    assert path["penalty"] == penalties
    for penalty, n_edges, bound in zip(penalties, path["n_edges"], path["bound"], strict=True):
        cold = fit_network(data, penalty, tol=1e-8)
        assert cold.covariance.n_edges == n_edges
        assert cold.elbo.sum() == pytest.approx(bound, abs=0.01)


def test_criteria_are_by_hand_and_choose(data):
    n, p = 80, 6
    for rule in ("bic", "ebic"):
        result = fit_network(data, rule)
        path = {name: np.array(values) for name, values in result.path.items() if name != "reason"}
        k = 2 * p + p + path["n_edges"]
        np.testing.assert_allclose(path["bic"], path["bound"] - 0.5 * np.log(n) * k)
        np.testing.assert_allclose(path["ebic"], path["bic"] - path["n_edges"] * np.log(p))
        assert result.penalty == path["penalty"][np.argmax(path[rule])]
        assert np.isnan(path["stability"]).all()
    assert path["n_edges"][0] == 0 < path["n_edges"][1]
    assert (np.diff(path["bound"]) > -1e-3).all()
    np.testing.assert_allclose(path["penalty"][29] / path["penalty"][0], 0.1)


@pytest.mark.parametrize("rule", ["bic", "ebic"])
def test_a_path_goes_on_where_its_smallest_penalty_is_the_best(rule, monkeypatch):
    """Strong edges between genes of high counts: the best penalty is less than a tenth of the first."""
    random = np.random.default_rng(0)
    precision = 4 * np.eye(4) + 1.9 * (np.eye(4, k=1) + np.eye(4, k=-1))
    log_rates = 4 + random.multivariate_normal(np.zeros(4), np.linalg.inv(precision), size=400)
    data = CountData(random.poisson(np.exp(log_rates)), np.zeros(400), np.ones((400, 1)))
    monkeypatch.setattr(_path, "N_PENALTIES", 5)
    path = fit_network(data, rule).path
    ratio = 0.1 ** (1 / 4)
    np.testing.assert_allclose(path["penalty"][:5], path["penalty"][0] * ratio ** np.arange(5))
    np.testing.assert_allclose(np.array(path["penalty"][1:]) / path["penalty"][:-1], ratio)
    assert len(path["penalty"]) > 5
    best = int(np.argmax(path[rule]))
    assert best == len(path["penalty"]) - 2  # it ends where the criterion falls
    monkeypatch.setattr(_fit, "MOST_MORE", 1)
    short = fit_network(data, rule)
    assert len(short.path["penalty"]) == 6


@pytest.fixture(scope="module")
def known():
    return draw(500, 20, seed=1)


def test_a_chain_is_recovered(known, monkeypatch):
    monkeypatch.setattr(_path, "N_PENALTIES", 10)
    result = fit_network(known, "ebic")
    truth = chain(20) != 0
    pairs = np.triu_indices(20, 1)
    found = result.covariance.precision[pairs]
    assert (found[truth[pairs]] < 0).all()
    assert (
        found[~truth[pairs]] != 0
    ).mean() < 0.15  # the lasso shrinks, so that its criteria like a few edges too many
    dense = fit_network(known, float(result.path["penalty"][-1])).covariance.precision[pairs]
    ranks = np.abs(dense)
    larger = (ranks[truth[pairs]][:, None] > ranks[~truth[pairs]]).mean()
    assert larger + 0.5 * (ranks[truth[pairs]][:, None] == ranks[~truth[pairs]]).mean() > 0.99


def test_stability_chooses_what_subsamples_agree_on(monkeypatch):
    monkeypatch.setattr(_path, "N_PENALTIES", 6)
    monkeypatch.setattr(_stability, "N_SUBSAMPLES", 6)
    data = draw(150, 8, seed=2)
    result, again = (fit_network(data, "stars", seed=3) for _ in range(2))
    stability = np.array(result.path["stability"])
    known = np.isfinite(stability)
    assert stability[0] > 0.9  # of networks that are nearly empty
    assert (stability[known] <= 1).all()
    assert known.sum() < 6 or (stability >= 0.9).all()
    np.testing.assert_array_equal(stability, again.path["stability"])
    chosen = result.path["penalty"].index(result.penalty)
    assert stability[chosen] >= 0.9 > stability[known][-1]
    assert (np.diff(np.flatnonzero(known)) == 1).all()


def test_subsamples_are_of_the_published_size():
    for n, size in ((50, 40), (144, 115), (145, 120), (10_000, 1000)):
        drawn = _stability.subsamples(n, seed=0)
        assert {len(cells) for cells in drawn} == {size}
        assert all(len(set(cells)) == size for cells in drawn)


def test_one_penalty_that_diverges_does_not_end_the_path(data, monkeypatch):
    run = _path.NetworkMaximizer.run

    def fail(self):
        if self.profile.penalty == 0.05:
            self.profile.coefficients = np.full_like(self.profile.coefficients, np.nan)
            msg = "singular"
            raise np.linalg.LinAlgError(msg)
        run(self)

    expected = fit_network(data, [0.1, 0.02])
    monkeypatch.setattr(_path.NetworkMaximizer, "run", fail)
    result = fit_network(data, [0.1, 0.05, 0.02])
    assert result.path["reason"][1] == "diverged: singular"
    assert result.path["converged"] == [True, False, True]
    assert np.isnan(result.path["bound"][1])
    np.testing.assert_allclose(np.array(result.path["bound"])[[0, 2]], expected.path["bound"], atol=0.01)
    assert result.converged
    assert np.isfinite(result.elbo).all()


@pytest.mark.parametrize("after", [3, 40])
def test_an_interrupt_keeps_what_was_reached(after, data):
    def interrupt(iteration, _bound):
        if iteration == after:
            raise KeyboardInterrupt

    result = fit_network(data, "ebic", on_iteration=interrupt)
    assert result.interrupted
    assert 0 < len(result.path["penalty"]) < 30
    assert np.isfinite(result.elbo).all()


@pytest.mark.parametrize("penalty", [0, -1.0, np.nan, [], [0.1, -0.1], "aic", "0.1", [[0.1]], None])
def test_wrong_penalties_are_refused(penalty, data):
    with pytest.raises(ValueError, match=r"but it must be a number above 0, several, or one of 'bic', 'ebic', 'stars'"):
        fit_network(data, penalty)


class TestGraphicalLasso:
    """The M-step alone."""

    @staticmethod
    def moments():
        random = np.random.default_rng(4)
        for p, n in ((5, 100), (12, 8), (30, 60)):
            residuals = random.standard_normal((n, p)) @ (np.eye(p) + 0.5 * random.standard_normal((p, p)) / np.sqrt(p))
            yield residuals.T @ residuals / n

    @pytest.mark.parametrize("share", [0.02, 0.2, 0.6, 0.95])
    @pytest.mark.parametrize("solver", ["scikit-learn", "proximal gradient"])
    def test_the_conditions_of_its_optimum_hold(self, share, solver, monkeypatch):
        if solver == "proximal gradient":

            def fails(*_args, **_kwargs):
                raise FloatingPointError

            monkeypatch.setattr(_graphical_lasso, "of_scikit_learn", fails)
        for moment in self.moments():
            apart = ~np.eye(len(moment), dtype=bool)
            penalty = share * np.abs(moment[apart]).max()
            precision = _graphical_lasso.graphical_lasso(moment, penalty, np.diag(1 / np.diagonal(moment)))
            slopes, edges = (moment - np.linalg.inv(precision)) / penalty, (precision != 0) & apart
            np.testing.assert_allclose(slopes[edges], -np.sign(precision[edges]), atol=2e-2)
            assert np.abs(slopes[~edges & apart]).max(initial=0) < 1 + 2e-2
            assert abs(_graphical_lasso.duality_gap(moment, penalty, precision)) < 1e-4 * len(moment)
            assert np.linalg.eigvalsh(precision)[0] > 0

    def test_it_is_that_of_scikit_learn(self):
        moment = next(self.moments())
        expected = of_scikit_learn(moment, 0.1, tol=1e-8, enet_tol=1e-10)[1]
        np.testing.assert_allclose(_graphical_lasso.graphical_lasso(moment, 0.1, np.eye(5)), expected, atol=1e-6)
