"""Use of codes, and codes of groups."""

import numpy as np
import pandas as pd
import pytest

import scpln


def test_usage_is_shares_in_falling_order(fitted):
    ax = scpln.pl.code_usage(fitted, show=False)
    shown, codes = np.asarray(ax.images[0].get_array()), fitted.obsm["countvqvae_codes"]
    for m in range(2):
        shares = np.bincount(codes[:, m], minlength=4) / 60
        np.testing.assert_allclose(shown[m], np.sort(shares)[::-1])
        some = shares[shares > 0]
        assert ax.get_yticklabels()[m].get_text() == f"{m} (perplexity {np.prod(some**-some):.1f})"


def test_codes_of_groups_are_their_shares(fitted):
    ax = scpln.pl.code_labels(fitted, groupby="group", position=1, show=False)
    shown = np.asarray(ax.images[0].get_array())
    groups = fitted.obs["group"].astype(object).fillna("missing")
    expected = pd.crosstab(groups, fitted.obsm["countvqvae_codes"][:, 1], normalize="index")
    columns = [int(text.get_text()) for text in ax.get_xticklabels()]
    np.testing.assert_allclose(shown, expected[columns].loc[["a", "b", "missing"]])
    assert [text.get_text().split()[0] for text in ax.get_yticklabels()] == ["a", "b", "missing"]


def test_without_groups_all_cells_are_one(fitted):
    ax = scpln.pl.code_labels(fitted, show=False)
    counts = np.bincount(fitted.obsm["countvqvae_codes"][:, 0])
    np.testing.assert_allclose(np.sort(ax.images[0].get_array()[0]), np.sort(counts[counts > 0]) / 60)
    assert ax.get_yticklabels()[0].get_text() == "all cells (60)"


def test_positions_are_there(fitted):
    with pytest.raises(ValueError, match="position=2, but there are positions 0 to 1"):
        scpln.pl.code_labels(fitted, groupby="group", position=2, show=False)
