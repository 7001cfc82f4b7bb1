"""Groups of cells by Leiden's algorithm, as a start of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Resolution, rather high, since groups are merged afterwards; neighbours; and cells below which there are no groups.
_RESOLUTION, _NEIGHBORS, _FEWEST = 1.5, 15, 50


def leiden_groups(states: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Group of each cell (n,) by Leiden's algorithm on the graph of neighbours of its states (n, q); one of few cells."""
    if len(states) < _FEWEST:
        return np.zeros(len(states), np.int64)
    import anndata
    import scanpy as sc

    cells = anndata.AnnData(np.zeros((len(states), 1), np.float32), obsm={"states": states})
    sc.pp.neighbors(cells, n_neighbors=_NEIGHBORS, use_rep="states", random_state=seed)
    sc.tl.leiden(cells, resolution=_RESOLUTION, random_state=seed, flavor="igraph", n_iterations=2, directed=False)
    return cells.obs["leiden"].to_numpy().astype(np.int64)
