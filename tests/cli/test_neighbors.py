import anndata as ad
import numpy as np
import pytest
import scanpy as sc

from scpln.cli._neighbors import with_neighbors


@pytest.mark.parametrize("q", [3, 20])
def test_graph_is_that_of_scanpy(q):
    latent = np.random.default_rng(q).normal(size=(300, q)).astype(np.float32)
    theirs = ad.AnnData(obsm={"latent": latent})
    sc.pp.neighbors(theirs, use_rep="latent", random_state=0)
    difference = with_neighbors(latent, seed=0).obsp["connectivities"] - theirs.obsp["connectivities"]
    assert abs(difference).max() < 1e-4


@pytest.mark.parametrize("q", [2, 16])
def test_many_cells_have_a_graph(q):
    """From 8,192 cells on, scanpy by itself takes another way, which fails with some releases of what it calls."""
    latent = np.random.default_rng(0).normal(size=(8200, q)).astype(np.float32)
    graph = with_neighbors(latent, seed=0).obsp["connectivities"]
    assert (np.diff(graph.indptr) >= 14).all()
