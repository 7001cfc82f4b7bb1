"""Loadings and correlations of genes, against the loadings that were stored."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData

import scpln
from scpln.pl import _axes, _loadings, _stored


@pytest.fixture
def loadings(fitted):
    return fitted.varm["plnpca_loadings"].astype(float)


@pytest.mark.parametrize("sort_by", ["expression", "loading"])
def test_loadings_shows_both_ends(fitted, loadings, sort_by):
    ax = scpln.pl.loadings(fitted, components=2, n_genes=4, sort_by=sort_by, show=False)
    if sort_by == "expression":
        loadings = fitted.varm["plnpca_expression_loadings"]
    assert ax.get_xlabel() == {"expression": "change of log(1 + rate)", "loading": "loading"}[sort_by]
    order = np.argsort(-loadings[:, 1])
    chosen = [*order[:4], *order[-4:]]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(fitted.var_names[chosen])
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], loadings[chosen, 1])
    assert ax.yaxis_inverted()


@pytest.fixture(scope="module")
def with_a_rare_gene():
    """Ten genes of all cells that follow two dimensions, and one of a few cells, with a loading of 4."""
    random = np.random.default_rng(0)
    states = random.normal(size=(400, 2))
    loadings = np.vstack([random.normal(0, 0.5, (10, 2)), [[4.0, 0.0]]])
    log_rates = np.array([2.0] * 10 + [-9.5]) + states @ loadings.T
    adata = AnnData(random.poisson(np.exp(log_rates)).astype(np.float32))
    adata.var_names = [*(f"common_{j}" for j in range(10)), "rare"]
    assert 3 <= (adata.X[:, -1] > 0).sum() <= 8  # at most 2 % of the cells
    adata.obs["size"] = 1.0
    scpln.tl.plnpca(adata, size_factor_key="size", n_latent=2, prior="none", max_epochs=100, progress=False)
    return adata


@pytest.mark.filterwarnings("ignore:.*fewer than 10")
def test_a_gene_of_few_cells_does_not_lead_however_large_its_loading(with_a_rare_gene):
    adata = with_a_rare_gene
    loadings, slopes = adata.varm["plnpca_loadings"], adata.varm["plnpca_expression_loadings"]
    assert np.linalg.norm(loadings, axis=1).argmax() == 10
    assert np.linalg.norm(loadings[10]) > 2 * np.linalg.norm(loadings[:10], axis=1).max()
    assert np.linalg.norm(slopes[10]) < np.median(np.linalg.norm(slopes, axis=1))

    def names(ax):
        return {text.get_text() for text in [*ax.get_yticklabels(), *ax.texts]}

    for figure, arguments in [
        (scpln.pl.loadings, {"components": 1, "n_genes": 3}),
        (scpln.pl.correlation_circle, {"n_genes": 3}),
        (scpln.pl.gene_correlation, {"n_genes": 3}),
    ]:
        assert "rare" not in names(figure(adata, **arguments, show=False))
        assert "rare" in names(figure(adata, **arguments, sort_by="loading", show=False))
        with pytest.raises(ValueError, match="sort_by"):
            figure(adata, **arguments, sort_by="size", show=False)


def test_results_of_earlier_versions_are_ranked_by_loadings(adata, loadings):
    del adata.varm["plnpca_expression_loadings"]
    ax = scpln.pl.loadings(adata, components=1, n_genes=2, show=False)
    np.testing.assert_allclose(ax.patches[0].get_width(), loadings[:, 0].max())
    assert ax.get_xlabel() == "loading"


def test_a_component_of_one_sign_has_no_other_end():
    np.testing.assert_array_equal(_loadings.extremes(np.array([1.0, 3.0, 2.0]), 2), [1, 2])
    np.testing.assert_array_equal(_loadings.extremes(np.array([1.0, -3.0, 2.0]), 5), [2, 0, 1])
    assert len(_loadings.extremes(np.zeros(3), 2)) == 0


def test_genes_that_the_model_lacks_are_left_out(adata, loadings):
    adata.varm["plnpca_loadings"][:5] = np.nan
    names, known = _stored.loadings_of(adata, "plnpca")
    assert list(names) == list(adata.var_names[5:])
    np.testing.assert_allclose(known, loadings[5:])
    with pytest.raises(ValueError, match=r"'gene_0' is not among the 25 genes of these results. Did you mean 'gene_"):
        scpln.pl.gene_correlation(adata, genes=["gene_0"])


@pytest.mark.parametrize("figure", ["loadings", "correlation_circle", "gene_correlation"])
def test_mask_var_chooses_genes(adata, figure):
    adata.var["some"] = np.arange(adata.n_vars) < 7
    for mask in ("some", adata.var["some"].to_numpy()):
        ax = np.ravel(getattr(scpln.pl, figure)(adata, mask_var=mask, show=False))[0]
        labels = {text.get_text() for text in [*ax.get_yticklabels(), *ax.texts]}
        assert labels & set(adata.var_names) == set(adata.var_names[:7])
    with pytest.raises(KeyError, match=r"adata.var has no 'sone' \(mask_var\). Did you mean 'some'"):
        getattr(scpln.pl, figure)(adata, mask_var="sone")
    with pytest.raises(ValueError, match="mask_var must be True or False for each of the 30 genes"):
        getattr(scpln.pl, figure)(adata, mask_var=np.arange(30))


def test_circle_has_correlations_of_latent_states_and_log_rates(fitted, loadings):
    ax = scpln.pl.correlation_circle(fitted, components=(2, 3), genes=list(fitted.var_names), show=False)
    z = np.random.default_rng(0).normal(size=(50_000, 3))
    expected = np.corrcoef((z @ loadings.T).T, z.T)[: len(loadings), len(loadings) + 1 :]
    (quiver,) = [artist for artist in ax.collections if isinstance(artist, mpl.quiver.Quiver)]
    arrows = np.column_stack([quiver.U, quiver.V])
    order = np.argsort(-np.linalg.norm(fitted.varm["plnpca_expression_loadings"][:, 1:], axis=1))
    np.testing.assert_allclose(arrows, expected[order], atol=0.02)
    assert np.linalg.norm(arrows, axis=1).max() <= 1 + 1e-9
    assert ax.get_aspect() == 1


@pytest.mark.parametrize("dpi", [72, 100, 300])
def test_names_in_the_circle_do_not_overlap(fitted, dpi):
    ax = plt.subplots(2, 1, figsize=(6, 9), layout="constrained")[1][0]
    scpln.pl.correlation_circle(fitted, n_genes=25, ax=ax, show=False)
    ax.figure.set_dpi(dpi)
    ax.figure.suptitle("another size\n\n")
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 25
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    frame = ax.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_names_without_room_are_left_out_and_said(fitted, caplog):
    ax = mpl.figure.Figure(figsize=(1.5, 1.5)).subplots()
    scpln.pl.correlation_circle(fitted, n_genes=30, ax=ax, show=False)
    ax.figure.draw_without_rendering()
    assert 0 < sum(text.get_alpha() == 0 for text in ax.texts) < 30
    assert "There was no room for" in caplog.text


def test_gene_correlation_is_that_of_the_log_rates(fitted, loadings):
    ax = scpln.pl.gene_correlation(fitted, genes=list(fitted.var_names), show=False)
    names = [label.get_text() for label in ax.get_yticklabels()]
    order = fitted.var_names.get_indexer(names)
    covariance = loadings @ loadings.T
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        ax.images[0].get_array(), (covariance / np.outer(sd, sd))[np.ix_(order, order)], atol=1e-9
    )
    assert ax.images[0].get_clim() == (-1, 1)


def test_similar_genes_are_neighbours(adata):
    loadings = np.zeros((30, 3))
    loadings[np.arange(30), np.arange(30) % 3] = 1.0
    adata.varm["plnpca_loadings"] = loadings
    ax = scpln.pl.gene_correlation(adata, show=False)
    kind = np.array([int(label.get_text().split("_")[1]) % 3 for label in ax.get_yticklabels()])
    assert (np.diff(kind) != 0).sum() == 2


def test_a_gene_that_does_not_vary_correlates_with_none(adata):
    adata.varm["plnpca_loadings"][3] = 0
    ax = scpln.pl.gene_correlation(adata, genes=list(adata.var_names[:5]), show=False)
    row = [label.get_text() for label in ax.get_yticklabels()].index(adata.var_names[3])
    np.testing.assert_array_equal(np.sort(ax.images[0].get_array()[row]), [0, 0, 0, 0, 1])


def test_the_sign_survives_grey():
    red, green, blue, _ = _axes.SIGNED(np.linspace(0, 1, 256)).T
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    assert luminance[:128].min() > luminance[-60:].max()
    assert luminance[127] == pytest.approx(luminance.max(), abs=0.01)
    assert (np.diff(luminance[129:]) <= 1e-9).all()


@pytest.mark.parametrize("n", [0, -3])
def test_at_least_one_gene(fitted, n):
    for figure in (scpln.pl.loadings, scpln.pl.correlation_circle, scpln.pl.gene_correlation):
        with pytest.raises(ValueError, match=f"n_genes={n}, but it must be at least 1"):
            figure(fitted, n_genes=n)
