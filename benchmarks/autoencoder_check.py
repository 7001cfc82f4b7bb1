"""Check the judge of SCVI's bounds: `pytest --import-mode=prepend benchmarks/autoencoder_check.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from autoencoder_scvi_bound import nb_log_prob, scvi_bounds
from scipy.stats import nbinom


@pytest.mark.parametrize("log_theta", [-3.0, 0.0, 3.0, 10.0])
def test_log_prob_is_scipys(log_theta: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.poisson(3.0, (4, 50)) * rng.integers(0, 20, (4, 50))
    log_mu, log_thetas = rng.normal(0, 3, (5, 4, 50)), rng.normal(log_theta, 0.5, 50)
    found = nb_log_prob(*(torch.tensor(a, dtype=torch.float64) for a in (y, log_mu, log_thetas)))
    theta, mu = np.exp(log_thetas), np.exp(log_mu)
    expected = nbinom(theta, theta / (theta + mu)).logpmf(y).sum(-1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_bounds_are_close_to_scvis_own() -> None:
    import scvi

    import scpln

    adata = scpln.datasets.simulate(n_obs=300, n_vars=60, n_latent=3, seed=0)
    adata.obs["batch"] = np.arange(300) % 2
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, n_latent=3, gene_likelihood="nb")
    model.train(max_epochs=30, enable_progress_bar=False, logger=False)
    bounds = {name: values.mean() for name, values in scvi_bounds(model, adata, n_samples=1000).items()}
    own = {"iw": model.get_marginal_ll(n_mc_samples=1000, n_mc_samples_per_pass=100, return_mean=False).numpy().mean()}
    own["elbo"] = np.mean([float(model.get_elbo(return_mean=True)) for _ in range(100)])
    assert bounds["elbo"] < bounds["iw"]
    for name, value in own.items():
        assert abs(bounds[name] - float(value)) < 0.1
