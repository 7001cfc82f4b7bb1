"""What helps where training ended at its maximum: genes of a few cells, which hold it up, and further iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import CountData

#: Genes that fewer cells have leave their loadings nearly free, and take most of the iterations.
FEW_CELLS = 10
_CELLS = 1024


def how_to_go_on(data: CountData, *, is_count_data: bool) -> str:
    """Say how to train to the end, with the numbers of these data.

    Parameters
    ----------
    data
        Counts, or values, of the training cells.
    is_count_data
        Whether they are counts.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.core import CountData
    >>> counts = np.zeros((30, 4), dtype=np.float32)
    >>> counts[:2, 0], counts[:, 1:] = 1, 2
    >>> how_to_go_on(CountData(counts, np.zeros(30), np.ones((30, 1))), is_count_data=True)[:55]
    ' 1 of 4 genes are seen in fewer than 10 cells, and take'
    """
    seen = cells_with_each_gene(data) if is_count_data else np.full(data.n_genes, FEW_CELLS)
    rare = int((seen < FEW_CELLS).sum())
    if not rare:
        return " To go on, train with a larger max_epochs."
    return (
        f" {rare:,} of {len(seen):,} genes are seen in fewer than {FEW_CELLS} cells, and take most of the iterations, since "
        f"little is known of them: leave them out, `sc.pp.filter_genes(adata, min_cells={FEW_CELLS})`, or pass a larger tol "
        "(0.01 costs tenths of a nat per cell). To go on as it is, train with a larger max_epochs."
    )


def cells_with_each_gene(data: CountData) -> NDArray[np.intp]:
    """Number of cells (p) that have a count of each gene."""
    seen = np.zeros(data.n_genes, dtype=np.intp)
    for _, _, rows in data.blocks(0, data.n_cells, _CELLS):
        matrix = sp.csr_matrix(rows)
        seen += np.bincount(matrix.indices[matrix.data != 0], minlength=data.n_genes)
    return seen
