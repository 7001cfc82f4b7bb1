"""Designs of formulas: formulaic's columns, what is kept of them, and what is refused."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix

from scpln.data.design import Design, columns_in

N = 60
FORMULAS = [
    "~ condition * age",
    "~ condition * age + donor",
    "condition + age:condition",
    "~ condition / age",
    "~ donor:condition",
    "~ condition * donor * age",
    "~ C(dose)",
    "~ C(dose, contr.treatment(2)) + C(donor, contr.sum)",
    "~ C(donor, Treatment(reference='d2'))",
    "~ bs(age, df=4)",
    "~ condition * cr(age, df=3, constraints='center')",
    "~ poly(age, 2) + treated",
    "~ scale(age) + center(weight)",
    "~ np.log(weight) + I(age ** 2) + age",
    "~ I(age > 50) + C(treated)",
    "~ age * weight",
    "~ `body mass` + donor",
    "~ 1",
]


@pytest.fixture
def obs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = {
        "condition": pd.Categorical(rng.choice(["ctrl", "stim"], N), categories=["stim", "unused", "ctrl"]),
        "donor": rng.choice(["d1", "d2", "d3"], N),
        "dose": rng.integers(1, 4, N),
        "age": rng.normal(50, 10, N),
        "weight": rng.uniform(50, 90, N),
        "treated": rng.random(N) < 0.5,
        "body mass": rng.normal(size=N),
        "batch": rng.choice(["x", "y"], N),
    }
    return pd.DataFrame(frame, index=[f"cell_{i}" for i in range(N)])


def reference(formula, obs):
    """X as formulaic has it, of columns whose unused categories are dropped."""
    found = model_matrix(formula, obs.assign(condition=obs["condition"].cat.remove_unused_categories()))
    return found.to_numpy(float), ["(Intercept)", *found.columns[1:]]


@pytest.mark.parametrize("formula", FORMULAS)
def test_columns_are_those_of_formulaic(obs, formula):
    design = Design.learn(obs, design=formula)
    x, names = reference(formula, obs)
    assert design.names == names
    coefficients = np.random.default_rng(1).normal(size=(3, len(names)))
    in_units = design.in_units(coefficients)
    np.testing.assert_allclose(design.matrix(obs) @ coefficients.T, x @ in_units.T, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(design.matrix(obs)[:, 0], 1)


@pytest.mark.parametrize("formula", FORMULAS)
def test_state_is_json_and_gives_the_same_columns_of_new_cells(obs, formula):
    design = Design.learn(obs, design=formula)
    again = Design.from_state(json.loads(json.dumps(design.to_state())))
    assert again.to_state() == design.to_state()
    for part in (obs, obs.iloc[[5]], obs.iloc[::-2]):
        np.testing.assert_allclose(
            again.matrix(part), design.matrix(obs.copy())[obs.index.get_indexer(part.index)], atol=1e-12
        )


def test_one_cell_has_the_columns_of_all_categories(obs):
    design = Design.learn(obs, design="~ condition * donor")
    cell = obs.iloc[[0]].assign(condition="ctrl", donor="d3")
    assert dict(zip(design.names, design.matrix(cell)[0], strict=True)) == {
        "(Intercept)": 1,
        "condition[T.ctrl]": 1,
        "donor[T.d2]": 0,
        "donor[T.d3]": 1,
        "condition[T.ctrl]:donor[T.d2]": 0,
        "condition[T.ctrl]:donor[T.d3]": 1,
    }


def test_the_same_as_keys(obs):
    keys = Design.learn(
        obs,
        batch_key="batch",
        categorical_covariate_keys=["donor", "dose"],
        continuous_covariate_keys=["age", "treated"],
    )
    formula = Design.learn(obs, design="~ batch + donor + C(dose) + age + treated")
    np.testing.assert_allclose(formula.matrix(obs), keys.matrix(obs), atol=1e-13)
    np.testing.assert_allclose(formula.average, keys.average, atol=1e-13)
    b = np.random.default_rng(0).normal(size=(4, 8))
    np.testing.assert_allclose(formula.in_units(b), keys.in_units(b), rtol=1e-12)
    assert [name.replace("C(dose)", "dose") for name in formula.names] == keys.names


@pytest.mark.parametrize(
    "formula",
    ["~ condition * age", "~ age * weight", "~ bs(age, df=5) * condition", "~ poly(age, 3)", "~ age + I(age ** 2)"],
)
@pytest.mark.parametrize(("origin", "unit"), [(2021.5, 0.07), (1.62e9, 3e4), (5e-9, 1e-9), (3.0, -2.0)])
def test_units_do_not_matter(obs, formula, origin, unit):
    standard = (obs["age"] - obs["age"].mean()) / obs["age"].std()
    x = [
        Design.learn(frame, design=formula).matrix(frame)
        for frame in (obs.assign(age=standard), obs.assign(age=origin + unit * standard))
    ]
    if unit > 0:
        np.testing.assert_allclose(x[1], x[0], atol=2e-5)
    else:  # the other way round: the same space of log-rates
        projections = [each @ np.linalg.pinv(each) for each in x]
        np.testing.assert_allclose(projections[1], projections[0], atol=1e-9)
        assert np.linalg.cond(x[1]) < 200


def test_average_is_half_way_between_categories(obs):
    design = Design.learn(obs, design="~ condition * donor + age * condition")
    grid = pd.DataFrame(
        [{"condition": c, "donor": d, "age": obs["age"].mean()} for c in ("stim", "ctrl") for d in ("d1", "d2", "d3")]
    )
    np.testing.assert_allclose(design.average, design.matrix(grid).mean(0), atol=1e-12)


def test_the_batch_is_added_unless_it_is_there(obs):
    assert Design.learn(obs, design="~ age", batch_key="batch").names == ["(Intercept)", "age", "batch[T.y]"]
    inside = Design.learn(obs.assign(batch=obs["dose"]), design="~ batch * age", batch_key="batch")
    assert inside.names == ["(Intercept)", "batch[T.2]", "batch[T.3]", "age", "batch[T.2]:age", "batch[T.3]:age"]
    moved = inside.matrix(obs.assign(batch=obs["dose"]), {"batch": "3"})
    np.testing.assert_array_equal(moved, inside.matrix(obs.assign(batch=3)))


def test_orders_of_categories_and_of_cells(obs):
    design = Design.learn(obs, design="~ condition + donor")
    assert design.factors == {"condition": ["stim", "ctrl"], "donor": ["d1", "d2", "d3"]}
    other = obs.assign(condition=obs["condition"].cat.reorder_categories(["ctrl", "unused", "stim"]))
    np.testing.assert_array_equal(design.matrix(other), design.matrix(obs))
    shuffled = obs.sample(frac=1, random_state=0)
    np.testing.assert_allclose(
        Design.learn(shuffled, design="~ bs(age, df=4) + donor").matrix(obs),
        Design.learn(obs, design="~ bs(age, df=4) + donor").matrix(obs),
        atol=1e-12,
    )


def test_numbers_that_are_categories_come_in_any_type(obs):
    design = Design.learn(obs, design="~ C(dose)")
    for dtype in (float, str, "category"):
        np.testing.assert_array_equal(design.matrix(obs.assign(dose=obs["dose"].astype(dtype))), design.matrix(obs))


def test_what_new_cells_lack_is_said(obs):
    design = Design.learn(obs, design="~ condition * age")
    with pytest.raises(
        ValueError,
        match=r"adata.obs\['condition'\] \(design\) has categories that the model was not trained on: \['new'\]. It knows \['stim', 'ctrl'\].*load_query_data",
    ):
        design.matrix(obs.assign(condition="new"))
    with pytest.raises(ValueError, match=r"no column 'age' \(design\)"):
        design.matrix(obs.drop(columns="age"))
    for key in ("age", "condition"):
        missing = obs.copy()
        missing.loc["cell_3", key] = np.nan
        with pytest.raises(ValueError, match=rf"'{key}'.*\(design\) is .*NaN.* for 1 of 60 cells, first for 'cell_3'"):
            design.matrix(missing)
        with pytest.raises(ValueError, match=rf"'{key}'.*\(design\) is .*NaN.* for 1 of 60 cells, first for 'cell_3'"):
            Design.learn(missing, design="~ condition * age")
    with pytest.raises(ValueError, match=r"cannot be computed of these cells: .*extrapolation"):
        Design.learn(obs, design="~ bs(age, df=4)").matrix(obs.assign(age=1000.0))


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("~ condition +", "is not a formula"),
        ("~ .", "`.` does not stand for columns here"),
        ("age ~ condition", "has more than one part"),
        ("~ condition | age", "has more than one part"),
        ("~ 0 + condition", "has no intercept"),
        ("~ condition - 1", "has no intercept"),
        ("~ conditon", r"no column 'conditon' \(design\). Did you mean 'condition'"),
        ("~ lag(age)", r"has lag\(…\), which is none of the functions"),
        ("~ hashed(donor, levels=4)", r"has hashed\(…\)"),
        ("~ np.load('x')", "has np.load, which is none"),
        ("~ I(__import__('os').system('true'))", "which is none of the functions"),
        ("~ I([x for x in age])", "which is none of the functions"),
        ("~ I((lambda x: x)(age))", "which is none of the functions"),
        ("~ age.__class__", "is not a formula|has age.__class__|no column 'age.__class__'"),
        ("~ Q('age')", r"has Q\(…\)"),
        ("~ I(`body mass` ** 2)", "takes a column whose name is one word"),
        ("~ dose + C(dose)", r"both as categories, C\(dose\), and as numbers"),
        (
            "~ np.log(age - 1000)",
            r"is NaN or infinite in 'np.log\(age - 1000\)' for 60 of 60 cells, first for 'cell_0'",
        ),
        ("~ day", r"'day'.*is not numeric but datetime64.*Write C\(day\)"),
        ("~ age + I(2 * age)", r"coefficients of \['I\(2 \* age\)'\] cannot be told from the others"),
        ("~ donor + site", r"coefficients of \['site\[T.north\]'\]|coefficients of \['site\[T.south\]'\]"),
        ("~ condition + I(weight * 0)", r"coefficients of \['I\(weight \* 0\)'\]"),
    ],
)
def test_what_a_formula_may_not_say(obs, formula, said):
    obs["day"] = pd.Timestamp("2020-01-31")
    obs["site"] = obs["donor"].map({"d1": "north", "d2": "north", "d3": "south"})
    with pytest.raises(ValueError, match=said):
        Design.learn(obs, design=formula)


def test_categories_that_never_come_together(obs):
    obs = obs[~((obs["condition"] == "ctrl") & (obs["donor"] == "d3"))]
    with pytest.raises(ValueError, match=re.escape("coefficients of ['condition[T.ctrl]:donor[T.d3]'] cannot be told")):
        Design.learn(obs, design="~ condition * donor")


def test_a_formula_in_a_file_can_do_nothing_else(obs, tmp_path):
    state = Design.learn(obs, design="~ age").to_state()
    state["formula"]["text"] = f"~ I(open({str(tmp_path / 'x')!r}, 'w'))"
    with pytest.raises(ValueError, match=r"has open\(…\)"):
        Design.from_state(state).matrix(obs)
    assert not (tmp_path / "x").exists()


def test_keys_or_a_formula(obs):
    with pytest.raises(ValueError, match="are two ways to say one thing"):
        Design.learn(obs, design="~ age", continuous_covariate_keys=["weight"])


def test_new_categories(obs):
    query = obs.assign(donor=["d9", "d2"] * 30)
    known = Design.learn(obs, design="~ condition * donor + age")
    design = known.extended(query)
    assert known.extended(obs) is known
    is_new, siblings = design.growth(known)
    names = np.array(design.names)
    assert list(names[is_new]) == ["donor[T.d9]", "condition[T.ctrl]:donor[T.d9]"]
    assert [list(names[each]) for each in siblings] == [
        ["donor[T.d2]", "donor[T.d3]"],
        ["condition[T.ctrl]:donor[T.d2]", "condition[T.ctrl]:donor[T.d3]"],
    ]
    np.testing.assert_allclose(design.matrix(obs)[:, ~is_new], known.matrix(obs), atol=1e-12)
    assert design.matrix(query)[:, is_new].any(0).all()
    again = Design.from_state(json.loads(json.dumps(design.to_state())))
    np.testing.assert_array_equal(again.matrix(query), design.matrix(query))
    for formula, why in (
        ("~ donor * age", "would need slopes of their own"),
        ("~ C(donor, contr.sum)", "their coding changes with a new category"),
    ):
        with pytest.raises(ValueError, match=why):
            Design.learn(obs, design=formula).extended(query)


def test_columns_of_keys(obs):
    design = Design.learn(obs, design="~ condition * age + donor")
    assert [design.names[column] for column in design.columns_of(["age", "donor"])] == [
        "age",
        "donor[T.d2]",
        "donor[T.d3]",
    ]
    assert columns_in("~ `body mass` * bs(age, df=4)") == ["body mass", "age"]
