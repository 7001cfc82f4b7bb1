import inspect

import anndata as ad
import numpy as np
import pytest

import scpln

FUNCTIONS = {"countvae": ("count_vae", "CountVAE"), "countgmvae": ("count_gmvae", "CountGMVAE")}
QUICK = {"max_epochs": 3, "start": "random", "n_threads": 1, "progress": False}


@pytest.fixture
def adata():
    adata = scpln.datasets.simulate(80, 20, n_latent=2, n_batches=2, density=0.5)
    adata.layers["raw"] = adata.X.copy()
    adata.obs["kind"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "high", "low")
    adata.obs["kind"] = adata.obs["kind"].where(np.arange(80) % 2 == 0)
    return adata


@pytest.mark.parametrize(
    ("key", "registration", "parameters"),
    [
        ("countvae", {}, {}),
        ("countvae", {"layer": "raw", "batch_key": "batch", "size_factor_key": "size_factor"}, {"n_layers": 2}),
        ("countvae", {"batch_key": "batch"}, {"likelihood": "zinb", "dispersion": "gene-batch"}),
        (
            "countvae",
            {},
            {"posterior": "flow", "flow": "planar", "likelihood": "poisson", "scale_activation": "softmax"},
        ),
        ("countvae", {"continuous_covariate_keys": ["size_factor"]}, {"size_factors": False, "k_max": 2}),
        ("countgmvae", {}, {"n_components": 3, "covariance": "diagonal"}),
        ("countgmvae", {"labels_key": "kind"}, {"component_posteriors": True}),
    ],
)
def test_same_as_the_four_steps(adata, key, registration, parameters):
    parameters = {"n_latent": 2, "n_hidden": 8, **parameters}
    function, name = FUNCTIONS[key]
    stepwise = adata.copy()
    scpln.model.setup_anndata(stepwise, **registration)
    model = getattr(scpln.model, name)(stepwise, **parameters)
    model.train(**QUICK)
    model.annotate()

    assert getattr(scpln.tl, function)(adata, **registration, **parameters, **QUICK) is None
    assert f"X_{key}" in adata.obsm
    for slot in ("obsm", "obs", "var"):
        ours, theirs = getattr(adata, slot), getattr(stepwise, slot)
        for entry in [entry for entry in theirs if key in entry]:
            np.testing.assert_array_equal(np.asarray(ours[entry]), np.asarray(theirs[entry]))
    assert parameters.items() <= adata.uns[key]["params"].items()


def test_what_a_mixture_writes_survives_a_file(adata, tmp_path):
    scpln.tl.count_gmvae(adata, labels_key="kind", n_components=3, n_latent=2, n_hidden=8, **QUICK)
    for name in [name for name in adata.uns if name.startswith("_scvi")]:
        del adata.uns[name]
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    assert list(read.obs["countgmvae_cluster"].cat.categories) == ["high", "low", "component 2"]
    np.testing.assert_allclose(read.obsm["countgmvae_cluster_probs"].sum(1), 1, rtol=1e-5)
    assert read.uns["countgmvae"]["components"]["means"].shape == (3, 2)
    assert np.isfinite(read.obs["countgmvae_elbo"]).all()


@pytest.mark.parametrize(("function", "more"), [("count_vae", {}), ("count_gmvae", {"n_components": 2})])
def test_copy_leaves_the_original_alone(adata, function, more):
    before = repr(adata)
    annotated = getattr(scpln.tl, function)(
        adata, n_latent=2, n_hidden=8, key_added="other", copy=True, **more, **QUICK
    )
    assert repr(adata) == before
    assert annotated.obsm["X_other"].shape == (80, 2)


def test_failure_annotates_nothing(adata):
    before = set(adata.obsm), set(adata.obs)
    with pytest.raises(ValueError, match="flow"):
        scpln.tl.count_vae(adata, n_latent=2, flow="planar", **QUICK)
    with pytest.raises(ValueError, match="n_components=1"):
        scpln.tl.count_gmvae(adata, n_latent=2, labels_key="kind", n_components=1, **QUICK)
    assert before == (set(adata.obsm), set(adata.obs))


def test_real_values(adata):
    adata.layers["log"] = np.log1p(adata.X.toarray())
    scpln.tl.count_vae(adata, n_latent=2, layer="log", likelihood="gaussian", is_count_data=False, **QUICK)
    assert np.isfinite(adata.obsm["X_countvae"]).all()


@pytest.mark.parametrize(("function", "name"), FUNCTIONS.values())
def test_arguments_have_the_names_and_defaults_of_the_steps(function, name):
    ours = inspect.signature(getattr(scpln.tl, function)).parameters
    setup = inspect.signature(scpln.model.setup_anndata).parameters
    model = inspect.signature(getattr(scpln.model, name)).parameters
    train = inspect.signature(getattr(scpln.model, name).train).parameters
    annotate = inspect.signature(getattr(scpln.model, name).annotate).parameters
    assert not set(model) & set(train) - {"self"}
    for argument, parameter in ours.items():
        if argument not in ("adata", "key_added", "copy", "more"):
            step = next(step for step in (model, setup, annotate) if argument in step)
            assert parameter.default == step[argument].default
