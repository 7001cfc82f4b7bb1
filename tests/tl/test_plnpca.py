import inspect

import numpy as np
import pytest

import scpln


@pytest.fixture
def adata():
    return scpln.datasets.simulate(60, 30, n_latent=2, n_batches=2, density=0.5)


def test_same_as_the_four_steps(adata):
    stepwise = adata.copy()
    scpln.model.setup_anndata(stepwise, batch_key="batch", size_factor_key="size_factor")
    model = scpln.model.PLNPCA(stepwise, n_latent=2, posterior="meanfield")
    model.train(max_epochs=5, seed=1, progress=False)
    model.annotate()

    returned = scpln.tl.plnpca(
        adata,
        n_latent=2,
        batch_key="batch",
        size_factor_key="size_factor",
        posterior="meanfield",
        max_epochs=5,
        seed=1,
        progress=False,
    )
    assert returned is None
    np.testing.assert_array_equal(adata.obsm["X_plnpca"], stepwise.obsm["X_plnpca"])
    np.testing.assert_array_equal(adata.varm["plnpca_loadings"], stepwise.varm["plnpca_loadings"])
    np.testing.assert_array_equal(adata.obs["plnpca_elbo"], stepwise.obs["plnpca_elbo"])
    assert set(adata.uns["plnpca"]) == set(stepwise.uns["plnpca"])


@pytest.mark.parametrize(
    ("arguments", "training"),
    [
        ({"posterior": "flow", "flow": "planar"}, {"n_steps": 10}),
        ({"posterior": "flow", "flow_hidden": [8], "n_transforms": 1}, {"n_steps": 10}),
        ({"amortized": True, "encoder_hidden": [16]}, {"n_steps": 10}),
        ({"likelihood": "bernoulli"}, {}),
        ({"likelihood": "nb", "posterior": "meanfield"}, {"n_importance_samples": 2, "n_steps": 10}),
    ],
)
def test_arguments_reach_the_model(adata, arguments, training):
    stepwise = adata.copy()
    scpln.model.setup_anndata(stepwise)
    model = scpln.model.PLNPCA(stepwise, n_latent=2, **arguments)
    training |= {"max_epochs": 3, "n_threads": 1, "progress": False}
    model.train(**training)
    scpln.tl.plnpca(adata, n_latent=2, **arguments, **training)
    np.testing.assert_array_equal(adata.obsm["plnpca_state"], model.get_latent_representation())
    assert arguments.items() <= adata.uns["plnpca"]["params"].items()


def test_real_values(adata):
    adata.layers["log"] = np.log1p(adata.X.toarray())
    with pytest.raises(ValueError, match="is_count_data=False"):
        scpln.tl.plnpca(adata, n_latent=2, layer="log", likelihood="gaussian", progress=False)
    scpln.tl.plnpca(adata, n_latent=2, layer="log", likelihood="gaussian", is_count_data=False, progress=False)
    assert np.isfinite(adata.obsm["X_plnpca"]).all()
    assert adata.uns["plnpca"]["setup"]["is_count_data"] is False


def test_copy_leaves_the_original_alone(adata):
    before = repr(adata)
    annotated = scpln.tl.plnpca(adata, n_latent=2, max_epochs=2, progress=False, copy=True, key_added="other")
    assert repr(adata) == before
    assert annotated.obsm["X_other"].shape == (60, 2)
    assert "plnpca" not in annotated.uns


def test_failure_annotates_nothing(adata):
    before = set(adata.obsm), set(adata.varm), set(adata.obs)
    with pytest.raises(ValueError, match="n_latent"):
        scpln.tl.plnpca(adata, n_latent=1000, progress=False)
    assert before == (set(adata.obsm), set(adata.varm), set(adata.obs))


def test_arguments_have_the_names_and_defaults_of_the_steps():
    function = inspect.signature(scpln.tl.plnpca).parameters
    setup = inspect.signature(scpln.model.setup_anndata).parameters
    model = inspect.signature(scpln.model.PLNPCA).parameters
    for name, parameter in function.items():
        for step in (setup, model):
            if name in step and name != "adata":
                assert parameter.default == step[name].default


def test_unknown_arguments_are_refused_before_anything_changes(adata):
    before = repr(adata), set(adata.uns)
    with pytest.raises(TypeError, match=r"no step of PLNPCA takes 'n_step'\. Did you mean 'n_steps'\?"):
        scpln.tl.plnpca(adata, n_latent=2, n_step=3)
    with pytest.raises(TypeError, match=r"no step of PLNPCA takes 'registry'\."):
        scpln.tl.plnpca(adata, n_latent=2, registry={})
    with pytest.raises(TypeError, match=r"no step of CountVAE takes 'n_steps'"):
        scpln.tl.count_vae(adata, n_latent=2, n_steps=3)
    with pytest.raises(ValueError, match="modalities is for a MuData, and this is an AnnData"):
        scpln.tl.plnpca(adata, n_latent=2, modalities=["rna"])
    assert before == (repr(adata), set(adata.uns))


@pytest.fixture
def mdata():
    return scpln.datasets.simulate_multimodal(50, {"rna": 15, "prot": 6}, n_latent=2, density=0.6)


def test_modalities_same_as_the_four_steps(mdata):
    stepwise, likelihood = mdata.copy(), {"rna": "poisson", "prot": "nb"}
    scpln.model.setup_mudata(stepwise, modalities=["rna", "prot"])
    model = scpln.model.PLNPCA(stepwise, n_latent=2, likelihood=likelihood)
    model.train(max_epochs=4, seed=1, progress=False)
    options = {"n_latent": 2, "max_epochs": 4, "seed": 1, "progress": False}
    annotated = scpln.tl.plnpca(mdata, modalities=["rna", "prot"], likelihood=likelihood, copy=True, **options)
    assert "X_plnpca" not in mdata.obsm
    np.testing.assert_array_equal(annotated.obsm["plnpca_state"], model.get_latent_representation())
    assert annotated["prot"].varm["plnpca_loadings"].shape == (6, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "modalities names none"),
        ({"layer": "counts"}, "layer is for one AnnData, and this is a MuData"),
        ({"is_count_data": False}, "is_count_data is for one AnnData"),
        ({"modalities": ["rn"]}, "mdata.mod has no 'rn'"),
    ],
)
def test_arguments_that_are_not_for_modalities(mdata, options, message):
    with pytest.raises(ValueError, match=message):
        scpln.tl.plnpca(mdata, n_latent=2, progress=False, **options)


def test_a_model_of_one_modality_says_so(mdata):
    with pytest.raises(TypeError, match="this is a MuData"):
        scpln.tl.count_vae(mdata, n_latent=2)


def test_an_error_after_the_fit_has_the_model(monkeypatch):
    def fail(*_args, **_more):
        message = "no place for this"
        raise RuntimeError(message)

    monkeypatch.setattr(scpln.model.PLNPCA, "annotate", fail)
    with pytest.raises(RuntimeError, match="no place for this") as caught:
        scpln.tl.plnpca(scpln.datasets.simulate(30, 8), n_latent=1, progress=False)
    assert caught.value.model.is_trained
    assert "sys.last_value.model" in caught.value.__notes__[0]
