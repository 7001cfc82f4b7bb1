"""Design matrix: against pandas' indicators, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest

from scpln.data.design import Design, get_numbers


@pytest.fixture
def obs() -> pd.DataFrame:
    n = 40
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "batch": pd.Categorical(rng.choice(["b", "a", "c"], n), categories=["unused", "c", "b", "a"]),
            "donor": rng.integers(1, 4, n),
            "age": rng.normal(50, 10, n),
            "treated": rng.random(n) < 0.5,
            "text": "x",
        },
        index=[f"cell_{i}" for i in range(n)],
    )


def test_matrix_has_indicators_against_the_first_category(obs):
    design = Design.learn(
        obs, batch_key="batch", categorical_covariate_keys=["donor"], continuous_covariate_keys=["age", "treated"]
    )
    indicators = obs[["batch", "donor"]].assign(batch=obs["batch"].cat.remove_unused_categories())
    indicators = pd.get_dummies(indicators.astype("category"), drop_first=True)
    numbers = obs[["age", "treated"]].astype(float)
    scaled = (numbers - numbers.mean()) / numbers.std(ddof=0)
    expected = np.column_stack([np.ones(len(obs)), indicators, scaled]).astype(float)
    np.testing.assert_allclose(design.matrix(obs), expected, rtol=1e-12)
    assert design.names == ["(Intercept)", "batch[T.b]", "batch[T.a]", "donor[T.2]", "donor[T.3]", "age", "treated"]


def test_state_is_plain_and_gives_the_same_design(obs):
    design = Design.learn(obs, batch_key="batch", continuous_covariate_keys=["age"])
    again = Design.from_state(design.to_state())
    np.testing.assert_array_equal(again.matrix(obs), design.matrix(obs))
    assert design.to_state()["factors"] == {"batch": ["c", "b", "a"]}


def test_other_data_use_the_categories_that_were_learned(obs):
    design = Design.learn(obs, batch_key="batch", categorical_covariate_keys=["donor"])
    part = obs[obs["batch"] == "b"].assign(batch="b", donor="2")
    np.testing.assert_array_equal(np.unique(design.matrix(part), axis=0), [[1, 1, 0, 1, 0]])


def test_all_cells_can_be_put_into_one_category(obs):
    design = Design.learn(obs, batch_key="batch")
    np.testing.assert_array_equal(design.matrix(obs, {"batch": "a"}), design.matrix(obs.assign(batch="a")))
    with pytest.raises(ValueError, match=r"'z' is not a category of 'batch'; the model knows \['c', 'b', 'a'\]"):
        design.matrix(obs, {"batch": "z"})


def test_one_key_may_be_given_as_text(obs):
    assert Design.learn(obs, categorical_covariate_keys="donor").names == ["(Intercept)", "donor[T.2]", "donor[T.3]"]


def test_one_category_is_the_intercept(obs):
    assert Design.learn(obs, batch_key="text").names == ["(Intercept)"]


def test_unknown_columns_are_named_with_the_nearest(obs):
    with pytest.raises(ValueError, match=r"adata.obs has no column 'bach' \(batch_key\). Did you mean 'batch'\?"):
        Design.learn(obs, batch_key="bach")
    with pytest.raises(ValueError, match=r"no column 'zzz' \(continuous_covariate_keys\). Its columns are \['batch'"):
        Design.learn(obs, continuous_covariate_keys=["zzz"])


def test_missing_categories_are_counted(obs):
    obs.loc[["cell_3", "cell_9"], "batch"] = np.nan
    with pytest.raises(
        ValueError, match=r"adata.obs\['batch'\] \(batch_key\) is missing \(NaN\) for 2 of 40 cells, first for 'cell_3'"
    ):
        Design.learn(obs, batch_key="batch")


def test_unseen_categories_are_named_with_the_known(obs):
    design = Design.learn(obs, batch_key="batch")
    with pytest.raises(ValueError, match=r"not trained on: \['new'\]. It knows \['c', 'b', 'a'\]"):
        design.matrix(obs.assign(batch="new"))
    obs["batch"] = obs["batch"].where(obs.index != "cell_0")
    with pytest.raises(ValueError, match=r"missing \(NaN\) for 1 of 40 cells"):
        design.matrix(obs)


def test_categories_that_read_the_same_are_refused(obs):
    obs["mixed"] = pd.Categorical([1, "1"] * 20, categories=[1, "1"])
    with pytest.raises(ValueError, match=r"'mixed'.*read the same as text: \['1', '1'\]"):
        Design.learn(obs, batch_key="mixed")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_must_be_finite(obs, value):
    obs.loc["cell_5", "age"] = value
    with pytest.raises(ValueError, match=r"'age'.* is NaN or infinite for 1 of 40 cells, first for 'cell_5'"):
        Design.learn(obs, continuous_covariate_keys=["age"])


def test_numbers_must_be_numeric(obs):
    with pytest.raises(ValueError, match=r"'text'.* is not numeric but .*categorical_covariate_keys"):
        Design.learn(obs, continuous_covariate_keys=["text"])


def test_a_key_is_used_once(obs):
    with pytest.raises(ValueError, match=r"'donor' is given twice, in batch_key and in continuous_covariate_keys"):
        Design.learn(obs, batch_key="donor", continuous_covariate_keys=["donor"])


def test_columns_that_follow_from_others_are_named(obs):
    obs["site"] = obs["batch"].astype(str).map({"a": "north", "b": "north", "c": "south"})
    with pytest.raises(ValueError, match=r"coefficients of \['site\[T.south\]'\] cannot be told from the others"):
        Design.learn(obs, batch_key="batch", categorical_covariate_keys=["site"])
    with pytest.raises(ValueError, match=r"coefficients of \['constant'\]"):
        Design.learn(obs.assign(constant=2.0), continuous_covariate_keys=["constant"])
    with pytest.raises(ValueError, match=r"coefficients of \['age', 'treated'\]"):
        Design.learn(obs.iloc[:1], continuous_covariate_keys=["age", "treated"])


def test_a_number_far_from_zero_is_no_intercept(obs):
    obs["year"] = 2020 + obs["donor"]
    assert Design.learn(obs, continuous_covariate_keys=["year"]).names == ["(Intercept)", "year"]


@pytest.mark.parametrize("value", [1e300, 1e51, -1e51, 1e-51, 1e-300])
def test_numbers_whose_squares_cannot_be_computed(value):
    obs = pd.DataFrame({"age": [0.0, value, value / 2]}, index=["a", "b", "c"])
    said = f"adata.obs['age'] (age_key) is up to {value:.6g} in size, for 'b', and squares of that cannot be computed: it must be from 1e-50 to 1e+50."
    with pytest.raises(ValueError, match=re.escape(said)):
        get_numbers(obs, "age", "age_key")


def test_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="is not numeric but complex128"):
        get_numbers(pd.DataFrame({"age": [1j, 2.0]}), "age", "continuous_covariate_keys")


@pytest.mark.parametrize(
    "dtype", ["float16", ">f4", ">f8", "longdouble", ">i4", "uint8", "Float32", "Int64", "boolean"]
)
def test_numbers_of_every_type_become_doubles(dtype):
    values = get_numbers(pd.DataFrame({"age": pd.Series(np.array([0, 1, 1])).astype(dtype)}), "age", "covariate")
    assert values.dtype == np.float64
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, [0, 1, 1])
