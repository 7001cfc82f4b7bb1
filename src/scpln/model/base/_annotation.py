"""What a model writes into AnnData or MuData: arrays, tables, text and numbers, which survive writing to a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.data import Data


@dataclass
class Annotation:
    """Results of a model for the cells of an AnnData or MuData, under the names that follow the key.

    Of a MuData, what belongs to genes is written into their modality, where it has numbers in it.

    Parameters
    ----------
    latent
        Posterior mean of the latent state, for ``obsm["X_{key}"]``.
    elbo
        Each cell's contribution to the bound in nats, for ``obs["{key}_elbo"]``.
    obs, obsm
        More columns and arrays, for ``obs["{key}_{name}"]`` and ``obsm["{key}_{name}"]``.
    var
        Numbers by gene, (genes of the model × columns), for ``var["{key}_{column}"]``.
    varm
        Tables by gene, for ``varm["{key}_{name}"]``.
    uns
        More entries of ``uns["{key}"]``.
    modalities
        Where the genes of each modality stand in `var` and `varm`, if the data are a MuData.
    """

    latent: NDArray
    elbo: NDArray
    obs: dict[str, Any] = field(default_factory=dict)
    obsm: dict[str, Any] = field(default_factory=dict)
    var: pd.DataFrame | None = None
    varm: dict[str, pd.DataFrame] = field(default_factory=dict)
    uns: dict[str, Any] = field(default_factory=dict)
    modalities: dict[str, slice] = field(default_factory=dict)

    def write(self, adata: Data, key: str) -> list[str]:
        """Write all of it and return where it went. Genes that the model does not have get NaN."""
        adata.obsm[f"X_{key}"] = self.latent
        adata.obs[f"{key}_elbo"] = self.elbo
        written = [f"obsm['X_{key}']", f"obs['{key}_elbo']"]
        for name, column in self.obs.items():
            adata.obs[f"{key}_{name}"] = column
            written.append(f"obs['{key}_{name}']")
        for name, array in self.obsm.items():
            adata.obsm[f"{key}_{name}"] = array
            written.append(f"obsm['{key}_{name}']")
        if isinstance(adata, MuData):
            for name, genes in self.modalities.items():
                if name in adata.mod:
                    written += [f"mod['{name}'].{where}" for where in self._write_genes(adata.mod[name], key, genes)]
        else:
            written += self._write_genes(adata, key, slice(None))
        adata.uns[key] = storable({"elbo": float(np.mean(self.elbo)), "n_obs": adata.n_obs, **self.uns})
        return [*written, f"uns['{key}']"]

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
        return written


def storable(values: dict[str, Any]) -> dict[str, Any]:
    """The same, as AnnData can write it: lists as arrays, and nothing for None.

    Examples
    --------
    >>> storable({"keys": ["a", "b"], "seed": 0, "batch_key": None, "history": {"elbo": [-2.0, -1.0]}})
    {'keys': array(['a', 'b'], dtype=object), 'seed': 0, 'history': {'elbo': array([-2., -1.])}}
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result[name] = storable(value)
        elif isinstance(value, list | tuple):
            array = np.asarray(value)
            result[name] = array.astype(object) if array.dtype.kind == "U" else array
        elif value is not None:
            result[name] = value
    return result
