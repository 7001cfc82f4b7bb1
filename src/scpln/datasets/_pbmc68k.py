"""The small PBMC set that scanpy ships, brought back to integer counts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

TARGET_DEPTH = 1e4
"""Depth that the bundled values were normalised to."""

ROUND_TRIP_TOLERANCE = 5.1e-4
"""The bundled values are rounded to three decimals: the right counts reproduce them to half a unit of the last one."""


def pbmc68k_reduced() -> AnnData:
    """Blood cells of the PBMC 68k study with their integer counts: 700 cells, 765 genes, no download.

    scanpy bundles this subset of the 68k cells of :cite:t:`Zheng17` with values
    ``round(log1p(count * 1e4 / n_counts), 3)``. The rounding is far finer than one count, so the counts are recovered
    exactly; that is checked, by going back, each time.

    Returns
    -------
    AnnData with

    ``layers["counts"]``
        UMI counts, CSR, int32.
    ``X``
        The bundled log-normalised values, CSR, float32.
    ``obs["n_counts"]``
        Depth: each cell's total count over *all* genes of the study, of which the 765 here have about a fifth.
        Register it as ``size_factor_key``.
    ``obs["bulk_labels"]``, ``obs["louvain"]``
        Cell types (by correlation with purified populations) and scanpy's clusters, their colours in ``uns``.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> adata.layers["counts"][:3, :8].toarray()
    array([[0, 0, 0, 1, 1, 0, 1, 2],
           [1, 0, 1, 0, 0, 0, 1, 0],
           [0, 0, 1, 0, 0, 0, 0, 1]], dtype=int32)
    """
    import scanpy as sc

    bundled = sc.datasets.pbmc68k_reduced()
    depth = bundled.obs["n_counts"].to_numpy(dtype=np.float64)
    values = sp.csr_matrix(bundled.raw.X)
    values.sort_indices()
    return AnnData(
        X=values,
        obs=bundled.obs[["bulk_labels", "louvain"]].assign(n_counts=depth.astype(np.int64)),
        var=bundled.raw.var,
        layers={"counts": counts_from_log_normalized(values, depth)},
        uns={key: bundled.uns[key] for key in ("bulk_labels_colors", "louvain_colors")},
    )


def counts_from_log_normalized(values: sp.csr_matrix, depth: np.ndarray) -> sp.csr_matrix:
    """Integer counts y (n × p) from x_ij = log1p(y_ij · 1e4 / depth_i) rounded to three decimals.

    y_ij = rint(expm1(x_ij) · depth_i / 1e4), accepted only if it gives x_ij back to within the rounding.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> values = sp.csr_matrix(np.log1p(np.array([[3.0, 0.0, 1.0]]) * 1e4 / 2000).round(3))
    >>> counts_from_log_normalized(values, np.array([2000.0])).toarray()
    array([[3, 0, 1]], dtype=int32)
    """
    scale = np.repeat(depth / TARGET_DEPTH, np.diff(values.indptr))
    x = values.data.astype(np.float64)
    counts = np.rint(np.expm1(x) * scale)
    error = np.abs(np.log1p(counts / scale) - x).max(initial=0.0)
    if error >= ROUND_TRIP_TOLERANCE:
        msg = (
            f"These values are not log1p(count * {TARGET_DEPTH:.0f} / depth) rounded to three decimals: whole counts "
            f"reproduce them only to {error:.2g} (allowed: {ROUND_TRIP_TOLERANCE:.2g}). Pass the depths that the "
            f"values were normalised with; for `pbmc68k_reduced`, install a scanpy release that bundles the known file."
        )
        raise ValueError(msg)
    return sp.csr_matrix((counts.astype(np.int32), values.indices, values.indptr), shape=values.shape)
