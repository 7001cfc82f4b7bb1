"""Tables of samples by cell types, against pandas' crosstabs."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scpln
from scpln.tl import composition


@pytest.fixture
def cells():
    random = np.random.default_rng(0)
    n = 400
    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(n)])
    obs["donor"] = random.choice(["d1", "d2", "d10"], n)
    obs["stim"] = random.choice(["no", "yes"], n)
    obs["subclass"] = pd.Categorical(random.choice(["L5", "L2", "Pvalb"], n), ["L2", "L5", "Pvalb", "unused"])
    obs["class"] = np.where(obs["subclass"] == "Pvalb", "GABA", "Glut")
    obs["age"] = obs["donor"].map({"d1": 30.5, "d2": 41.0, "d10": np.nan})
    obs["depth"] = random.integers(100, 1000, n)
    return ad.AnnData(np.ones((n, 3), np.float32), obs=obs)


def test_counts_totals_and_covariates(cells):
    table = composition(cells, "donor", "subclass")
    expected = pd.crosstab(cells.obs["donor"], cells.obs["subclass"])
    assert table.to_df().astype(int).to_dict() == expected.to_dict()
    np.testing.assert_array_equal(table.obs["n_cells"], expected.sum(1))
    assert list(table.obs_names) == ["d1", "d10", "d2"]
    assert list(table.obs.columns) == ["donor", "age", "n_cells"]
    assert dict(table.obs["age"].dropna()) == {"d1": 30.5, "d2": 41.0}


def test_samples_of_several_columns_and_zeros(cells):
    cells = cells[~((cells.obs["donor"] == "d1") & (cells.obs["subclass"] == "L5"))]
    table = composition(cells, ["donor", "stim"], "subclass")
    assert list(table.obs_names) == ["d1_no", "d1_yes", "d10_no", "d10_yes", "d2_no", "d2_yes"]
    assert table[["d1_no", "d1_yes"], "L5"].X.sum() == 0
    assert table.obs["stim"].tolist() == ["no", "yes"] * 3
    assert (np.asarray(table.X.sum(1)).ravel() == table.obs["n_cells"]).all()


def test_nested_labels_are_kept(cells):
    table = composition(cells, "donor", ["class", "subclass"])
    assert dict(table.var["class"]) == {"L2": "Glut", "L5": "Glut", "Pvalb": "GABA"}
    assert table.uns["composition"] == {"sample_key": ["donor"], "label_key": ["class", "subclass"]}


@pytest.mark.parametrize("keys", ["donor", "number", ["donor", "stim"]])
def test_tables_are_written_and_read(cells, keys, tmp_path):
    cells.obs["donor"] = cells.obs["donor"].astype("category")
    cells.obs["number"] = cells.obs["donor"].cat.codes.to_numpy()
    table = composition(cells, keys, ["class", "subclass"])
    table.write_h5ad(tmp_path / "table.h5ad")
    again = ad.read_h5ad(tmp_path / "table.h5ad")
    pd.testing.assert_frame_equal(again.to_df(), table.to_df(), check_names=False)
    assert list(again.obs) == list(table.obs)


def test_every_model_reads_it(cells, tmp_path):
    table = composition(cells, ["donor", "stim"], "subclass")
    table.write_h5ad(tmp_path / "table.h5ad")
    table = ad.read_h5ad(tmp_path / "table.h5ad")
    scpln.model.setup_anndata(table, size_factor_key="n_cells", categorical_covariate_keys=["stim"])
    for model in (scpln.model.PLN(table, "diagonal"), scpln.model.PLNPCA(table, 1)):
        model.train(progress=False)
        assert np.isfinite(model.get_elbo())


def test_order_of_cells_does_not_matter(cells):
    order = np.random.default_rng(1).permutation(cells.n_obs)
    one, other = (composition(some, ["donor", "stim"], ["class", "subclass"]) for some in (cells, cells[order]))
    pd.testing.assert_frame_equal(one.to_df(), other.to_df())
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)


def test_cells_without_label_are_left_out_with_a_warning(cells):
    cells.obs["subclass"] = cells.obs["subclass"].where(np.arange(400) >= 7)
    with pytest.warns(UserWarning, match=r"7 of 400 cells lack a value"):
        table = composition(cells, "donor", "subclass")
    assert table.X.sum() == 393
    cells.obs["subclass"] = np.nan
    with pytest.raises(ValueError, match="nothing to count"):
        composition(cells, "donor", "subclass")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("donr", "subclass"), {}, "Did you mean 'donor'"),
        (("donor", []), {}, "one column of obs or more"),
        (("donor", "donor"), {}, "'donor' is named twice in sample_key and label_key"),
        (("donor", ["class", "class"]), {}, "'class' is named twice in sample_key and label_key"),
        (("donor", "subclass"), {"covariate_keys": "stim"}, r"'stim' .* two values in sample 'd1', no and yes"),
        (("donor", ["stim", "subclass"]), {}, r"not nested: subclass='\w+' is in stim='\w+' and '\w+'"),
    ],
)
def test_what_cannot_be_is_refused(cells, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        composition(cells, *arguments, **options)


def test_what_has_no_cells_is_refused(cells):
    with pytest.raises(ValueError, match="adata has no cells"):
        composition(cells[:0], "donor", "subclass")
    with pytest.raises(TypeError, match=r"not str. Read one: `anndata.read_h5ad\(path\)`"):
        composition("cells.h5ad", "donor", "subclass")


def test_counts_that_were_cut_off_are_said(cells):
    """Cells of which at most 15 of each type and sample were kept tell of the limit, and not of the sample."""
    counted = cells.obs.groupby(["donor", "stim", "subclass"], observed=True).cumcount()
    with pytest.warns(UserWarning, match=r"\d+ of 18 counts are 15, the largest"):
        composition(cells[(counted < 15).to_numpy()], ["donor", "stim"], "subclass")
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):  # small counts of many samples, whose largest are many
            obs = pd.DataFrame({"donor": random.choice(500, 4000).astype(str), "type": random.choice(["a", "b"], 4000)})
            composition(ad.AnnData(obs=obs.set_axis([f"c{i}" for i in range(4000)])), "donor", "type")


def test_two_samples_of_one_name_are_refused(cells):
    cells.obs["a"], cells.obs["b"] = (
        np.where(cells.obs["stim"] == "no", "x_y", "x"),
        np.where(cells.obs["stim"] == "no", "z", "y_z"),
    )
    with pytest.raises(ValueError, match="both be named 'x_y_z'"):
        composition(cells, ["a", "b"], "subclass")
