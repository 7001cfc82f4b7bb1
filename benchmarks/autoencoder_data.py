"""The data sets of the autoencoder comparison: the same counts and the same held-out cells for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scipy.sparse as sp
from data import most_variable_genes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Column of batches of each data set, where it has one.
DATA_SETS: dict[str, str | None] = {
    "kang_muscat": "batch",
    "pbmc3k": None,
    "pbmc_facs": None,
    "brain_mop_dot": "batch",
    "sc_mixology_5batch": "batch",
}
#: Genes at most, and cells that a gene must be seen in: one that is in held-out cells only is no test of a method.
N_GENES, SEEN_IN = 2000, 10
HELD_OUT = 0.1
UNKNOWN = ("unassigned", "unknown", "nan")


@dataclass(frozen=True)
class Split:
    """A data set, and which of its cells are held out."""

    cells: ad.AnnData
    held_out: NDArray[np.bool_]
    batch_key: str | None
    seed: int

    @property
    def train(self) -> ad.AnnData:
        """Cells to train on."""
        return self.cells[~self.held_out].copy()

    @property
    def test(self) -> ad.AnnData:
        """Held-out cells."""
        return self.cells[self.held_out].copy()

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which cells have a label."""
        labels = self.cells.obs["labels"]
        return ~(labels.isna() | labels.astype(str).str.lower().isin(UNKNOWN)).to_numpy()

    @property
    def labels(self) -> NDArray[np.str_]:
        """Labels of the cells that have one."""
        return self.cells.obs["labels"].astype(str).to_numpy()[self.known]

    @property
    def n_labels(self) -> int:
        """Number of different labels."""
        return len(np.unique(self.labels))


def read(name: str, folder: Path) -> ad.AnnData:
    """Raw counts of the most variable genes, without cells that have none, with labels and batches."""
    raw = ad.read_h5ad(folder / f"{name}.h5ad")
    counts = sp.csr_matrix(raw.X).astype(np.float32)
    genes = np.flatnonzero(np.asarray((counts > 0).sum(0)).ravel() >= SEEN_IN)
    if len(genes) > N_GENES:
        genes = genes[most_variable_genes(counts[:, genes], N_GENES)]
    counts = counts[:, genes]
    filled = np.asarray(counts.sum(1)).ravel() > 0
    columns = [c for c in ("labels", DATA_SETS[name]) if c is not None]
    return ad.AnnData(counts[filled].tocsr(), obs=raw.obs.loc[filled, columns], var=raw.var.iloc[genes][[]])


def split(name: str, folder: Path, seed: int) -> Split:
    """A data set with a tenth of its cells held out, the same ones for every method."""
    cells = read(name, folder)
    order = np.random.default_rng([seed, cells.n_obs]).permutation(cells.n_obs)
    held_out = np.zeros(cells.n_obs, dtype=bool)
    held_out[order[: round(HELD_OUT * cells.n_obs)]] = True
    return Split(cells, held_out, DATA_SETS[name], seed)
