import numpy as np
import pytest
from scipy import stats

from scpln.datasets import pbmc68k_reduced, pbmc68k_simulated_proteins


@pytest.fixture(scope="module")
def mdata():
    return pbmc68k_simulated_proteins()


def test_rna_is_the_real_one(mdata):
    real = pbmc68k_reduced()
    assert (mdata["rna"].layers["counts"] != real.layers["counts"]).nnz == 0
    assert (mdata.obs["bulk_labels"] == real.obs["bulk_labels"]).all()
    assert list(mdata.uns["bulk_labels_colors"]) == list(real.uns["bulk_labels_colors"])


def test_counts_are_negative_binomial_around_their_means(mdata):
    """Randomised probability integral transform of every count is uniform."""
    counts, mean = mdata["prot"].X.toarray(), mdata["prot"].layers["true_rate"]
    assert counts.dtype == np.int32
    distribution = stats.nbinom(5, 5 / (5 + mean))
    below, share = distribution.cdf(counts - 1), np.random.default_rng(0).random(counts.shape)
    transformed = below + share * (distribution.cdf(counts) - below)
    assert stats.kstest(transformed.ravel(), "uniform").pvalue > 0.01


def test_size_factors_are_those_of_the_means(mdata):
    size_factor = mdata["prot"].obs["size_factor"].to_numpy()
    assert stats.gmean(size_factor) == pytest.approx(1)
    assert np.allclose(mdata["prot"][:, ["IgG1", "IgG2a"]].layers["true_rate"], 5 * size_factor[:, None])


@pytest.mark.parametrize(
    ("label", "has", "lacks"),
    [
        ("CD4+/CD25 T Reg", ["CD3", "CD4", "CD25"], ["CD8", "CD127", "CD19", "CD14"]),
        ("CD4+/CD45RA+/CD25- Naive T", ["CD3", "CD4", "CD45RA"], ["CD25", "CD45RO", "CD8"]),
        ("CD4+/CD45RO+ Memory", ["CD3", "CD4", "CD45RO"], ["CD45RA", "CD8"]),
        ("CD8+/CD45RA+ Naive Cytotoxic", ["CD3", "CD8", "CD45RA"], ["CD4", "CD45RO"]),
        ("CD8+ Cytotoxic T", ["CD3", "CD8"], ["CD4", "CD19"]),
        ("CD56+ NK", ["CD56", "CD16"], ["CD3", "CD19", "CD14"]),
        ("CD19+ B", ["CD19", "HLA-DR"], ["CD3", "CD14", "CD56"]),
        ("CD14+ Monocyte", ["CD14", "CD11c"], ["CD3", "CD19", "CD56"]),
        ("Dendritic", ["HLA-DR", "CD11c"], ["CD3", "CD14", "CD19"]),
        ("CD34+", ["CD34"], ["CD3", "CD14", "CD19"]),
    ],
)
def test_types_carry_what_they_are_named_for(mdata, label, has, lacks):
    mean = mdata["prot"][mdata.obs["bulk_labels"] == label].to_df().mean()
    assert mean[[f"anti-{name}" for name in has]].min() > 100
    assert mean[[f"anti-{name}" for name in lacks]].max() < 10


def test_names_differ_between_modalities(mdata):
    assert mdata.var_names.is_unique


def test_seed(mdata):
    assert (pbmc68k_simulated_proteins(seed=0)["prot"].X != mdata["prot"].X).nnz == 0
    assert (pbmc68k_simulated_proteins(seed=1)["prot"].X != mdata["prot"].X).nnz > 1000
    with pytest.raises(ValueError, match="seed=-1, but it must be a whole number of at least 0"):
        pbmc68k_simulated_proteins(seed=-1)
