"""Sets in gene space, with offsets of every entry, and the mean-field bound of any posteriors. Numpy and scipy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    from pathlib import Path

#: With what their offsets are: logarithms of totals, of what the set brings, or none.
SETS = {
    "pln_trichoptera": "totals",
    "pln_barents": "own",
    "pln_mollusk": "none",
    "pln_oaks": "own",
    "pln_microcosm": "column",
    "pln_scRNA": "totals",
}


@dataclass(frozen=True)
class GeneSpaceSet:
    """Counts Y and offsets O, (n, p) each; the design is an intercept."""

    counts: np.ndarray
    offsets: np.ndarray

    @classmethod
    def read(cls, path: Path) -> GeneSpaceSet:
        """From a file of AnnData."""
        import anndata as ad

        adata = ad.read_h5ad(path)
        counts = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
        kind = SETS[path.stem]
        exposure = np.ones(counts.shape)
        if kind == "totals":
            column = adata.obs["total_counts"] if "total_counts" in adata.obs else counts.sum(1)
            exposure = exposure * np.asarray(column, float)[:, None]
        elif kind == "own":
            exposure = np.asarray(adata.obsm["Offset"], float)
        elif kind == "column":
            exposure = exposure * np.asarray(adata.obs["Offset"], float)[:, None]
        return cls(counts.astype(float), np.log(exposure))

    def save(self, path: Path) -> None:
        """Write what both environments read."""
        np.savez(path, counts=self.counts, offsets=self.offsets)

    @classmethod
    def load(cls, path: Path) -> GeneSpaceSet:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(file["counts"], file["offsets"])


def profiled_bound(data: GeneSpaceSet, mean: np.ndarray, variance: np.ndarray, *, diagonal: bool) -> float:
    """Mean-field bound of all samples in nats, in float64, at the coefficients and covariance that are best for the posteriors."""
    n = len(mean)
    residual = mean - mean.mean(0)
    sigma = (residual.T @ residual + np.diag(variance.sum(0))) / n
    log_det = np.log(np.diag(sigma)).sum() if diagonal else np.linalg.slogdet(sigma)[1]
    eta = data.offsets + mean
    expected = data.counts * eta - np.exp(eta + variance / 2) - gammaln(data.counts + 1)
    return float(expected.sum() + 0.5 * np.log(variance).sum() - 0.5 * n * log_det)
