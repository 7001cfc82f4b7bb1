"""Real values in other units: Y → s Y moves an autoencoder's bound by −log s of each value, and changes nothing else."""

from functools import cache

import numpy as np
import pytest
from anndata import AnnData

from scpln.model import CountGMVAE, CountVAE, setup_anndata
from scpln.model.autoencoder import _start

N, P = 120, 10
FLOW = {"posterior": "flow", "n_transforms": 1, "flow_hidden": [8]}
KINDS = {
    "CountVAE": (CountVAE, {}),
    "CountVAE, linear": (CountVAE, {"decoder_hidden": []}),
    "CountVAE, flow": (CountVAE, FLOW),
    "CountVAE, sd by batch": (CountVAE, {"dispersion": "gene-batch"}),
    "CountVAE, sd by cell": (CountVAE, {"dispersion": "gene-cell"}),
    "CountGMVAE": (CountGMVAE, {"n_components": 2}),
    "CountGMVAE by component": (CountGMVAE, {"n_components": 2, "component_posteriors": True}),
}
SCALES = (1e-6, 1e6)


@pytest.fixture(autouse=True, scope="module")
def short_start():
    """Pretrain encoders for a few steps: the law holds for any number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_start, "STEPS", 10)
        yield


def make(scale, n_obs=N, batches=("a", "b")):
    random = np.random.default_rng(0)
    values = 3 + random.normal(size=(N, 2)) @ random.normal(size=(2, P)) + 0.3 * random.normal(size=(N, P))
    adata = AnnData(scale * values[:n_obs])
    adata.obs["batch"] = np.resize(batches, n_obs)
    return adata


@cache
def trained(kind, scale=1.0, start="plnpca"):
    model_class, arguments = KINDS[kind]
    adata = make(scale)
    setup_anndata(adata, batch_key="batch", is_count_data=False)
    model = model_class(adata, n_latent=2, n_hidden=8, likelihood="gaussian", **arguments)
    model.train(max_epochs=3, start=start, progress=False, early_stopping=False)
    return model


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_autoencoder_depends_on_the_unit_of_real_values(kind, scale):
    model, same, close = trained(kind), trained(kind, scale), {"rtol": 0.01, "atol": 0.01}
    new, scaled = make(1.0, 40), make(scale, 40)
    for ours, others in ((None, None), (scaled, new)):
        bound = model.get_elbo(others, return_mean=False)
        np.testing.assert_allclose(same.get_elbo(ours, return_mean=False), bound - P * np.log(scale), **close)
        latent = model.get_latent_representation(others)
        np.testing.assert_allclose(same.get_latent_representation(ours), latent, **close)
        expected = model.get_normalized_expression(others)
        np.testing.assert_allclose(same.get_normalized_expression(ours) / scale, expected, **close)
    for key, value in model.get_gene_parameters().items():
        np.testing.assert_allclose(same.get_gene_parameters()[key] / scale, value, rtol=0.01)
    if "linear" in kind:
        np.testing.assert_allclose(same.get_loadings() / scale, model.get_loadings(), **close)


@pytest.mark.parametrize("scale", SCALES)
def test_a_random_start_does_not_depend_on_the_unit(scale):
    model, same = trained("CountVAE", start="random"), trained("CountVAE", scale, start="random")
    np.testing.assert_allclose(same.get_elbo(), model.get_elbo() - P * np.log(scale), atol=0.01)


@pytest.mark.parametrize("scale", SCALES)
def test_mapped_cells_do_not_depend_on_the_unit(scale):
    bounds = []
    for unit in (1.0, scale):
        query = make(unit, 40, ["c"])
        model = CountVAE.load_query_data(query, trained("CountVAE", unit))
        model.train(max_epochs=3, progress=False)
        bounds.append(model.get_elbo() + P * np.log(unit))
    assert bounds[1] == pytest.approx(bounds[0], abs=0.01)


def test_the_unit_is_saved(tmp_path):
    model = trained("CountVAE", 1e-6)
    model.save(tmp_path / "model", save_anndata=True)
    again = CountVAE.load(tmp_path / "model")
    assert again.get_elbo() == pytest.approx(model.get_elbo())
    assert again.module.unit == pytest.approx(model.module.unit)
    assert model.module.unit < 1e-5
