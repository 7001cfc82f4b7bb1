"""What every figure does: draw on the axes given, save, need no model, and name what is missing."""

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import scpln

FIGURES = {
    "history": {},
    "variance_explained": {},
    "latent": {"color": "group"},
    "loadings": {"components": 2},
    "correlation_circle": {},
    "gene_correlation": {"n_genes": 10},
    "network": {"key": "net"},
    "tree": {},
    "cluster_probabilities": {"key": "mixture"},
    "mixture_components": {"key": "mixture"},
    "code_usage": {},
    "code_labels": {"groupby": "group"},
    "posterior_predictive": {"kind": "mean_variance"},
}
SEVERAL = {
    "latent": ({"color": ["group", "age"]}, 2),
    "loadings": ({}, 3),
    "posterior_diagnostics": ({}, 3),
    "posterior_predictive": ({}, 3),
}


@pytest.fixture(params=FIGURES)
def draw(request):
    def draw(adata, **kwargs):
        return getattr(scpln.pl, request.param)(adata, **FIGURES[request.param] | {"show": False} | kwargs)

    return draw


@pytest.fixture(params=SEVERAL)
def draw_several(request):
    arguments, n_panels = SEVERAL[request.param]

    def draw(adata, **kwargs):
        return getattr(scpln.pl, request.param)(adata, **arguments | {"show": False} | kwargs), n_panels

    return draw


def test_every_figure_is_tested():
    elsewhere = {"rank_selection", "mixture_classifier", "reliability", "risk_coverage"}  # tests/tl
    assert FIGURES.keys() | SEVERAL.keys() | elsewhere == set(scpln.pl.__all__)


def test_draws_on_the_axes_given_and_saves(fitted, draw, tmp_path):
    ax = plt.subplots()[1]
    assert draw(fitted, ax=ax, save=tmp_path / "figure.png") is ax
    assert mpl.image.imread(tmp_path / "figure.png")[..., :3].std() > 0.01
    assert draw(fitted) is not ax


def test_several_panels_come_as_an_array(fitted, draw_several):
    axes, n_panels = draw_several(fitted)
    assert axes.shape == (n_panels,)
    figure, given = plt.subplots(1, n_panels)
    drawn, _ = draw_several(fitted, ax=given)
    assert all(one is other for one, other in zip(drawn, given, strict=True))
    assert drawn[0].get_figure() is figure
    with pytest.raises(
        ValueError, match=f"ax must be {n_panels} matplotlib Axes, one for each panel, and 1 were given"
    ):
        draw_several(fitted, ax=given[0])


@pytest.mark.parametrize("suffix", ["pdf", "svg", "jpg"])
def test_formats(fitted, suffix, tmp_path):
    path = str(tmp_path / f"figure.{suffix}")
    scpln.pl.correlation_circle(fitted, save=path, show=False)
    start = {"pdf": b"%PDF", "svg": b"<?xml", "jpg": b"\xff\xd8"}[suffix]
    with open(path, "rb") as file:  # noqa: PTH123
        assert file.read(len(start)) == start


def test_save_is_a_path(fitted):
    with pytest.raises(
        TypeError, match=r"save=True, but it must be the name of a file, for instance save='figure.pdf'"
    ):
        scpln.pl.history(fitted, save=True)


def test_needs_a_file_only(fitted, draw, tmp_path):
    fitted.write_h5ad(tmp_path / "a.h5ad")
    assert draw(ad.read_h5ad(tmp_path / "a.h5ad")).has_data()


@pytest.mark.filterwarnings("ignore")
def test_does_not_need_whole_data(fitted, draw):
    assert draw(fitted[:40, ::-1]).has_data()


def test_missing_results_are_named(fitted, draw):
    with pytest.raises(KeyError, match=r"key_added='other'\)` .*first, or pass the key .*'plnpca', 'mixture'"):
        draw(fitted, key="other")


def test_the_same_data_give_the_same_figure(fitted, draw, tmp_path):
    for name in ("one", "two"):
        draw(fitted, save=tmp_path / f"{name}.png")
    one, two = (mpl.image.imread(tmp_path / f"{name}.png") for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("figure", ["loadings", "correlation_circle", "gene_correlation", "variance_explained"])
def test_genes_of_one_modality_need_no_uns(adata, figure):
    del adata.uns["plnpca"]
    assert np.ravel(getattr(scpln.pl, figure)(adata, show=False))[0].has_data()


def test_names_need_not_be_unique_nor_text(adata):
    del adata.varm["true_loadings"], adata.varm["true_coefficients"]
    adata.var.index = [1] * adata.n_vars
    (first, *_) = scpln.pl.loadings(adata, n_genes=2, show=False)
    assert [label.get_text() for label in first.get_yticklabels()] == ["1"] * 4
    assert len(scpln.pl.gene_correlation(adata, genes=["1"], show=False).images[0].get_array()) == adata.n_vars
    assert {text.get_text() for text in scpln.pl.correlation_circle(adata, show=False).texts} == {"1"}


def test_a_modality_is_asked_for(fitted):
    mudata = pytest.importorskip("mudata")
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"rna": fitted.copy()})
    with pytest.raises(KeyError, match=r"Of a MuData, pass the modality that has it, as mdata\['rna'\]"):
        scpln.pl.loadings(mdata)
