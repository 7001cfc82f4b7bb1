"""Loadings and coefficients of autoencoders without hidden layers in their decoder."""

import numpy as np
import pytest
import torch

from scpln.datasets import simulate
from scpln.model import CountGMVAE, CountVAE, setup_anndata
from scpln.module import GaussianMixture, Known, MLPDecoder, Prior, StandardNormal

LINEAR = {"n_latent": 2, "n_hidden": 8, "n_layers": 0}
KINDS = {"VAE": (CountVAE, {}), "GMVAE": (CountGMVAE, {"n_components": 3})}


def make_adata():
    adata = simulate(n_obs=120, n_vars=20, n_latent=2, n_batches=2, seed=0)
    adata.obs["year"] = np.random.default_rng(0).integers(2001, 2020, 120).astype(float)
    return adata


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    adata = make_adata()
    setup_anndata(adata, batch_key="batch", continuous_covariate_keys=["year"])
    model_class, arguments = KINDS[request.param]
    model = model_class(adata, **LINEAR, **arguments)
    model.train(max_epochs=3, start="random", progress=False)
    return model


def fill(decoder):
    generator = torch.Generator().manual_seed(0)
    for parameter in decoder.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("by_cell", [[], ["gate_logits"]])
def test_the_linear_map_is_what_is_decoded(by_cell):
    random = np.random.default_rng(0)
    design = np.column_stack(
        [np.ones(50), random.integers(0, 2, 50), random.uniform(1990, 2020, 50), random.normal(size=50)]
    )
    decoder = MLPDecoder(6, 4, 3, hidden=(), by_cell=by_cell)
    fill(decoder)
    decoder.standardize.fit(torch.from_numpy(design))
    assert decoder.linear_map()[0].dtype == torch.float64
    decoder = decoder.double()
    offsets, z = torch.from_numpy(random.normal(size=50)), torch.from_numpy(random.normal(size=(50, 3)))
    coefficients, loadings = decoder.linear_map()
    expected = decoder.decode(z, Known(offsets=offsets, design=torch.from_numpy(design)))[0]
    found = offsets[:, None] + torch.from_numpy(design) @ coefficients.T + z @ loadings.T
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("arguments", [{"hidden": (4,)}, {"hidden": (), "softmax": True}])
def test_other_decoders_have_none(arguments):
    assert MLPDecoder(6, 2, 3, **arguments).linear_map() is None


def test_tables_are_the_models_rates(model):
    b, c = model.get_coefficients(), model.get_loadings()
    assert list(b.columns) == model.covariates
    assert list(c.columns) == ["Z_0", "Z_1"]
    assert list(b.index) == list(c.index) == model.genes
    z = model.get_posterior().sample(1, seed=0)[0]
    batches = (model.adata.obs["batch"] == model.adata.obs["batch"].cat.categories[1]).to_numpy()
    design = np.column_stack([np.ones(120), batches, model.adata.obs["year"]])
    expected, _ = model.module.decode(z, model._read(None).data.design, batches.astype(int))
    np.testing.assert_allclose(design @ b.to_numpy().T + z @ c.to_numpy().T, expected, atol=1e-3)


def test_covariance_is_that_of_draws(model):
    _, z = model.prior_predictive_sample(200_000, return_latent=True)
    log_rates = z @ model.get_loadings().to_numpy().T
    covariance = model.get_covariance()
    np.testing.assert_allclose(covariance, np.cov(log_rates.T), atol=0.03 * np.diag(covariance).max())
    assert model.get_covariance(model.genes[3:5]).equals(covariance.iloc[3:5, 3:5])
    shares = model.get_variance_explained()
    assert shares.sum() == pytest.approx(1)


def test_annotate_writes_loadings(model):
    adata = model.adata.copy()
    model.annotate(adata, key_added="fit", diagnostics=False)
    np.testing.assert_array_equal(adata.varm["fit_loadings"], model.get_loadings())


def test_a_new_batch_has_coefficients(model):
    new = make_adata()
    new.obs["batch"] = "new"
    mapped = type(model).load_query_data(new, model)
    mapped.train(max_epochs=1, progress=False)
    assert "batch[T.new]" in mapped.get_coefficients().columns
    np.testing.assert_array_equal(mapped.get_loadings(), model.get_loadings())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_layers": 1}, r"no loadings: its decoder has hidden layers \(\[8\]\).*Make it with n_layers=0"),
        ({"scale_activation": "softmax"}, r"no loadings: its rates are shares \(scale_activation='softmax'\).*"),
    ],
)
def test_decoders_that_are_not_linear(arguments, message):
    adata = make_adata()
    setup_anndata(adata)
    model = CountVAE(adata, **{**LINEAR, **arguments})
    with pytest.raises(RuntimeError, match="is not trained"):
        model.get_loadings()
    model.train(max_epochs=1, start="random", progress=False)
    for method in (model.get_loadings, model.get_coefficients, model.get_covariance, model.get_variance_explained):
        with pytest.raises(ValueError, match=message):
            method()
    model.annotate(diagnostics=False)
    assert not adata.varm.keys() & {"countvae_loadings"}


@pytest.mark.parametrize("full", [True, False])
def test_total_covariance_of_a_mixture(full):
    torch.manual_seed(0)
    prior = GaussianMixture(3, 2, full=full, weights=[0.5, 0.3, 0.2])
    draws = Prior.total_covariance(prior)
    torch.testing.assert_close(prior.total_covariance(), draws, rtol=0.03, atol=0.03)


def test_total_covariance_of_the_standard_normal():
    torch.testing.assert_close(
        StandardNormal(3).total_covariance(), Prior.total_covariance(StandardNormal(3)), atol=0.02, rtol=0
    )


def test_expression_loadings_are_regressions_of_log_expression_on_states(model):
    z = model.get_latent_representation().astype(float)
    b, c = model.get_coefficients().to_numpy(), model.get_loadings().to_numpy()
    average = np.array([1, 0.5, model.adata.obs["year"].mean()])
    expression = np.log1p(np.exp(b @ average + z @ c.T))
    with_intercept = np.column_stack([np.ones(len(z)), z])
    expected = np.linalg.lstsq(with_intercept, expression, rcond=None)[0][1:].T
    found = model.get_expression_loadings()
    assert list(found.index) == model.genes
    np.testing.assert_allclose(found, expected, atol=1e-4)
    other = model.adata[:5].copy()
    model.annotate(other, key_added="fit")
    np.testing.assert_allclose(other.varm["fit_expression_loadings"], found, atol=1e-6)
