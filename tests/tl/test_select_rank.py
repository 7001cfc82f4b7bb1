"""`select_rank`: what it returns and stores, and what it refuses."""

import anndata as ad
import numpy as np
import pytest
from mudata import MuData

import scpln
from scpln.tl import select_rank


@pytest.fixture
def adata():
    return scpln.datasets.simulate(n_obs=250, n_vars=50, n_latent=3, n_batches=2, density=0.5)


KEYS = {"size_factor_key": "size_factor", "progress": False, "n_threads": 1}


def test_finds_the_rank_and_brings_its_model(adata, tmp_path):
    found = select_rank(adata, [5, 1, 2, 3, 4], design="~ batch", **KEYS)
    assert found.best == 3
    assert found.criterion == "thinning"
    assert list(found.table.index) == [1, 2, 3, 4, 5]
    assert found.model.stop_reason.startswith("converged")
    alone = scpln.model.PLNPCA(adata, 3, prior="none")
    alone.train(progress=False)
    np.testing.assert_allclose(found.model.get_elbo(), alone.get_elbo(), atol=2e-3)
    found.model.annotate()
    adata.write_h5ad(tmp_path / "a.h5ad")
    stored = ad.read_h5ad(tmp_path / "a.h5ad").uns["rank_selection"]
    assert stored["best"] == 3
    np.testing.assert_allclose(stored["table"]["bic"], found.table["bic"])
    ax = scpln.pl.rank_selection(ad.read_h5ad(tmp_path / "a.h5ad"), show=False)
    assert "chosen: 3" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_is_the_same_each_time(adata):
    first, second = (select_rank(adata, [1, 2], seed=1, **KEYS).table.drop(columns="seconds") for _ in range(2))
    assert first.equals(second)


def test_criteria_that_hold_nothing_out(adata):
    found = select_rank(adata, range(1, 5), criterion="bic", design="~ batch", **KEYS)
    assert found.best == 3
    assert found.table["held_out"].isna().all()
    assert select_rank(adata, range(1, 5), criterion="bound", design="~ batch", **KEYS).best == 4
    scpln.pl.rank_selection(found, show=False)


def test_counts_that_cannot_be_thinned(adata):
    with pytest.raises(ValueError, match=r"criterion='thinning' divides Poisson counts.*likelihood='nb'"):
        select_rank(adata, [1], likelihood="nb", criterion="thinning", **KEYS)
    found = select_rank(adata[:80].copy(), [1, 2], likelihood="nb", **KEYS)
    assert found.criterion == "cells"
    assert np.isfinite(found.table["held_out"]).all()


def test_modalities(adata):
    mdata = MuData({"rna": adata[:, :30].copy(), "protein": adata[:, 30:].copy()})
    found = select_rank(mdata, [1, 2, 3, 4], modalities=["rna", "protein"], progress=False, n_threads=1)
    assert found.best >= 3
    assert mdata.uns["rank_selection"]["best"] == found.best


@pytest.mark.parametrize("ranks", [[], [0], [1.5], "3", [[1, 2]], [1000]])
def test_ranks_are_checked(adata, ranks):
    with pytest.raises(ValueError, match=r"ranks=|n_latent="):
        select_rank(adata, ranks, **KEYS)


def test_a_figure_needs_a_selection(adata):
    with pytest.raises(KeyError, match=r"Call scpln\.tl\.select_rank"):
        scpln.pl.rank_selection(adata, show=False)
