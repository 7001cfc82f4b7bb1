"""Results are finite whatever the counts: a small part of the campaign in benchmarks/hostile_counts.py."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from scpln.module import LARGEST_LOG_RATE

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FEW = [
    ("PLNPCA", "nb", "fullrank"),
    ("PLNPCA", "bernoulli", "meanfield"),
    ("PLNPCA", "poisson", "encoder"),
    ("PLNPCA", "zip", "flow"),
    ("CountVAE", "poisson", "flow"),
    ("CountGMVAE", "bernoulli", "fullrank"),
]


@pytest.fixture(scope="module")
def campaign():
    """The campaign as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import hostile_counts
    finally:
        sys.path.remove(str(BENCHMARKS))
    return hostile_counts


@pytest.fixture(scope="module")
def fitted(campaign):
    """A short fit of negative binomial PLN-PCA, whose loadings go astray."""
    return campaign.trained("PLNPCA", "nb", campaign.hostile_counts(0, 30, 10), 0, prior="none")


@pytest.mark.parametrize(("model", "likelihood", "posterior"), FEW)
@pytest.mark.filterwarnings("ignore")
def test_every_result_is_finite(campaign, monkeypatch, model, likelihood, posterior):
    monkeypatch.setattr(campaign, "ITERATIONS", 20)
    arguments = campaign.MODELS[model][posterior]
    made = campaign.trained(model, likelihood, campaign.hostile_counts(0, 30, 10), 0, **arguments)
    found = campaign.count(made, campaign.hostile_counts(1, 6, 10))
    assert len(found) > 20
    assert not {name: counted for name, counted in found.items() if counted[0]}


def test_counts_are_hostile(campaign):
    adata = campaign.hostile_counts(3, 300, 60)
    depth = np.asarray(adata.X.sum(1)).ravel()
    assert depth.min() == 1
    assert depth.max() > 1e5
    assert (adata.X == 0).mean() > 0.98
    assert ((adata.X > 0).sum(0) == 1).any()


def test_rates_beyond_the_bound_are_named(fitted):
    """Their mean is that of the likelihood's own bounded rates, here by sums over a fine grid of log-rates."""
    message = r"rates \(.*%\) are beyond e\^25, .* cells \(most often cell.*genes \(most often gene"
    with pytest.warns(UserWarning, match=message):
        rates = fitted.get_normalized_expression(return_numpy=True).astype(float)
    assert np.isfinite(rates).all()
    posterior, c = fitted.get_posterior(), fitted.get_loadings().to_numpy()
    design = np.column_stack([np.ones(30), fitted.adata.obs["batch"] == "1"])
    mean = design @ fitted.get_coefficients().to_numpy().T + posterior.mean @ c.T
    sd = np.sqrt(np.einsum("jk,ikl,jl->ij", c, posterior.covariance, c))
    assert (mean + sd**2 / 2).max() > 2 * LARGEST_LOG_RATE
    for cell, gene in zip(*np.nonzero(mean + sd**2 > LARGEST_LOG_RATE), strict=True):
        grid, step = np.linspace(
            mean[cell, gene] - 12 * sd[cell, gene], 60 + 12 * sd[cell, gene], 200_001, retstep=True
        )
        bounded = np.minimum(grid, LARGEST_LOG_RATE) + np.log1p(np.maximum(grid - LARGEST_LOG_RATE, 0))
        log_density = -0.5 * ((grid - mean[cell, gene]) / sd[cell, gene]) ** 2
        expected = np.exp(bounded + log_density).sum() * step / (sd[cell, gene] * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(rates[cell, gene], expected, rtol=1e-4)


def test_ordinary_rates_raise_no_warning():
    from .every_model import trained

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained("PLNPCA, nb").get_normalized_expression()
