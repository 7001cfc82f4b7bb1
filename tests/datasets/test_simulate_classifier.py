"""Generators of mixture classifiers: the published parameters, and a truth that is one."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

import scpln
from scpln.datasets import simulate_mixture_classifier as simulate


def test_published_parameters():
    truth = simulate(10).uns["truth"]
    assert truth["means"].tolist() == [[-1, -2], [5, 3]]
    assert truth["deviations"].tolist() == [[1, 1.5], [2, 1]]
    assert simulate(10, components="dirichlet").uns["truth"]["concentrations"].tolist() == [[5, 3, 20], [15, 4, 2]]
    np.testing.assert_allclose(simulate(10, scale=0.1).uns["truth"]["deviations"], 0.1 * truth["deviations"])


@pytest.mark.parametrize("components", ["gaussian", "dirichlet", "dirichlet_multinomial"])
def test_the_truth_is_bayes_rule(components):
    adata = simulate(50, components=components, n_components=3, n_vars=4, total=30)
    truth, x = adata.uns["truth"], adata.X
    shares = x / 30 if components == "dirichlet_multinomial" else x
    p = expit(truth["coefficients"][:, 0] + shares @ truth["coefficients"][:, 1:].T)
    if components == "gaussian":
        density = [stats.norm(m, s).pdf(x).prod(1) for m, s in zip(truth["means"], truth["deviations"], strict=True)]
    elif components == "dirichlet":
        density = [stats.dirichlet(alpha).pdf(x.T) for alpha in truth["concentrations"]]
    else:
        density = [stats.dirichlet_multinomial(alpha, 30).pmf(x.astype(int)) for alpha in truth["concentrations"]]
    density = np.array(density).T
    expected = (density * p).sum(1) / density.sum(1)
    np.testing.assert_allclose(adata.obs["true_probability"], expected, rtol=1e-6)


@pytest.mark.parametrize("components", ["gaussian", "dirichlet", "dirichlet_multinomial"])
def test_labels_are_as_frequent_as_said(components):
    adata = simulate(20_000, components=components, seed=3)
    p = adata.obs["true_probability"].to_numpy()
    error = np.sqrt((p * (1 - p)).sum())
    assert abs((adata.obs["label"] == "case").sum() - p.sum()) < 4 * error
    same = simulate(20_000, components=components, seed=3)
    np.testing.assert_array_equal(adata.X, same.X)
    assert adata.uns["simulation"]["seed"] == 3


@pytest.mark.parametrize(
    "wrong",
    [{"n_obs": 0}, {"scale": 0}, {"components": "poisson"}, {"components": "dirichlet", "n_vars": 1}, {"seed": -1}],
)
def test_errors(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) if "n_vars" not in wrong else "n_vars"):
        scpln.datasets.simulate_mixture_classifier(**wrong)
