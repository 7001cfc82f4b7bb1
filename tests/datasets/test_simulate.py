import anndata as ad
import numpy as np
import pytest
from scipy import stats

from scpln.datasets import _simulate, simulate, simulate_multimodal


def rates(adata):
    """exp η from the stored truth alone."""
    design = np.column_stack(
        [np.ones(adata.n_obs), *(adata.obs["batch"] == b for b in adata.obs["batch"].cat.categories[1:])]
    ).astype(float)
    eta = np.log(adata.obs["size_factor"].to_numpy())[:, None]
    eta = eta + design @ adata.varm["true_coefficients"].to_numpy().T
    return np.exp(eta + adata.obsm["true_latent"] @ adata.varm["true_loadings"].T)


def test_counts_are_poisson_given_the_truth():
    """Randomised probability integral transform of every count is uniform."""
    adata = simulate(400, 200, n_latent=3, n_batches=3, density=0.5, seed=1)
    counts, rate = adata.X.toarray(), rates(adata)
    u = np.random.default_rng(0).uniform(size=counts.shape)
    below, at = stats.poisson.cdf(counts - 1, rate), stats.poisson.pmf(counts, rate)
    transformed = (below + u * at).ravel()
    assert stats.kstest(transformed, "uniform").pvalue > 1e-3
    variance_ratio = np.mean((counts - rate) ** 2) / rate.mean()
    assert variance_ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("n_batches", [1, 3])
def test_density_is_met(density, n_batches):
    adata = simulate(2000, 300, density=density, n_batches=n_batches, seed=2)
    assert adata.X.nnz / np.prod(adata.shape) == pytest.approx(density, rel=0.05)


def test_truth_is_identified_and_consistent():
    adata = simulate(50, 80, n_latent=4, latent_variance=1.5)
    loadings = adata.varm["true_loadings"]
    gram = loadings.T @ loadings
    assert np.allclose(gram, np.diag(np.diag(gram)))
    assert (np.diff(np.diag(gram)) < 0).all()
    assert (loadings[np.abs(loadings).argmax(0), range(4)] > 0).all()
    assert np.trace(adata.varp["true_covariance"]) / 80 == pytest.approx(1.5)
    assert np.allclose(adata.varp["true_covariance"], loadings @ loadings.T)
    assert np.log(adata.obs["size_factor"]).mean() == pytest.approx(0, abs=1e-12)


def test_same_seed_same_counts_and_another_seed_others():
    first, again, other = simulate(60, 40, seed=3), simulate(60, 40, seed=3), simulate(60, 40, seed=4)
    assert (first.X != again.X).nnz == 0
    assert (first.X != other.X).nnz > 0


def test_blocks_do_not_matter(monkeypatch):
    whole = simulate(70, 40, n_batches=2)
    monkeypatch.setattr(_simulate, "BLOCK_ENTRIES", 7 * 40)
    assert (whole.X != simulate(70, 40, n_batches=2).X).nnz == 0


def test_genes_do_not_depend_on_the_number_of_cells():
    few, many = simulate(30, 40, seed=5), simulate(90, 40, seed=5)
    assert np.array_equal(few.varm["true_loadings"], many.varm["true_loadings"])
    assert few.varm["true_coefficients"].equals(many.varm["true_coefficients"])


def test_survives_h5ad(tmp_path):
    adata = simulate(30, 20, n_batches=2)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    assert (back.X != adata.X).nnz == 0
    assert back.uns["simulation"]["n_batches"] == 2
    assert back.varm["true_coefficients"].equals(adata.varm["true_coefficients"])


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 5, 2), (5, 1, 1)])
def test_smallest_sizes(sizes):
    n, p, q = sizes
    assert simulate(n, p, n_latent=q).shape == (n, p)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_obs": 0}, "n_obs=0, but it must be a whole number of at least 1"),
        ({"n_latent": 600}, "`n_latent`=600 must not exceed `n_vars`=500"),
        ({"density": 1.0}, "strictly between 0 and 1, but is 1.0"),
        ({"gene_sd": -1.0}, "`gene_sd` must not be negative"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_obs": 2.5, "seed": -1}, "n_obs=2.5, but it must be a whole number of at least 1"),
        ({"n_obs": True}, "n_obs=True, but it must be a whole number of at least 1"),
        ({"n_vars": "9"}, "n_vars='9', but it must be a whole number of at least 1"),
        ({"n_batches": None}, "n_batches=None, but it must be a whole number of at least 1"),
        ({"seed": -1}, "seed=-1, but it must be a whole number of at least 0"),
        ({"seed": 1.5}, "seed=1.5, but it must be a whole number of at least 0"),
        ({"density": np.nan}, "density=nan, but it must be a finite number"),
        ({"gene_sd": np.inf}, "gene_sd=inf, but it must be a finite number"),
        ({"batch_sd": "wide"}, "batch_sd='wide', but it must be a number"),
    ],
)
def test_arguments_of_another_kind(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        simulate(**arguments)
    if "n_vars" not in arguments:
        with pytest.raises((TypeError, ValueError), match=message):
            simulate_multimodal(**arguments)


def test_covariance_is_left_out_on_request():
    assert "true_covariance" not in simulate(10, 10, store_covariance=False).varp
