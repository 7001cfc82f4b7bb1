"""The data sets of the benchmarks: counts, offsets and a name, the same arrays for every method."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

N_LATENT = 10


@dataclass(frozen=True)
class CountSet:
    """Counts Y (n × p, CSR, int32) and log size factors O (n,); the design is an intercept."""

    counts: sp.csr_matrix
    offsets: np.ndarray

    @property
    def design(self) -> np.ndarray:
        """X (n × 1), an intercept only."""
        return np.ones((self.counts.shape[0], 1))

    @property
    def fingerprint(self) -> str:
        """Identify the numbers, so that a recorded bound is never compared with another data set's."""
        digest = hashlib.sha256()
        for array in (self.counts.indptr, self.counts.indices, self.counts.data):
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        # 12 digits: a logarithm's last bit may differ between machines
        digest.update(np.round(self.offsets, 12).tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the arrays as one `.npz`, readable with numpy and scipy alone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        y = self.counts
        np.savez(path, data=y.data, indices=y.indices, indptr=y.indptr, shape=y.shape, offsets=self.offsets)

    @classmethod
    def load(cls, path: Path) -> CountSet:
        """Read what `save` wrote."""
        with np.load(path) as f:
            counts = sp.csr_matrix((f["data"], f["indices"], f["indptr"]), shape=tuple(f["shape"]))
            return cls(counts, f["offsets"])


def log_size_factors(totals: np.ndarray) -> np.ndarray:
    """o_i = log(total_i / median total)."""
    return np.log(totals / np.median(totals))


def simulate_blocks(
    n_cells: int, n_genes: int, *, log_mean: float, log_sd: float, loading_sd: float, seed: int, block: int = 2000
) -> Iterator[sp.csr_matrix]:
    """Draw PLN-PCA counts block by block: z ~ N(0, I), y_ij ~ Poisson(exp(o_i + b_j + z_i·c_j)).

    b_j ~ N(log_mean, log_sd²), c_jk ~ N(0, loading_sd²), o_i ~ N(0, 0.3²). The cells of one seed do not depend on how
    many follow, so a small set is the head of a large one.
    """
    genes = np.random.default_rng([seed, 0])
    b = genes.normal(log_mean, log_sd, n_genes)
    c = genes.normal(0.0, loading_sd, (n_genes, N_LATENT))
    for start in range(0, n_cells, block):
        cells = np.random.default_rng([seed, 1, start // block])
        z = cells.normal(size=(block, N_LATENT))
        o = cells.normal(0.0, 0.3, (block, 1))
        y = cells.poisson(np.exp(o + b + z @ c.T)).astype(np.int32)
        yield sp.csr_matrix(y[: n_cells - start])


def _simulated(n_cells: int, n_genes: int, seed: int) -> CountSet:
    blocks = simulate_blocks(n_cells, n_genes, log_mean=0.0, log_sd=1.0, loading_sd=0.3, seed=seed)
    return _without_empty(sp.vstack(list(blocks), format="csr"))


def _without_empty(counts: sp.csr_matrix, totals: np.ndarray | None = None) -> CountSet:
    """Drop genes and cells without a count: the peer drops them silently."""
    counts = counts[:, np.asarray(counts.sum(0)).ravel() > 0]
    filled = np.asarray(counts.sum(1)).ravel() > 0
    totals = np.asarray(counts.sum(1), dtype=np.float64).ravel() if totals is None else totals
    counts = counts[filled].tocsr()
    counts.sort_indices()
    return CountSet(counts, log_size_factors(totals[filled]))


def _read(path: Path) -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts of an `.h5ad` and the cells' totals over all genes (`obs["total_counts"]` where the file is a subset)."""
    import anndata as ad

    adata = ad.read_h5ad(path)
    counts = sp.csr_matrix(adata.X).astype(np.int32)
    totals = adata.obs["total_counts"] if "total_counts" in adata.obs else counts.sum(1)
    return counts, np.asarray(totals, dtype=np.float64).ravel()


def most_variable_genes(counts: sp.csr_matrix, n_genes: int) -> np.ndarray:
    """Indices, in order, of the genes whose counts vary most for their mean.

    Variance of counts standardised by the variance expected at their mean and clipped at √n, as scanpy's "seurat_v3",
    with a quadratic in place of loess: deterministic, and no dependency.
    """
    y = sp.csc_matrix(counts, dtype=np.float64)
    n = y.shape[0]
    mean = np.asarray(y.mean(0)).ravel()
    variance = np.asarray(y.power(2).mean(0)).ravel() - mean**2
    ok = variance > 0
    trend = np.polyfit(np.log10(mean[ok]), np.log10(variance[ok]), 2)
    expected_sd = np.ones_like(mean)
    expected_sd[ok] = 10 ** (0.5 * np.polyval(trend, np.log10(mean[ok])))
    ceiling = mean + expected_sd * np.sqrt(n)
    y.data = np.minimum(y.data, np.repeat(ceiling, np.diff(y.indptr)))
    square = np.asarray(y.power(2).mean(0)).ravel() - 2 * mean * np.asarray(y.mean(0)).ravel() + mean**2
    score = np.where(ok, square / expected_sd**2, 0.0)
    return np.sort(np.argsort(-score, kind="stable")[:n_genes])


def _real(name: str, n_genes: int | None = None) -> Callable[[Path], CountSet]:
    def load(folder: Path) -> CountSet:
        counts, totals = _read(folder / f"{name}.h5ad")
        if n_genes is not None:
            counts = counts[:, most_variable_genes(counts, n_genes)]
        return _without_empty(counts, totals)

    return load


SIMULATED: dict[str, Callable[[], CountSet]] = {
    "sim_2000x500": lambda: _simulated(2000, 500, seed=1),
    "sim_5000x1000": lambda: _simulated(5000, 1000, seed=2),
}
REAL: dict[str, Callable[[Path], CountSet]] = {
    "pln_scRNA": _real("pln_scRNA"),
    "pbmc3k_2000": _real("pbmc3k", n_genes=2000),
    "kang_muscat": _real("kang_muscat"),
}
SOURCE_FILE = {"pln_scRNA": "pln_scRNA.h5ad", "pbmc3k_2000": "pbmc3k.h5ad", "kang_muscat": "kang_muscat.h5ad"}


def prepare(name: str, cache: Path, data_dir: Path | None) -> Path | None:
    """Path of the data set's `.npz` in `cache`, made if needed; None when its source file is absent."""
    path = cache / f"{name}.npz"
    if path.exists():
        return path
    if name in SIMULATED:
        SIMULATED[name]().save(path)
        return path
    if data_dir is None or not (data_dir / SOURCE_FILE[name]).exists():
        return None
    REAL[name](data_dir).save(path)
    return path
