"""The labelled sets of the usefulness comparison: some cells of each, and the genes that vary most among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scipy.sparse as sp
from autoencoder_data import Split

if TYPE_CHECKING:
    from pathlib import Path

#: Files; the column of batches, where there is one; that of total counts over all genes, where the file holds some of these only.
DATA_SETS: dict[str, tuple[str, str | None, str | None]] = {
    "pbmc3k": ("pbmc3k.h5ad", None, None),
    "pbmc_facs": ("pbmc_facs.h5ad", None, None),
    "sc_mixology_5batch": ("sc_mixology_5batch.h5ad", "batch", "total_counts_all_genes"),
    "kang_muscat": ("kang_muscat.h5ad", "batch", None),
    "brain_mop_dot": ("brain_mop_dot.h5ad", "batch", None),
    "cbmc_citeseq": ("cbmc_citeseq.h5mu", None, None),
    "pln_scRNA": ("pln_scRNA.h5ad", None, "total_counts"),
}
#: Sets whose labels come from something else than clusters of principal components of the same counts.
INDEPENDENT = ("pbmc_facs", "sc_mixology_5batch", "pln_scRNA")
#: Cells that a gene must be seen in, and the share of cells that is held out.
SEEN_IN, HELD_OUT = 3, 0.2
TOTAL = "total_over_all_genes"


@dataclass(frozen=True)
class Limits:
    """Cells and genes at most, and whether models are told the batches."""

    n_cells: int = 1200
    n_genes: int = 1500
    batches: bool = False


def read(name: str, folder: Path, limits: Limits, seed: int) -> Split:
    """The same random cells and the same genes for every seed, which chooses the held-out cells."""
    import scanpy as sc

    _, batch_key, total_key = DATA_SETS[name]
    raw = _raw(name, folder)
    counts = sp.csr_matrix(raw.X).astype(np.float32)
    totals = raw.obs[total_key].to_numpy(np.float64) if total_key else np.asarray(counts.sum(1), np.float64).ravel()
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(raw.n_obs)[: limits.n_cells])
    columns = ["labels", *([batch_key] if batch_key else [])]
    obs = raw.obs.iloc[chosen][columns].assign(**{TOTAL: totals[chosen]})
    cells = ad.AnnData(counts[chosen], obs=obs, var=raw.var[[]])
    sc.pp.filter_genes(cells, min_cells=SEEN_IN)
    if cells.n_vars > limits.n_genes:
        sc.experimental.pp.highly_variable_genes(cells, flavor="pearson_residuals", n_top_genes=limits.n_genes)
        cells = cells[:, cells.var["highly_variable"]]
    cells = cells[np.asarray(cells.X.sum(1)).ravel() > 0]
    cells = ad.AnnData(cells.X.copy(), obs=cells.obs.copy(), var=cells.var[[]])
    held_out = np.random.default_rng([seed, cells.n_obs]).permutation(cells.n_obs) < HELD_OUT * cells.n_obs
    return Split(cells, held_out, batch_key if limits.batches else None, seed)


def thinned(cells: ad.AnnData, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Each transcript in one of two halves, by a coin."""
    counts = sp.csr_matrix(cells.X)
    first, second = counts.copy(), counts.copy()
    first.data = np.random.default_rng([seed, 1]).binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    second.data = counts.data - first.data
    for half in (first, second):
        half.eliminate_zeros()
    return tuple(ad.AnnData(half, obs=cells.obs.copy(), var=cells.var.copy()) for half in (first, second))


def _raw(name: str, folder: Path) -> ad.AnnData:
    path = folder / DATA_SETS[name][0]
    if path.suffix == ".h5ad":
        return ad.read_h5ad(path)
    import mudata

    mudata.set_options(pull_on_update=False)
    return mudata.read_h5mu(path)["rna"]
