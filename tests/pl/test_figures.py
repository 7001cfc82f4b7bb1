import matplotlib as mpl
import numpy as np
import pytest

import scpln

mpl.use("Agg")


@pytest.fixture(scope="module")
def adata():
    adata = scpln.datasets.simulate(60, 30, n_latent=3, density=0.5)
    scpln.tl.plnpca(adata, n_latent=3, progress=False)
    return adata


@pytest.fixture(params=["history", "variance_explained"])
def draw(request):
    yield getattr(scpln.pl, request.param)
    import matplotlib.pyplot as plt

    plt.close("all")


def test_history_shows_what_was_stored(adata):
    bound = adata.uns["plnpca"]["history"]["elbo"]
    (line,) = scpln.pl.history(adata, show=False).get_lines()
    iterations, below = line.get_data()
    np.testing.assert_allclose(bound.max() - bound[iterations - 1], below)
    assert (below > 0).all()


def test_variance_explained_shows_what_was_stored(adata):
    bars = scpln.pl.variance_explained(adata, show=False).patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], adata.uns["plnpca"]["variance_explained"])


def test_draws_on_the_axes_given_and_saves(adata, draw, tmp_path):
    import matplotlib.pyplot as plt

    ax = plt.subplots()[1]
    assert draw(adata, ax=ax, show=False, save=tmp_path / "figure.png") is ax
    assert mpl.image.imread(tmp_path / "figure.png")[..., :3].std() > 0.01
    assert draw(adata, show=False) is not ax


def test_needs_a_file_only(adata, draw, tmp_path):
    import anndata as ad

    adata.write_h5ad(tmp_path / "a.h5ad")
    assert draw(ad.read_h5ad(tmp_path / "a.h5ad"), show=False).get_xlabel()


def test_missing_results_are_named(adata, draw):
    with pytest.raises(KeyError, match=r"annotate\(key_added='other'\)"):
        draw(adata, key="other", show=False)
