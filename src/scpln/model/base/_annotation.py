"""What a model writes into AnnData or MuData: arrays, tables, text and numbers, which survive writing to a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from mudata import MuData

from ._ownership import claim, forget, storable

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.data import Data


@dataclass
class Annotation:
    """Results of a model for the cells of an AnnData or MuData, under the names that follow the key.

    Everything is optional: a model writes what it has. Of a MuData, what belongs to genes is written into their
    modality, where it has numbers in it.

    Parameters
    ----------
    latent
        Latent state of each cell, for ``obsm["X_{key}"]``.
    obs, obsm
        Columns and arrays by cell, for ``obs["{key}_{name}"]`` and ``obsm["{key}_{name}"]``.
    var
        Numbers by gene, (genes of the model × columns), for ``var["{key}_{column}"]``.
    varm, varp
        Tables by gene, and by pairs of genes, for ``varm["{key}_{name}"]`` and ``varp["{key}_{name}"]``. One of sparse columns becomes a
        sparse matrix, in which genes that the model lacks have nothing.
    uns
        Entries of ``uns["{key}"]``.
    modalities
        Where the genes of each modality stand in `var`, `varm` and `varp`, if the data are a MuData.
    """

    latent: NDArray | None = None
    obs: dict[str, Any] = field(default_factory=dict)
    obsm: dict[str, Any] = field(default_factory=dict)
    var: pd.DataFrame | None = None
    varm: dict[str, pd.DataFrame] = field(default_factory=dict)
    varp: dict[str, pd.DataFrame] = field(default_factory=dict)
    uns: dict[str, Any] = field(default_factory=dict)
    modalities: dict[str, slice] = field(default_factory=dict)

    def write(self, adata: Data, key: str) -> list[str]:
        """Replace all that is stored under the key, and return where it went. Genes that the model lacks get NaN."""
        forget(adata, key)
        adata.uns[key] = storable({"n_obs": adata.n_obs, **self.uns})
        written = self._write_cells(adata, key)
        if isinstance(adata, MuData):
            for name, genes in self.modalities.items():
                if name in adata.mod:
                    places = self._write_genes(adata.mod[name], key, genes)
                    written += [f"mod[{name!r}].{place}" for place in places]
        else:
            written += self._write_genes(adata, key, slice(None))
        claim(adata, key, written)
        return [*written, f"uns[{key!r}]"]

    def _write_cells(self, adata: Data, key: str) -> list[str]:
        """Write what belongs to cells, and return where it went."""
        written = []
        if self.latent is not None:
            adata.obsm[f"X_{key}"] = self.latent
            written.append(f"obsm['X_{key}']")
        for slot, values in (("obs", self.obs), ("obsm", self.obsm)):
            for name, value in values.items():
                getattr(adata, slot)[f"{key}_{name}"] = value
                written.append(f"{slot}['{key}_{name}']")
        return written

    def _write_genes(self, adata: AnnData, key: str, genes: slice) -> list[str]:
        """Write what belongs to these genes, and return where it went."""
        written = []
        columns = pd.DataFrame() if self.var is None else self.var.iloc[genes].dropna(axis=1, how="all")
        for label in columns:
            adata.var[f"{key}_{label}"] = columns[label].reindex(adata.var_names)
            written.append(f"var['{key}_{label}']")
        for name, table in self.varm.items():
            adata.varm[f"{key}_{name}"] = table.iloc[genes].reindex(adata.var_names).to_numpy()
            written.append(f"varm['{key}_{name}']")
        for name, table in self.varp.items():
            adata.varp[f"{key}_{name}"] = _matrix(table.iloc[genes, genes], adata)
            written.append(f"varp['{key}_{name}']")
        return written


def _matrix(table: pd.DataFrame, adata: AnnData) -> NDArray | sp.csr_matrix:
    """Numbers of pairs of genes, in the order of the annotated data."""
    if not all(isinstance(dtype, pd.SparseDtype) for dtype in table.dtypes):
        return table.reindex(index=adata.var_names, columns=adata.var_names).to_numpy()
    places = table.index.get_indexer(adata.var_names)
    known = np.flatnonzero(places >= 0)
    into = sp.csr_matrix((np.ones(len(known)), (known, places[known])), shape=(adata.n_vars, len(table)))
    return sp.csr_matrix(into @ table.sparse.to_coo().tocsr() @ into.T)
