"""``scpln plot``: figures from an annotated file."""

import numpy as np
import pytest
from matplotlib.image import imread

import scpln
from scpln.cli import _plot, main


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    adata = scpln.datasets.simulate(60, 30, n_latent=3, n_batches=2, density=0.5)
    scpln.tl.plnpca(adata, n_latent=3, max_epochs=5, progress=False)
    for name in [name for name in adata.uns if name.startswith("_scvi")]:
        del adata.uns[name]
    path = tmp_path_factory.mktemp("plot") / "annotated.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def plot(annotated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *options: main(["plot", str(annotated), "--out", "figure.png", *options])


def test_kinds_are_the_figures_of_the_library():
    by_no_command = {"rank_selection", "mixture_classifier", "reliability", "risk_coverage"}
    assert set(_plot.KINDS) - {"umap"} == set(scpln.pl.__all__) - by_no_command


@pytest.mark.parametrize(
    "options",
    [
        ["history"],
        ["latent", "--color", "batch", "--components", "2", "3"],
        ["umap", "--color", "batch", "--color", "gene_0"],
        ["loadings", "--n-genes", "4", "--components", "1"],
        ["correlation_circle", "--genes", "gene_1", "gene_2"],
        ["variance_explained", "--key", "plnpca"],
    ],
)
def test_figures(plot, tmp_path, capsys, options, annotated):
    assert plot("--kind", *options) == 0, capsys.readouterr().err
    assert imread(tmp_path / "figure.png")[..., :3].std() > 0.01
    assert capsys.readouterr().out == f"wrote figure.png: {options[0]} of plnpca in {annotated}\n"
    assert plot("--kind", *options) == 3
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["history", "--n-genes", "3"], "--n-genes has no effect on --kind history, which takes no such options"),
        (["latent", "--n-genes", "3"], "which takes --color and --components; leave it out"),
        (["mixture_components", "--color", "a", "--color", "b"], "--color was given 2 times"),
        (["history", "--key", "mine"], "has no results named 'mine' (--key); there are: plnpca"),
        (["umap", "--color", "bach"], "--color 'bach' is not in obs or the genes"),
        (["latent", "--components", "2", "9"], "components"),
        (["cluster_probabilities"], "cluster"),
    ],
)
def test_mistakes(plot, tmp_path, capsys, options, message):
    assert plot("--kind", *options) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("scpln: error: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_files_without_one_result(annotated, tmp_path, monkeypatch, capsys):
    import anndata as ad

    monkeypatch.chdir(tmp_path)
    adata = ad.read_h5ad(annotated)
    adata.uns["other"], adata.obsm["X_other"] = adata.uns["plnpca"], adata.obsm["X_plnpca"]
    adata.write_h5ad("two.h5ad")
    options = ["--kind", "variance_explained", "--out", "figure.png"]
    assert main(["plot", "two.h5ad", *options]) == 1
    assert "several fits: choose one with --key (" in capsys.readouterr().err
    assert main(["plot", "two.h5ad", "--key", "other", *options]) == 0
    ad.AnnData(np.ones((3, 2), dtype=np.float32)).write_h5ad("none.h5ad")
    assert main(["plot", "none.h5ad", *options, "--force"]) == 1
    assert "holds no results of a model: run `scpln fit none.h5ad" in capsys.readouterr().err


def test_an_embedding_without_clusters_is_drawn_in_one_colour(annotated, tmp_path, monkeypatch, capsys):
    import anndata as ad

    monkeypatch.chdir(tmp_path)
    adata = ad.read_h5ad(annotated)
    adata.obsm["X_plnpca_umap"] = adata.obsm["X_plnpca"][:, :2]
    adata.write_h5ad("embedded.h5ad")
    assert main(["plot", "embedded.h5ad", "--kind", "umap", "--out", "figure.png"]) == 0, capsys.readouterr().err
    assert imread(tmp_path / "figure.png")[..., :3].std() > 0.01
