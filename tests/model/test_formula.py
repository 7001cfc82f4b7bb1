"""`design=` from the set-up to new cells: a formula is one more way to say what a design is."""

import numpy as np
import pytest
from mudata import MuData

from scpln.model import PLN, PLNPCA, CountVAE, setup_anndata, setup_mudata

from .every_model import make_adata, train

KINDS = ["PLNPCA, poisson", "PLNPCA, nb", "PLNPCA, flow", "PLN", "CountVAE", "CountGMVAE"]


def cells(**options):
    """Cells of two conditions and three donors, at ages that their counts depend on."""
    adata, rng = make_adata(**options), np.random.default_rng(0)
    depth = np.log1p(np.asarray(adata.X[:, :4].sum(1)).ravel())
    adata.obs["age"] = 50 + 10 * (depth - depth.mean()) / depth.std()
    adata.obs["condition"] = rng.choice(["ctrl", "stim"], adata.n_obs)
    adata.obs["donor"] = rng.choice(["d1", "d2", "d3"], adata.n_obs)
    return adata


@pytest.mark.parametrize("model_class", [PLNPCA, PLN])
def test_a_formula_is_the_same_as_keys(model_class):
    found = []
    for keys in (
        {"categorical_covariate_keys": ["condition", "donor"], "continuous_covariate_keys": ["age"]},
        {"design": "~ condition + donor + age"},
    ):
        adata = cells()
        setup_anndata(adata, batch_key=None, **keys)
        model = model_class(adata, **({"n_latent": 2} if model_class is PLNPCA else {}))
        model.train(progress=False)
        found.append(model)
    assert found[0].covariates == found[1].covariates
    np.testing.assert_allclose(found[1].get_elbo(), found[0].get_elbo(), rtol=1e-8)
    np.testing.assert_allclose(found[1].get_coefficients(), found[0].get_coefficients(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_takes_a_formula_and_keeps_it(kind, tmp_path):
    model = train(kind, cells(), design="~ condition * bs(age, df=4) + donor")
    assert model.covariates[1] == "condition[T.stim]"
    assert model.covariates[-1] == "condition[T.stim]:bs(age, df=4)[4]"
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", adata=False)
    new = cells(n_obs=120)[100:].copy()
    new.obs["age"] = 50.0
    np.testing.assert_array_equal(loaded.get_elbo(new), model.get_elbo(new))
    assert "~ condition * bs(age, df=4) + donor" in (tmp_path / "model" / "model.json").read_text()
    new.obs["donor"] = "d9"
    with pytest.raises(
        ValueError, match=r"'donor'\] \(design\) has categories that the model was not trained on: \['d9'\]"
    ):
        loaded.get_elbo(new)


@pytest.mark.parametrize("kind", KINDS)
def test_no_model_depends_on_units_of_numbers_in_a_formula(kind):
    models = []
    for origin, unit in ((0.0, 1.0), (1.6e9, 3e4)):
        adata = cells()
        adata.obs["age"] = origin + unit * (adata.obs["age"] - 50) / 10
        models.append(train(kind, adata, design="~ condition * age"))
    np.testing.assert_allclose(models[1].get_elbo(), models[0].get_elbo(), rtol=1e-4)
    np.testing.assert_allclose(
        models[1].get_latent_representation(), models[0].get_latent_representation(), rtol=0.02, atol=0.02
    )


def test_coefficients_are_those_of_the_formula():
    rng, adata = np.random.default_rng(0), cells(n_obs=400)
    age, stim = adata.obs["age"].to_numpy() - 50, (adata.obs["condition"] == "stim").to_numpy(float)
    slopes = rng.normal(0, 0.05, size=(2, adata.n_vars))
    eta = 2 + age[:, None] * slopes[0] + stim[:, None] * (0.5 + age[:, None] * slopes[1])
    adata.X = rng.poisson(np.exp(eta)).astype(np.float32)
    adata.obs["size"] = 1.0
    setup_anndata(adata, size_factor_key="size", design="~ condition * age")
    model = PLNPCA(adata, n_latent=1)
    model.train(progress=False)
    found = model.get_coefficients()
    np.testing.assert_allclose(found["age"], slopes[0], atol=0.02)
    np.testing.assert_allclose(found["condition[T.stim]:age"], slopes[1], atol=0.02)
    np.testing.assert_allclose(found["condition[T.stim]"] + 50 * found["condition[T.stim]:age"], 0.5, atol=0.15)


@pytest.mark.parametrize(("model_class", "options"), [(PLNPCA, {}), (CountVAE, {"n_hidden": 8})])
def test_cells_of_a_new_donor_are_mapped(model_class, options):
    reference, query = cells(), cells(n_obs=150)[90:].copy()
    query.obs["donor"] = "d9"
    setup_anndata(reference, design="~ condition * age + donor")
    model = model_class(reference, n_latent=2, **options)
    model.train(max_epochs=5, progress=False)
    mapped = model_class.load_query_data(query, model)
    assert mapped.new_categories == {"donor": ["d9"]}
    mapped.train(max_epochs=5, progress=False)
    assert np.isfinite(mapped.get_elbo())
    others = [column for column in mapped.covariates if column != "donor[T.d9]"]
    if model_class is PLNPCA:
        np.testing.assert_allclose(mapped.get_coefficients()[others], model.get_coefficients()[others], rtol=1e-12)


def test_batches_are_transformed_with_their_interactions():
    adata = cells()
    setup_anndata(adata, batch_key="donor", design="~ condition * donor")
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    moved = model.get_normalized_expression(transform_batch="d2").to_numpy()
    same = (adata.obs["donor"] == "d2").to_numpy()
    own = model.get_normalized_expression().to_numpy()
    np.testing.assert_allclose(moved[same], own[same], rtol=1e-6)
    assert not np.allclose(moved[~same], own[~same], rtol=1e-3)


def test_columns_of_a_mudata():
    adata = cells()
    mdata = MuData({"rna": adata[:, :8].copy(), "protein": adata[:80, 8:].copy()})
    with pytest.raises(ValueError, match=r"mdata.obs has no column 'condition' \(design\), but mdata\['rna'\].obs has"):
        setup_mudata(mdata, modalities=["rna", "protein"], design="~ condition * age")
    mdata.obs[["condition", "age"]] = adata.obs[["condition", "age"]]
    setup_mudata(mdata, modalities=["rna", "protein"], design="~ condition * age")
    model = PLNPCA(mdata, n_latent=2)
    model.train(progress=False)
    assert list(model.get_coefficients("protein").columns) == [
        "(Intercept)",
        "condition[T.stim]",
        "age",
        "condition[T.stim]:age",
    ]


def test_groups_are_tested_at_equal_columns_of_others():
    adata = cells()
    setup_anndata(adata, design="~ condition * age + donor")
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    table = model.test_groups(adata, "condition", "stim", "ctrl")
    other = cells()
    setup_anndata(other, categorical_covariate_keys=["donor"], continuous_covariate_keys=["age"])
    same = PLNPCA(other, n_latent=2)
    same.train(progress=False)
    expected = same.test_groups(other, "condition", "stim", "ctrl")
    numbers = table.select_dtypes("number")
    np.testing.assert_allclose(numbers, expected[numbers.columns], rtol=1e-5, atol=1e-8)


def test_arguments():
    adata = cells()
    with pytest.raises(TypeError, match="design=3, but it must be a formula"):
        setup_anndata(adata, design=3)
    with pytest.raises(ValueError, match="two ways to say one thing"):
        setup_anndata(adata, design="~ age", categorical_covariate_keys=["donor"])


@pytest.mark.parametrize(
    ("model_class", "options", "least"),
    [(PLNPCA, {"n_latent": 2}, -10), (PLNPCA, {"n_latent": 2, "prior": "none"}, -60), (PLN, {}, -15)],
)
def test_a_gene_that_a_category_never_shows_has_finite_coefficients(model_class, options, least):
    adata = cells()
    counts = adata.X.toarray()
    counts[(adata.obs["donor"] == "d3").to_numpy(), :2] = 0
    adata.X = counts
    setup_anndata(adata, design="~ condition + donor")
    model = model_class(adata, **options)
    model.train(progress=False)
    effects = model.get_coefficients()["donor[T.d3]"]
    assert (effects[:2] < -1).all()
    assert effects.min() > least
    assert np.isfinite(model.get_elbo(return_mean=False)).all()
