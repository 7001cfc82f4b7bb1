"""Properties that every fit obeys."""

import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from scpln.inference import CountData, elbo, fit, infer
from scpln.inference.newton.poisson import _fit as stages

from .conftest import draw, subspace_angle

POSTERIORS = ["fullrank", "meanfield"]


def rotated_back(result, other) -> np.ndarray:
    """Log-rates of the latent part, which do not depend on the rotation of the latent space."""
    return result.mean @ result.loadings.T - other.mean @ other.loadings.T


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_recovers_the_truth(posterior):
    data, truth = draw(1500, 60, 3, 2)
    result = fit(data, 3, posterior=posterior)
    assert subspace_angle(result.loadings, truth["loadings"]) < 6
    assert np.abs(result.coefficients - truth["coefficients"]).mean() < 0.05
    covariance, expected = result.loadings @ result.loadings.T, truth["loadings"] @ truth["loadings"].T
    assert np.linalg.norm(covariance - expected) < 0.1 * np.linalg.norm(expected)
    predicted, drawn = result.mean @ result.loadings.T, truth["latent"] @ truth["loadings"].T
    assert np.corrcoef(predicted.ravel(), drawn.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_reaches_a_stationary_point(posterior, small):
    """No other start, with ten times the iterations and a hundredth of the tolerance, gets anywhere better."""
    result = fit(small, 3, posterior=posterior)
    longer = [fit(small, 3, posterior=posterior, tol=1e-6, max_iter=2000, seed=seed) for seed in (1, 2)]
    assert result.converged
    assert max(other.elbo.mean() for other in longer) - result.elbo.mean() < 5e-3


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_seeds_agree_in_the_identified_rotation(posterior):
    data, _ = draw(800, 60, 3)
    first, second = (fit(data, 3, posterior=posterior, seed=seed, tol=1e-6) for seed in (0, 1))
    np.testing.assert_allclose(first.loadings, second.loadings, atol=0.02)
    np.testing.assert_allclose(first.mean, second.mean, atol=0.05)


def test_identified_rotation(small):
    result = fit(small, 3)
    gram = result.loadings.T @ result.loadings
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8)
    assert (np.diff(np.diag(gram)) <= 0).all()
    largest = np.abs(result.loadings).argmax(0)
    assert (result.loadings[largest, np.arange(3)] > 0).all()


def test_same_seed_same_numbers(small):
    first, second = fit(small, 3, seed=4), fit(small, 3, seed=4)
    np.testing.assert_array_equal(first.loadings, second.loadings)
    np.testing.assert_array_equal(first.mean, second.mean)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_history_rises_and_ends_at_the_bound(posterior, small):
    result = fit(small, 3, posterior=posterior)
    bounds = np.array(result.history["elbo"])
    assert (np.diff(bounds) > -1e-3).all()
    assert (np.diff(result.history["seconds"]) > 0).all()
    np.testing.assert_allclose(bounds[-1], result.elbo.mean(), atol=2e-3)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_reported_bound_is_that_of_the_reported_parameters(posterior, small):
    result = fit(small, 3, posterior=posterior)
    again = elbo(small, result.coefficients, result.loadings, result.mean, result.covariance)
    np.testing.assert_array_equal(again, result.elbo)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_inferring_the_training_cells_gives_their_posteriors(posterior, small):
    result = fit(small, 3, posterior=posterior)
    mean, covariance = infer(small, result.coefficients, result.loadings, posterior=posterior, rotation=result.rotation)
    np.testing.assert_allclose(mean, result.mean, atol=3e-3)
    np.testing.assert_allclose(covariance, result.covariance, atol=1e-3)


FORMATS = {
    "dense": lambda counts: counts.toarray(),
    "csc": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "int64": lambda counts: counts.astype(np.int64),
    "float64": lambda counts: counts.astype(np.float64),
}


@pytest.mark.parametrize("format_", FORMATS)
def test_formats_give_the_same_fit(format_, small):
    expected = fit(small, 3)
    actual = fit(CountData(FORMATS[format_](small.counts), small.offsets, small.design), 3)
    np.testing.assert_array_equal(actual.loadings, expected.loadings)


def test_data_on_disk_give_the_same_fit(small, tmp_path):
    expected = fit(small, 3)
    with h5py.File(tmp_path / "counts.h5", "w") as file:
        dataset = file.create_dataset("counts", data=small.counts.toarray())
        actual = fit(CountData(dataset, small.offsets, small.design), 3)
    np.testing.assert_array_equal(actual.loadings, expected.loadings)


@pytest.mark.parametrize("batch_size", [17, 64, 10**6])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_blocks_and_threads_give_the_same_fit(batch_size, n_threads, small):
    expected = fit(small, 3, tol=1e-6)
    actual = fit(small, 3, tol=1e-6, batch_size=batch_size, n_threads=n_threads)
    np.testing.assert_allclose(actual.elbo.mean(), expected.elbo.mean(), atol=1e-3)
    assert np.abs(rotated_back(actual, expected)).max() < 0.05


def test_cell_order_does_not_matter(small):
    expected = fit(small, 3, tol=1e-6)
    order = np.random.default_rng(0).permutation(small.n_cells)
    shuffled = fit(CountData(small.counts[order], small.offsets[order], small.design[order]), 3, tol=1e-6)
    np.testing.assert_allclose(shuffled.elbo.mean(), expected.elbo.mean(), atol=1e-3)
    np.testing.assert_allclose(shuffled.loadings, expected.loadings, atol=0.03)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_starting_from_a_part_of_the_cells_gives_the_same_fit(posterior, monkeypatch):
    data, _ = draw(900, 40, 2)
    expected = fit(data, 2, posterior=posterior, tol=1e-6)
    monkeypatch.setattr(stages, "COARSE_CELLS", 150)
    actual = fit(data, 2, posterior=posterior, tol=1e-6)
    np.testing.assert_allclose(actual.elbo.mean(), expected.elbo.mean(), atol=1e-3)
    np.testing.assert_allclose(actual.loadings, expected.loadings, atol=0.02)


@pytest.mark.parametrize("after", [1, 3, 12])
def test_interrupt_keeps_what_was_reached(after, small):
    def interrupt(iteration: int, _bound: float) -> None:
        if iteration == after:
            raise KeyboardInterrupt

    result = fit(small, 3, tol=0, on_iteration=interrupt)
    assert not result.converged
    assert result.reason.startswith(f"interrupted after {after} iterations")
    assert result.elbo.mean() >= max(result.history["elbo"]) - 1e-3


def test_max_iter_is_said(small):
    result = fit(small, 3, max_iter=3)
    assert not result.converged
    assert "3 iterations, the maximum" in result.reason
    assert len(result.history["elbo"]) == 3


HARD = {
    "one gene": lambda counts: (counts[:, :1], 1),
    "one cell": lambda counts: (counts[:1], 1),
    "fewer cells than latent dimensions": lambda counts: (counts[:3], 5),
    "fewer genes than latent dimensions": lambda counts: (counts[:, :3], 5),
    "no counts at all": lambda counts: (counts * 0, 2),
    "an empty cell and an empty gene": lambda counts: (counts * np.outer(np.arange(200) != 3, np.arange(40) != 4), 3),
    "counts of a million": lambda counts: (counts * 200_000, 2),
    "rare counts of a million": lambda counts: (10**6 * (counts > np.quantile(counts, 0.97)), 3),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("case", HARD)
def test_hard_data_have_finite_results(case, posterior, small):
    counts, q = HARD[case](small.counts.toarray())
    n = len(counts)
    result = fit(CountData(sp.csr_matrix(counts), np.zeros(n), np.ones((n, 1))), q, posterior=posterior)
    for numbers in (result.coefficients, result.loadings, result.mean, result.covariance, result.elbo):
        assert np.isfinite(numbers).all()


DESIGNS = {
    "collinear": lambda n, _: np.column_stack([np.ones(n), np.arange(n) % 2, np.arange(n) % 2 == 0]),
    "a covariate in the thousands": lambda n, random: np.column_stack([np.ones(n), 1000 * random.standard_normal(n)]),
    "a batch of one cell": lambda n, _: np.column_stack([np.ones(n), np.arange(n) == 0]),
    "twelve batches": lambda n, _: np.column_stack([np.ones(n)] + [np.arange(n) % 12 == k for k in range(1, 12)]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DESIGNS)
def test_hard_designs(name, small):
    design = DESIGNS[name](small.n_cells, np.random.default_rng(0)).astype(float)
    plain = fit(CountData(small.counts, small.offsets, np.ones((small.n_cells, 1))), 2)
    result = fit(CountData(small.counts, small.offsets, design), 2)
    assert np.isfinite(result.coefficients).all()
    assert result.elbo.mean() > plain.elbo.mean() - 1e-3  # a larger model cannot be worse


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"counts have 3 cells, but offsets have shape \(2,\)"):
        CountData(np.ones((3, 2)), np.zeros(2), np.ones((3, 1)))


def test_inference_converges_where_rare_genes_have_large_loadings():
    """A gene seen in a few cells gets loadings in the tens, and from the prior its expected count is astronomical."""
    random = np.random.default_rng(0)
    data, _ = draw(150, 40, 3)
    rare = np.zeros((150, 150), int)
    rare[random.integers(0, 150, 150), np.arange(150)] = random.integers(1, 6, 150)
    counts = sp.csr_matrix(np.hstack([data.counts.toarray(), rare]))
    data = CountData(counts, data.offsets, data.design)
    result = fit(data, 5, tol=1e-6)
    assert np.linalg.norm(result.loadings, axis=1).max() > 5
    for batch_size in (None, 1):
        posterior = infer(data, result.coefficients, result.loadings, batch_size=batch_size)
        again = elbo(data, result.coefficients, result.loadings, *posterior)
        np.testing.assert_allclose(again, result.elbo, atol=0.02)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_interrupt_of_an_early_stage_gives_all_cells_their_posteriors(posterior, monkeypatch):
    """While a part of the cells is fitted, there is no bound of all cells yet: the history has the one reached."""

    def interrupt(_iteration: int, _bound: float) -> None:
        raise KeyboardInterrupt

    data, _ = draw(500, 30, 2)
    monkeypatch.setattr(stages, "COARSE_CELLS", 100)
    result = fit(data, 2, posterior=posterior, on_iteration=interrupt)
    assert result.reason.startswith("interrupted")
    assert result.mean.shape == (500, 2)
    np.testing.assert_allclose(result.history["elbo"], [result.elbo.mean()])
    assert len(result.history["seconds"]) == 1
