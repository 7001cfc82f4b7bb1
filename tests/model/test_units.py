"""Models do not depend on the units of covariates: x → a + b x changes coefficients, and nothing else."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scpln.data import Design
from scpln.datasets import simulate
from scpln.model import PLNPCA, CountVAE, setup_anndata, setup_mudata

from .every_model import KINDS, make_adata, train

#: Units of a number of mean 0 and standard deviation 1: a + b x.
UNITS = {
    "decimal year": (2021.5, 0.07),
    "seconds since 1970": (1.62e9, 3e4),
    "small": (5e-9, 1e-9),
    "mean of a million": (1e6, 1.0),
    "nanoseconds since 1970": (1.62e18, 3e13),
    "huge": (0.0, 1e45),
}
#: Units whose rounding is far below float32's.
EXACT = ("decimal year", "small", "huge")


def with_covariate(adata, units):
    """The same cells with a number that their counts depend on, in the given units."""
    a, b = UNITS.get(units, (0.0, 1.0))
    depth = np.log1p(np.asarray(adata.X[:, :4].sum(1)).ravel())
    adata.obs["time"] = a + b * (depth - depth.mean()) / depth.std()
    return adata


@cache
def covariate_model(kind, units=None):
    return train(kind, with_covariate(make_adata(), units), continuous_covariate_keys=["time"])


def new_cells(units):
    """Cells that no model has seen, at other times too."""
    adata = with_covariate(make_adata(n_obs=120), units)[90:].copy()
    adata.obs["time"] += 0.5 * UNITS.get(units, (0.0, 1.0))[1]
    return adata


@pytest.mark.parametrize("kind", KINDS)
def test_no_model_depends_on_units_of_covariates(kind):
    model, same = covariate_model(kind), covariate_model(kind, units := "seconds since 1970")
    close = {"rtol": 0.02, "atol": 0.02}  # a few iterations multiply rounding errors
    np.testing.assert_allclose(same.get_elbo(), model.get_elbo(), rtol=1e-4)
    np.testing.assert_allclose(same.get_latent_representation(), model.get_latent_representation(), **close)
    for method in ("get_elbo", "get_latent_representation", "get_normalized_expression"):
        ours, others = getattr(same, method)(new_cells(units)), getattr(model, method)(new_cells(None))
        np.testing.assert_allclose(ours, others, **close)
    assert not np.allclose(model.get_latent_representation(new_cells(None)), 0, atol=0.01)


@pytest.mark.parametrize(
    ("likelihood", "posterior", "some"),
    [
        ("poisson", "fullrank", UNITS),
        ("poisson", "meanfield", ["mean of a million"]),
        ("nb", "fullrank", ["seconds since 1970"]),
    ],
)
def test_every_unit_gives_the_same_fit(likelihood, posterior, some):
    random, n, p = np.random.default_rng(0), 120, 20
    x, z = random.normal(size=(n, 1)), random.normal(size=(n, 2))
    slopes, loadings = random.normal(size=(p, 1)) / 2, random.normal(size=(p, 2)) / 2
    counts = random.poisson(np.exp(-0.5 + x @ slopes.T + z @ loadings.T))
    found = {}
    for name, (a, b) in {"standard": (0, 1), **{name: UNITS[name] for name in some}, "reversed": (3.0, -2.0)}.items():
        adata = simulate(n_obs=n, n_vars=p)
        adata.X, adata.obs["x"] = counts, a + b * x[:, 0]
        setup_anndata(adata, continuous_covariate_keys=["x"])
        model = PLNPCA(adata, n_latent=2, likelihood=likelihood, posterior=posterior)
        model.train(progress=False)
        assert model.stop_reason.startswith("converged")
        coefficients = model.get_coefficients().to_numpy()
        assert np.corrcoef(coefficients[:, 1] * b, slopes[:, 0])[0, 1] > 0.9
        at_mean = coefficients[:, 0] + coefficients[:, 1] * (a + b * x.mean())
        found[name] = [model.get_elbo(), coefficients[:, 1] * b, at_mean]
    for name, (bound, slope, at_mean) in found.items():
        np.testing.assert_allclose(bound, found["standard"][0], atol=1e-3, err_msg=name)
        np.testing.assert_allclose(slope, found["standard"][1], atol=0.02, err_msg=name)
        np.testing.assert_allclose(at_mean, found["standard"][2], atol=0.02, err_msg=name)


def test_modalities_do_not_depend_on_units():
    found = []
    for units in (None, "seconds since 1970"):
        adata = with_covariate(make_adata(n_obs=200), units)
        mdata = MuData({"rna": adata[:, :8].copy(), "protein": adata[:180, 8:].copy()})
        mdata.obs["time"] = adata.obs["time"]
        setup_mudata(mdata, modalities=["rna", "protein"], continuous_covariate_keys=["time"])
        model = PLNPCA(mdata, n_latent=2, likelihood={"rna": "poisson", "protein": "nb"})
        model.train(progress=False)
        found.append((model.get_elbo(), model.get_normalized_expression().to_numpy()))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("model_class", "options"), [(PLNPCA, {}), (PLNPCA, {"likelihood": "nb"}), (CountVAE, {"n_hidden": 8})]
)
def test_mapped_cells_do_not_depend_on_units(model_class, options, tmp_path):
    found = []
    for units in (None, "seconds since 1970"):
        reference, query = with_covariate(make_adata(), units), new_cells(units)
        query.obs["batch"] = "new"
        setup_anndata(reference, batch_key="batch", continuous_covariate_keys=["time"])
        model = model_class(reference, n_latent=2, **options)
        model.train(max_epochs=5, progress=False)
        model.save(tmp_path / f"model {units}")
        model = model_class.load(tmp_path / f"model {units}", adata=False)
        mapped = model_class.load_query_data(query, model)
        mapped.train(max_epochs=5, progress=False)
        found.append((mapped.get_elbo(), mapped.get_latent_representation()))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-4)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=5e-3)


@pytest.mark.parametrize("units", UNITS)
def test_designs_are_the_same(units):
    (a, b), x = UNITS[units], np.random.default_rng(0).normal(size=50)
    tables = [pd.DataFrame({"x": values, "batch": ["a", "b"] * 25}) for values in (x, a + b * x)]
    designs = [Design.learn(table, batch_key="batch", continuous_covariate_keys=["x"]) for table in tables]
    matrices = [design.matrix(table) for design, table in zip(designs, tables, strict=True)]
    np.testing.assert_allclose(matrices[1], matrices[0], atol=1e-9 if units in EXACT else 1e-5)
    np.testing.assert_allclose(matrices[1][:, 2].mean(), 0, atol=1e-10)
    np.testing.assert_allclose(matrices[1][:, 2].std(), 1, atol=1e-12)
    known = Design.from_state(designs[1].to_state())
    part = tables[1].iloc[:5]
    np.testing.assert_array_equal(known.matrix(part), matrices[1][:5])
    raw = np.column_stack([np.ones(50), tables[1]["batch"] == "b", tables[1]["x"]])
    b_standard = np.random.default_rng(1).normal(size=(3, 3))
    np.testing.assert_allclose(raw @ known.in_units(b_standard).T, matrices[1] @ b_standard.T, atol=1e-4)


@pytest.mark.parametrize("value", [0.1, 1e9 / 3, 1e-12, -1.62e18])
def test_constant_and_collinear_numbers_are_named(value):
    table = pd.DataFrame({"x": np.full(20, value), "y": np.arange(20.0)})
    table.loc[3, "x"] = np.nextafter(value, np.inf)
    with pytest.raises(ValueError, match=r"coefficients of \['x'\] cannot be told"):
        Design.learn(table, continuous_covariate_keys=["x"])
    table["x"] = 1e6 - 3 * table["y"]
    with pytest.raises(ValueError, match=r"coefficients of \['x'\] cannot be told"):
        Design.learn(table, continuous_covariate_keys=["y", "x"])


def test_designs_saved_before_have_numbers_as_they_are():
    table = pd.DataFrame({"x": [2020.0, 2021.0, 2022.5]})
    state = Design.learn(table, continuous_covariate_keys=["x"]).to_state()
    del state["scales"]
    before = Design.from_state(state)
    np.testing.assert_array_equal(before.matrix(table)[:, 1], table["x"])
    np.testing.assert_array_equal(before.in_units(np.array([[1.0, 2.0]])), [[1.0, 2.0]])
