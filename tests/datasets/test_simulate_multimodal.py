import re

import mudata
import numpy as np
import pytest
from mudata import MuData
from scipy import stats

from scpln.datasets import simulate_multimodal

LIKELIHOODS = {"rna": "poisson", "prot": "nb", "atac": "bernoulli"}
SIZES = {"rna": 60, "prot": 40, "atac": 50}


def make(**options) -> MuData:
    settings = {
        "likelihood": LIKELIHOODS,
        "n_latent": 3,
        "n_batches": 2,
        "density": 0.5,
        "inverse_dispersion": 2.0,
        **options,
    }
    return simulate_multimodal(500, SIZES, **settings)


def rates(mdata, name):
    """exp η from the stored truth alone."""
    adata = mdata[name]
    cells = mdata.obs_names.get_indexer(adata.obs_names)
    design = np.column_stack([np.ones(len(cells)), mdata.obs["batch"].to_numpy()[cells] == "1"]).astype(float)
    eta = design @ adata.varm["true_coefficients"].to_numpy().T
    eta += mdata.obsm["true_latent"][cells] @ adata.varm["true_loadings"].T
    return adata.obs["size_factor"].to_numpy()[:, None] * np.exp(eta)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_counts_follow_their_distribution_given_the_truth(name):
    """Randomised probability integral transform of every count is uniform."""
    mdata = make(missing={"rna": 0.2, "prot": 0.1})
    counts, rate = mdata[name].X.toarray(), rates(mdata, name)
    distribution = {
        "rna": stats.poisson(rate),
        "prot": stats.nbinom(2.0, 2.0 / (2.0 + rate)),
        "atac": stats.bernoulli(-np.expm1(-rate)),
    }[name]
    u = np.random.default_rng(0).uniform(size=counts.shape)
    transformed = distribution.cdf(counts - 1) + u * distribution.pmf(counts)
    assert stats.kstest(transformed.ravel(), "uniform").pvalue > 1e-3


def test_loadings_of_all_modalities_are_in_the_identified_rotation():
    loadings = np.vstack([adata.varm["true_loadings"] for adata in make().mod.values()])
    gram = loadings.T @ loadings
    assert np.allclose(gram, np.diag(np.diag(gram)))
    assert (np.diff(np.diag(gram)) < 0).all()


def test_density_of_each_modality():
    mdata = make(likelihood="poisson", density={"rna": 0.2, "prot": 0.9})
    for name, density in {"rna": 0.2, "prot": 0.9, "atac": 0.3}.items():
        assert mdata[name].X.nnz / np.prod(mdata[name].shape) == pytest.approx(density, rel=0.1)


def test_cells_lack_at_most_one_modality():
    mdata = make(missing={"rna": 0.25, "prot": 0.75})
    assert mdata.n_obs == 500
    assert (mdata["rna"].n_obs, mdata["prot"].n_obs, mdata["atac"].n_obs) == (375, 125, 500)
    assert not set(mdata["rna"].obs_names) & set(mdata["prot"].obs_names)


def test_same_seed_same_counts_and_another_seed_others():
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    for name in LIKELIHOODS:
        assert (first[name].X != again[name].X).nnz == 0
        assert (first[name].X != other[name].X).nnz > 0


def test_what_is_missing_changes_no_count():
    whole, part = make(), make(missing={"prot": 0.5})
    assert (whole["prot"][part["prot"].obs_names].X != part["prot"].X).nnz == 0


def test_it_survives_a_file(tmp_path):
    mdata = make(missing={"prot": 0.5})
    with mudata.set_options(pull_on_update=False):
        mdata.write_h5mu(tmp_path / "simulated.h5mu")
        read = mudata.read_h5mu(tmp_path / "simulated.h5mu")
    assert read.uns["simulation"]["likelihood"] == LIKELIHOODS
    np.testing.assert_allclose(rates(read, "prot"), rates(mdata, "prot"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"likelihood": {"prot": "zip"}},
            "`likelihood` of {'prot': 'zip'} must be one of ['poisson', 'nb', 'bernoulli']",
        ),
        ({"missing": {"rna": 0.6, "prot": 0.6}}, "add up to at most 1"),
        ({"missing": {"protein": 0.5}}, "`missing` names ['protein'], but the modalities are ['rna', 'prot', 'atac']"),
        ({"density": {"rna": 1.5}}, "`density` is a share"),
        ({"inverse_dispersion": 0}, "`inverse_dispersion` must be greater than 0"),
        ({"inverse_dispersion": np.nan}, "`inverse_dispersion` must be greater than 0"),
        ({"n_latent": 0}, "n_latent=0, but it must be a whole number of at least 1"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**options)
