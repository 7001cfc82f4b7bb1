"""PLN-PCA at the maximum of the importance-weighted bound, against the likelihood by quadrature."""

import anndata as ad
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import gammaln

from scpln.inference import CountData, Entries, fit
from scpln.inference.estimators import fit_pca_importance
from scpln.model import PLNPCA, setup_anndata


def simulated(n=300, p=8):
    """Few counts of few genes, where Gaussian posteriors lose most."""
    random = np.random.default_rng(0)
    b, c = random.normal(-1.5, 0.5, (p, 1)), random.normal(0, 1.2, (p, 1))
    counts = random.poisson(np.exp(b.T + random.standard_normal((n, 1)) @ c.T))
    adata = ad.AnnData(counts.astype(np.float32))
    adata.obs["size_factor"] = np.exp(0.01 * random.standard_normal(n))
    setup_anndata(adata, size_factor_key="size_factor")
    return adata


def fitted(adata, **arguments):
    model = PLNPCA(adata, arguments.pop("n_latent", 1), prior="none", **arguments)
    model.train(progress=False, n_threads=1)
    return model


@pytest.fixture(scope="module")
def models():
    adata = simulated()
    return fitted(adata), fitted(adata, inference="importance")


def log_likelihood(adata, both):
    """Of each cell without log y!, of intercepts and loadings in a row, by the trapezoid rule over its one latent state, as a tensor."""
    sizes = np.log(adata.obs["size_factor"].to_numpy())
    offsets, counts = torch.from_numpy(sizes - sizes.mean())[:, None], torch.from_numpy(adata.X).double()
    z = torch.linspace(
        -7, 7, 12001, dtype=torch.float64
    )  # fine, as a cell with a count of 1,000 knows its state to 0.01
    b, c = torch.as_tensor(both).chunk(2)
    eta = b + z[:, None] * c
    log_joint = counts @ eta.T + offsets * counts.sum(1, keepdim=True) - offsets.exp() * eta.exp().sum(1) - 0.5 * z**2
    return torch.logsumexp(log_joint, 1) + np.log(14 / 12000) - 0.5 * np.log(2 * np.pi)


def parameters(model):
    return np.concatenate([model.get_coefficients().to_numpy()[:, 0], model.get_loadings().to_numpy()[:, 0]])


def test_the_likelihood_is_at_its_maximum(models):
    """Which an independent search finds, along derivatives of the quadrature."""
    variational, weighted = models
    adata = weighted.adata

    def loss(both):
        at = torch.tensor(both, requires_grad=True)
        value = -log_likelihood(adata, at).sum()
        value.backward()
        return value.item(), at.grad.numpy()

    best = minimize(loss, parameters(variational), jac=True, method="L-BFGS-B")
    short = [float(-log_likelihood(adata, parameters(model)).sum()) - best.fun for model in (variational, weighted)]
    assert short[0] > 0.2
    assert -1e-6 < short[1] < 0.01
    assert np.abs(parameters(weighted) - best.x).max() < 0.02 < 0.1 < np.abs(parameters(variational) - best.x).max()
    assert weighted.converged
    assert "15 iterations gain less" in weighted.stop_reason


def test_its_bound_is_the_importance_weighted_one_below_the_likelihood(models):
    variational, weighted = models
    adata = weighted.adata
    exact = log_likelihood(adata, parameters(weighted)).numpy() - gammaln(adata.X + 1).sum(1)
    bounds, gaussian = weighted.get_elbo(return_mean=False), weighted.get_bound_terms()["elbo"]
    assert bounds == pytest.approx(exact, abs=0.2)
    assert bounds.mean() == pytest.approx(exact.mean(), abs=5e-3)
    assert gaussian.mean() < exact.mean() - 1e-4
    assert gaussian.mean() <= variational.get_elbo() + 1e-6  # which is where that is greatest
    assert weighted.training_["bound_samples"] == 333
    assert 0.5 < weighted.training_["ess"] <= 1
    history = weighted.history["importance_bound"].to_numpy().ravel()
    assert history[-15:].mean() == pytest.approx(bounds.mean(), abs=5e-3)


def test_it_is_saved_and_new_cells_are_training_cells(models, tmp_path):
    _, weighted = models
    weighted.save(tmp_path / "model")
    again = PLNPCA.load(tmp_path / "model", weighted.adata)
    assert again.inference == "importance"
    assert again.get_elbo() == weighted.get_elbo()
    new = weighted.adata[:20, ::-1].copy()
    assert again.get_elbo(new, return_mean=False) == pytest.approx(weighted.get_elbo(return_mean=False)[:20], abs=1e-3)
    weighted.annotate()
    assert weighted.adata.obs["plnpca_elbo"].to_numpy() == pytest.approx(weighted.get_elbo(return_mean=False))


def test_draws_and_seed_are_its_own():
    adata = simulated(60, 8)
    models = [PLNPCA(adata, 1, prior="none", inference="importance") for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        model.train(max_epochs=30, n_samples=40, seed=seed, progress=False)
    loadings = [model.get_loadings().to_numpy() for model in models]
    np.testing.assert_array_equal(loadings[0], loadings[1])
    assert np.abs(loadings[0] - loadings[2]).max() > 0
    assert models[0].training_["bound_samples"] == 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prior": "learned"}, "is for prior='none', and this is 'learned'"),
        ({"likelihood": "nb"}, "is for likelihood='poisson', and this is 'nb'"),
        ({"posterior": "meanfield"}, "is for posterior='fullrank', and this is 'meanfield'"),
        ({"n_components": 3}, "is for n_components=1, and this is 3"),
        ({"amortized": True}, "is for amortized=False, and this is True"),
        ({"inference": "nuts"}, "inference='nuts'"),
    ],
)
def test_what_does_not_go_with_it_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        PLNPCA(simulated(20, 6), 1, **{"prior": "none", "inference": "importance", **arguments})


def test_data_that_it_is_not_for_are_refused(models):
    adata = simulated(20, 6)
    adata.layers["seen"] = np.ones((20, 6), bool)
    setup_anndata(adata, size_factor_key="size_factor", mask_key="seen")
    with pytest.raises(ValueError, match="have modalities, an offset_key or a mask_key"):
        PLNPCA(adata, 1, prior="none", inference="importance")
    with pytest.raises(ValueError, match="n_importance_samples=8 is for stochastic training"):
        models[1].train(n_importance_samples=8, progress=False)
    with pytest.raises(ValueError, match="Errors are of estimates that maximise the bound"):
        models[1].get_coefficients(with_se=True)
    data = CountData(np.ones((3, 2)), np.zeros(3), np.ones((3, 1)), entries=Entries(np.zeros((3, 2))))
    with pytest.raises(ValueError, match="offsets of cells"):
        fit_pca_importance(data, np.zeros((2, 1)), np.ones((2, 1)))


def test_cells_a_few_at_a_time_give_the_same(monkeypatch):
    from scpln.inference.estimators import _latent_importance

    random = np.random.default_rng(0)
    counts = random.poisson(np.exp(random.standard_normal((50, 2)) @ random.standard_normal((2, 6))))
    data = CountData(counts, np.zeros(50), np.ones((50, 1)))
    start = fit(data, 2)
    given = start.coefficients, start.loadings
    whole = fit_pca_importance(data, *given, n_samples=20, max_iter=30)
    monkeypatch.setattr(_latent_importance, "BLOCK_ENTRIES", 20 * 6 * 7)
    parts = fit_pca_importance(data, *given, n_samples=20, max_iter=30)
    assert parts.coefficients == pytest.approx(whole.coefficients, abs=1e-4)
    assert parts.history["elbo"] == pytest.approx(whole.history["elbo"], abs=1e-4)


def test_ctrl_c_keeps_what_there_is():
    random = np.random.default_rng(0)
    data = CountData(random.poisson(2.0, (30, 4)), np.zeros(30), np.ones((30, 1)))
    start = fit(data, 1)

    def interrupt(number, bound):
        if number == 3:
            raise KeyboardInterrupt

    found = fit_pca_importance(data, start.coefficients, start.loadings, on_iteration=interrupt)
    assert not found.converged
    assert "interrupted after 3 iterations" in found.reason
    assert np.isfinite(found.loadings).all()
