"""Cluster probabilities, posterior diagnostics and predictive checks, against what was stored."""

import numpy as np
import pandas as pd
import pytest

import scpln
from scpln.pl import _clusters


def test_cells_are_sorted_by_component(fitted):
    image = scpln.pl.cluster_probabilities(fitted, key="mixture", show=False).images[0].get_array()
    np.testing.assert_allclose(image.sum(0), 1, rtol=1e-5)
    assert (np.diff(image.argmax(0)) >= 0).all()
    probabilities = fitted.obsm["mixture_cluster_probs"]
    np.testing.assert_allclose(np.sort(image, axis=1), np.sort(probabilities.T, axis=1))


def test_many_cells_are_averaged(fitted, monkeypatch):
    monkeypatch.setattr(_clusters, "_MOST_COLUMNS", 20)
    image = scpln.pl.cluster_probabilities(fitted, key="mixture", show=False).images[0]
    assert image.get_array().shape == (4, 20)
    np.testing.assert_allclose(image.get_array().mean(1), fitted.obsm["mixture_cluster_probs"].mean(0), rtol=1e-5)
    assert image.get_extent()[1] == 60


def test_groups_have_mean_probabilities(fitted):
    ax = scpln.pl.cluster_probabilities(fitted, key="mixture", groupby="group", show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a (20)", "b (20)", "missing (20)"]
    columns = [int(label.get_text()) for label in ax.get_xticklabels()]
    expected = pd.DataFrame(fitted.obsm["mixture_cluster_probs"]).groupby(np.resize([0, 1, 2], 60)).mean()
    np.testing.assert_allclose(ax.images[0].get_array(), expected[columns], rtol=1e-5)


def test_cells_without_a_group_join_those_that_are_called_missing(adata):
    adata.obs["group"] = adata.obs["group"].cat.rename_categories({"b": "missing"})
    ax = scpln.pl.cluster_probabilities(adata, key="mixture", groupby="group", show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a (20)", "missing (40)"]


def test_groupby_is_a_column_of_labels(adata):
    adata.obs["empty"] = np.nan
    with pytest.raises(ValueError, match=r"adata.obs\['empty'\] \(groupby\) has no values"):
        scpln.pl.cluster_probabilities(adata, key="mixture", groupby="empty")
    with pytest.raises(KeyError, match=r"adata.obs has no 'Group' \(groupby\). Did you mean 'group'"):
        scpln.pl.cluster_probabilities(adata, key="mixture", groupby="Group")
    adata.obs["id"] = pd.Categorical(np.arange(60))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="60 values: pass a column of labels"):
        patch.setattr(_clusters, "_MOST_GROUPS", 50)
        scpln.pl.cluster_probabilities(adata, key="mixture", groupby="id")


def test_diagnostics_count_every_cell(adata):
    adata.obs["plnpca_pareto_k"] = np.r_[np.full(50, 0.3), np.full(6, 0.9), 4.0, np.inf, np.nan, np.nan]
    axes = scpln.pl.posterior_diagnostics(adata, show=False)
    assert axes[0].get_title() == "13.8 % of 58 cells above 0.7"
    assert axes[0].get_xlabel() == "Pareto k̂\n(last bar: 2 above 1.5)"
    assert [sum(bar.get_height() for bar in ax.patches) for ax in axes] == [58, 60, 60]
    assert axes[0].get_lines()[0].get_xdata()[0] == 0.7


def test_diagnostics_on_an_embedding(adata):
    adata.obs["plnpca_pareto_k"] = np.r_[np.linspace(0, 1, 59), np.inf]
    axes = scpln.pl.posterior_diagnostics(adata, basis="X_plnpca", show=False)
    np.testing.assert_allclose(np.sort(axes[1].collections[0].get_array()), np.sort(adata.obs["plnpca_gap"]))
    assert axes[0].collections[0].get_clim() == (0, 1)
    adata.obs["plnpca_gap"] = np.nan
    axes = scpln.pl.posterior_diagnostics(adata, basis="X_plnpca", show=False)
    assert not np.isfinite(np.ma.filled(axes[1].collections[0].get_array(), np.nan)).any()


def test_diagnostics_that_were_left_out_are_asked_for(adata):
    del adata.obs["plnpca_gap"]
    with pytest.raises(KeyError, match=r"Run `model.annotate\(key_added='plnpca', diagnostics=True\)` first"):
        scpln.pl.posterior_diagnostics(adata)


def test_predictive_checks_show_what_was_stored(fitted):
    checks = scpln.pl.posterior_predictive(fitted, show=False)
    for ax, table, name in (
        (checks[1], fitted.var, "zero_fraction"),
        (checks[2], fitted.obs, "library_size"),
    ):
        stored = [table[f"plnpca_ppc_{name}_{kind}"] for kind in ("observed", "replicated")]
        np.testing.assert_allclose(ax.collections[0].get_offsets().T, stored)
        (across, up) = ax.get_lines()[0].get_data()
        np.testing.assert_array_equal(across, up)
    observed, replicated = (points.get_offsets().T for points in checks[0].collections)
    np.testing.assert_allclose(observed, fitted.var[["plnpca_ppc_mean_observed", "plnpca_ppc_variance_observed"]].T)
    np.testing.assert_allclose(
        replicated, fitted.var[["plnpca_ppc_mean_replicated", "plnpca_ppc_variance_replicated"]].T
    )


def test_kinds_are_chosen(fitted):
    axes = scpln.pl.posterior_predictive(fitted, kind=["library_size", "mean_variance"], show=False)
    assert [ax.get_xlabel() for ax in axes] == ["observed library size", "mean count of a gene"]
    with pytest.raises(ValueError, match=r"kind='means' is not available; choose from \['mean_variance', "):
        scpln.pl.posterior_predictive(fitted, kind="means")
