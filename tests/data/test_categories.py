"""One conversion of categories, whatever type their column has: for labels, batches and covariates alike."""

import datetime

import numpy as np
import pandas as pd
import pytest

from scpln.data.categories import Coding, as_text, match, restore

DAYS = ["2020-01-31", "2021-06-01", "2020-12-24"]
VALUES = {
    "float16": np.array([0, 0.1, 0.2], np.float16),
    "float32": np.array([0, 0.1, 0.2], np.float32),
    "float64": np.array([0, 0.1, 0.2]),
    "int64": np.array([1, 2, 10]),
    "uint8": np.array([1, 2, 200], np.uint8),
    "Int32": pd.array([1, 2, 10], "Int32"),
    "Float32": pd.array([0.1, 0.2, 0.3], "Float32"),
    "bool": np.array([True, False, True]),
    "boolean": pd.array([True, False, True], "boolean"),
    "bytes": np.array([b"a", b"b", b"c"], dtype=object),
    "dates": pd.to_datetime(DAYS),
    "seconds": np.array(DAYS, "datetime64[s]"),
    "moments": pd.to_datetime(DAYS) + pd.Timedelta(nanoseconds=5),
    "zoned": pd.to_datetime(DAYS).tz_localize("Europe/Berlin"),
    "days of Python": np.array([datetime.date.fromisoformat(day) for day in DAYS], dtype=object),
    "durations": pd.to_timedelta([1, 2, 30], unit="h"),
    "string": pd.array(["nan", "b", "a"], "string"),
    "objects": np.array(["nan", "b", "None"], dtype=object),
    "whole objects": np.array([1, 2, 10], dtype=object),
    "mixed objects": np.array([1, "a", 2.5], dtype=object),
    "unused": pd.Categorical(["c", "a", "b"], categories=["never", "c", "b", "a"]),
    "single floats": pd.Categorical(np.array([0, 0.1, 0.2], np.float32)),
    "intervals": pd.cut([1.0, 5.0, 9.0], 3),
}
AS_TEXT = {"string", "objects", "mixed objects", "unused", "intervals"}


def column(name, *, with_missing=False):
    """Values of a type, each three times; then every second missing."""
    repeated = pd.Series(VALUES[name]).iloc[[0, 1, 2] * 3].reset_index(drop=True)
    if with_missing and repeated.dtype == np.float16:
        return repeated.where(np.arange(9) % 2 == 0)
    return repeated.mask(np.arange(9) % 2 == 1) if with_missing else repeated


@pytest.mark.parametrize("name", VALUES)
def test_every_value_is_found_again_and_given_back(name):
    whole = column(name)
    coding = Coding.of(whole)
    assert len(set(coding.categories)) == len(coding.categories) == whole.nunique()
    np.testing.assert_array_equal(Coding.of(whole.iloc[::-1]).codes_among(coding.categories), coding.codes[::-1])
    given_back = restore(coding.categories, coding.dtype)[coding.codes]
    expected = [str(value) for value in whole] if name in AS_TEXT else whole.tolist()
    assert [value if name in AS_TEXT else pd.Series([value])[0] for value in given_back] == expected


@pytest.mark.parametrize("name", VALUES)
def test_missing_values_are_masked_before_anything_is_text(name):
    whole, some = Coding.of(column(name)), Coding.of(column(name, with_missing=True))
    np.testing.assert_array_equal(some.codes < 0, np.arange(9) % 2 == 1)
    np.testing.assert_array_equal(some.codes_among(whole.categories)[::2], whole.codes[::2])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_a_category_called_like_missing_values_is_another(missing):
    coding = Coding.of(pd.Series(["nan", missing, "<NA>", "None", missing], dtype=object))
    assert [None if code < 0 else coding.categories[code] for code in coding.codes] == [
        "nan",
        None,
        "<NA>",
        "None",
        None,
    ]


@pytest.mark.parametrize("known", ["int64", "float64", "Int64", "Float32", "object", "str", "category"])
@pytest.mark.parametrize("new", ["int64", "float32", "Float64", "str", "category"])
def test_a_number_is_matched_in_whatever_type(known, new):
    trained = Coding.of(pd.Series([1, 2, 10]).astype(known))
    codes = Coding.of(pd.Series([10, 1, 3, 2]).astype(new)).codes_among(trained.categories)
    np.testing.assert_array_equal(codes, trained.codes[[2, 0, 0, 1]] * [1, 1, 0, 1] - [0, 0, 1, 0])


def test_what_a_number_is_and_is_not():
    singles = [str(float(value)) for value in np.array([0.1, 0.2], np.float32)]
    assert list(match(singles, ["0.1", "0.2"])) == [0, 1] == list(match(["0.1", "0.2"], singles))
    assert list(match(["01", "2.10", "1_0", " 1", "+1", "nan", "1e-300"], ["1", "2.1", "10", "0", "nan_"])) == [-1] * 7
    assert list(match(["1.0", "1"], ["1", "1.0"])) == [1, 0], "what reads the same comes first"
    assert list(match(["0.10000000149011612"], ["0.1", "0.10000000149"])) == [-1], "which of the two is not clear"
    assert list(match(["9007199254740993"], ["9007199254740992"])) == [-1]
    assert list(match(["True", "1"], ["1", "False"])) == [-1, 0]
    assert as_text(-0.0) == as_text(0.0)


def test_what_cannot_be_compared_is_named():
    with pytest.raises(TypeError, match=r"adata.obs\['lists'\] holds values that cannot be categories"):
        Coding.of(pd.Series([[1], [2]], name="lists"))
