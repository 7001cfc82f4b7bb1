"""Real values in other units: Y → s Y moves the bound by −log s of each value, and leaves latent states where they are."""

import numpy as np
import pytest

from scpln.inference import CountData, fit_gaussians, gaussian_elbo, infer_gaussians
from scpln.module import make_likelihood

N, P, Q = 80, 10, 2


def fit(values, posterior="fullrank"):
    likelihood = make_likelihood("gaussian", P)
    data = CountData(values, np.zeros(N), np.ones((N, 1)))
    result = fit_gaussians(data, Q, likelihood, posterior=posterior, max_iter=20, n_threads=1)
    return data, likelihood, result


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
@pytest.mark.parametrize("rank", ["full", "deficient"])
def test_bounds_shift_and_latent_states_stay(rank, posterior):
    random = np.random.default_rng(0)
    values = 3 + random.normal(size=(N, Q)) @ random.normal(size=(Q, P))
    if rank == "full":
        values += 0.3 * random.normal(size=(N, P))
    _, _, base = fit(values, posterior)
    assert base.mean.std(0).min() > 0.5
    for scale in (1e-9, 1e-6, 1e6, 1e9):
        data, likelihood, result = fit(scale * values, posterior)
        # values without noise have no maximum: what a few iterations reach of it is multiplied rounding
        atol = 2e-3 if rank == "full" else 0.2
        np.testing.assert_allclose(result.elbo.mean(), base.elbo.mean() - P * np.log(scale), atol=atol)
        np.testing.assert_allclose(result.elbo, base.elbo - P * np.log(scale), atol=10 * atol)
        np.testing.assert_allclose(result.mean, base.mean, atol=2e-3)
        np.testing.assert_allclose(result.loadings / scale, base.loadings, atol=2e-3)
        rotation, b, c = result.rotation, result.coefficients, result.loadings
        again = infer_gaussians(data, b, c, likelihood, posterior=posterior, rotation=rotation, n_threads=1)
        np.testing.assert_allclose(again[0], result.mean, atol=1e-3)
        bound = gaussian_elbo(data, b, c, likelihood, *again, n_threads=1)
        np.testing.assert_allclose(bound, result.elbo, atol=0.01)
