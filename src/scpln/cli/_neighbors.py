"""The graph of neighbours that clusters and embeddings are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

N_NEIGHBORS = 15
#: Latent dimensions up to which a tree finds neighbours faster than distances between all cells.
TREE_DIMENSIONS = 15


def with_neighbors(latent: NDArray, *, seed: int) -> AnnData:
    """An AnnData of latent states (n × q) in ``obsm["latent"]`` with scanpy's graph of their nearest neighbours.

    Neighbours are exact for any number of cells. With 8,192 of them or more, scanpy by itself takes approximate ones of
    pynndescent, and fails with some of its releases: 'csr_array' object has no attribute 'getnnz'.

    Examples
    --------
    >>> import numpy as np
    >>> aside = with_neighbors(np.random.default_rng(0).normal(size=(50, 2)), seed=0)
    >>> aside.uns["neighbors"]["params"]["n_neighbors"], aside.obsp["connectivities"].shape
    (15, (50, 50))
    """
    import anndata as ad
    import numpy as np
    import scanpy as sc
    from sklearn.neighbors import KNeighborsTransformer

    aside = ad.AnnData(obsm={"latent": np.asarray(latent)})
    n = min(N_NEIGHBORS, aside.n_obs - 1)
    tree = KNeighborsTransformer(n_neighbors=n, algorithm="kd_tree")
    finder = tree if aside.obsm["latent"].shape[1] <= TREE_DIMENSIONS else "sklearn"
    sc.pp.neighbors(aside, n_neighbors=n, use_rep="latent", transformer=finder, random_state=seed)
    return aside
