"""Cells and mixture components in latent space."""

import anndata
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Ellipse
from scipy.stats import chi2

import scpln


def test_dimensions_and_labels(fitted):
    ax = scpln.pl.latent(fitted, components=(3, 1), show=False)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), fitted.obsm["X_plnpca"][:, [2, 0]])
    share = fitted.uns["plnpca"]["variance_explained"][0]
    assert ax.get_ylabel() == f"component 1 ({100 * share:.0f} %)"
    assert scpln.pl.latent(fitted, key="mixture", show=False).get_xlabel() == "latent dimension 1"


def test_missing_values_are_grey(fitted):
    ax = scpln.pl.latent(fitted, color="group", show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "NA"]
    continuous = scpln.pl.latent(fitted, color="age", show=False).collections[0]
    continuous.update_scalarmappable()
    colors = {tuple(color) for color in continuous.get_facecolors()}
    assert len(colors) == fitted.obs["age"].nunique() + 1


def test_clusters_are_the_default_colours(fitted):
    ax = scpln.pl.latent(fitted, key="mixture", show=False)
    assert ax.get_title() == "mixture_cluster"
    colors = [to_hex(color) for color in fitted.uns["mixture_cluster_colors"]]
    ax = scpln.pl.mixture_components(fitted, key="mixture", show=False)
    edges = [to_hex(patch.get_edgecolor()) for patch in ax.patches if isinstance(patch, Ellipse)]
    assert list(dict.fromkeys(edges)) == colors


def test_dates_nullable_columns_and_barcodes(adata):
    n = adata.n_obs
    adata.obs["when"] = pd.date_range("2024-01-01", periods=n)
    adata.obs["flag"] = pd.array(np.resize(np.array([True, False, None], dtype=object), n), dtype="boolean")
    adata.obs["number"] = pd.array(np.resize(np.array([1, 2, None], dtype=object), n), dtype="Int64")
    adata.obs["barcode"] = [f"cell {i}" for i in range(n)]
    ax = scpln.pl.latent(adata, color="when", show=False)
    bar = ax.collections[0].colorbar
    assert bar.ax.yaxis.get_major_formatter().__class__.__name__ == "ConciseDateFormatter"
    np.testing.assert_allclose(np.sort(ax.collections[0].get_array()), 19723 + np.arange(n))  # days since 1970
    ax = scpln.pl.latent(adata, color="flag", show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["False", "True", "NA"]
    assert scpln.pl.latent(adata, color="number", show=False).collections[0].colorbar is not None
    adata.obs["barcode"] = pd.Categorical(adata.obs["barcode"])
    many = anndata.concat([adata] * (200 // n + 2), index_unique="-", join="outer", uns_merge="first")
    many.obs["barcode"] = many.obs_names
    many.uns, many.varm["plnpca_loadings"] = adata.uns, adata.varm["plnpca_loadings"]
    with pytest.raises(ValueError, match=r"'barcode'.*different values: pass a column of labels"):
        scpln.pl.latent(many, color="barcode", show=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"components": (0, 1)}, ValueError, r"components=\(0, 1\), but there are 3, numbered from 1"),
        ({"components": (1, 4)}, ValueError, r"components=\(1, 4\), but there are 3, numbered from 1"),
        ({"components": (2, 2)}, ValueError, r"components=\(2, 2\), but this figure has two axes"),
        ({"components": (1, 2, 3)}, ValueError, "pass two different numbers"),
        ({"components": ("1", "2")}, TypeError, "numbered from 1"),
        (
            {"color": "grup"},
            KeyError,
            r"color='grup' is neither a column of adata.obs nor a gene. Did you mean 'group'",
        ),
        ({"color": []}, ValueError, "color is empty"),
        ({"ax": ["no axes"]}, ValueError, "ax must be 1 matplotlib Axes"),
    ],
)
def test_arguments_that_make_no_sense(fitted, arguments, error, message):
    with pytest.raises(error, match=message):
        scpln.pl.latent(fitted, show=False, **arguments)


def test_one_dimension_is_too_few(adata):
    adata.obsm["X_plnpca"] = adata.obsm["X_plnpca"][:, :1]
    adata.varm["plnpca_loadings"] = adata.varm["plnpca_loadings"][:, :1]
    for draw in (scpln.pl.latent, scpln.pl.correlation_circle):
        with pytest.raises(ValueError, match="'plnpca' has one latent dimension: fit a model with n_latent=2 or more"):
            draw(adata, show=False)
    assert len(scpln.pl.loadings(adata, show=False)) == 1


@pytest.mark.parametrize("covariance_1_3", [-0.9, 0.9])
@pytest.mark.parametrize("variance_3", [0.7, 4.0])
def test_ellipses_hold_the_mass_that_they_should(adata, covariance_1_3, variance_3):
    rng = np.random.default_rng(0)
    covariance = np.array([[2.0, 0.3, covariance_1_3], [0.3, 1.0, 0.2], [covariance_1_3, 0.2, variance_3]])
    adata.obsm["X_mixture"] = rng.normal(size=(60, 3))
    adata.uns["mixture"]["components"] = {
        "names": np.array(["one"], dtype=object),
        "weights": np.array([1.0]),
        "means": np.array([[1.0, -2.0, 3.0]]),
        "covariances": covariance[None],
    }
    ax = scpln.pl.mixture_components(adata, key="mixture", components=(3, 1), show=False)
    draws = rng.multivariate_normal([1.0, -2.0, 3.0], covariance, 20_000)[:, [2, 0]]
    ellipses = [patch for patch in ax.patches if isinstance(patch, Ellipse)]
    for ellipse, sds in zip(ellipses, (1, 2), strict=True):
        outline = ellipse.get_patch_transform().transform_path(ellipse.get_path())
        assert outline.contains_points(draws).mean() == pytest.approx(chi2(2).cdf(sds**2), abs=0.01)
    assert [text.get_text() for text in ax.texts] == ["one"]


def test_components_are_those_of_the_prior(fitted):
    ax = scpln.pl.mixture_components(fitted, key="mixture", show=False)
    stored = fitted.uns["mixture"]["components"]
    np.testing.assert_allclose(np.column_stack(ax.get_lines()[0].get_data()), stored["means"])
    assert {text.get_text() for text in ax.texts} == set(stored["names"])
    assert len(ax.patches) == 8


def test_only_mixtures_have_components(fitted):
    with pytest.raises(KeyError, match=r"results of a PLNPCA, and only CountGMVAE has it. Run `scpln.tl.count_gmvae"):
        scpln.pl.mixture_components(fitted, key="plnpca")


def test_texts_that_all_differ(adata):
    """150 of them, which scanpy would take for numbers."""
    adata.obs["barcode"] = [f"cell {number}" for number in range(adata.n_obs)]
    assert scpln.pl.latent(adata, color="barcode", show=False).get_legend() is not None
