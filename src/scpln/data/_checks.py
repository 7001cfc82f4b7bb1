"""What is refused as data: other objects, empty ones, lazy tables, views where the data themselves are needed."""

from __future__ import annotations

from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData

from scpln._catalogue import joint_models
from scpln.utils import named


def check_adata(adata: Any, *, view_allowed: bool = True) -> None:
    """Refuse what is not an AnnData with cells and genes, and a view where the AnnData itself is needed."""
    if isinstance(adata, MuData):
        one = next(iter(adata.mod), "rna")
        msg = (
            f"adata must be an AnnData, and this is a MuData. Take one of its modalities, mdata[{one!r}], or model "
            f"several: `scpln.model.setup_mudata(mdata, modalities={list(adata.mod)})`, then `scpln.model.{joint_models()[0]}(mdata)`."
        )
        raise TypeError(msg)
    if not isinstance(adata, AnnData):
        remedies = {"str": "anndata.read_h5ad(path)", "PosixPath": "anndata.read_h5ad(path)"}
        hint = remedies.get(type(adata).__name__, "anndata.AnnData(matrix, obs=..., var=...)")
        msg = f"adata must be an AnnData, not {type(adata).__name__}. Make one, for example with `{hint}`."
        raise TypeError(msg)
    _check_in_memory(adata)
    if adata.n_obs == 0 or adata.n_vars == 0:
        msg = (
            f"adata is empty: {adata.n_obs:,} cells × {adata.n_vars:,} genes. If it was filtered or subset before, "
            "that removed everything."
        )
        raise ValueError(msg)
    _check_gene_names(adata, "adata")
    if adata.is_view and not view_allowed:
        msg = (
            f"adata is a view of another AnnData ({adata.n_obs:,} cells × {adata.n_vars:,} genes), and this needs one "
            "with its own data. Run `adata = adata.copy()` first."
        )
        raise ValueError(msg)


def _check_in_memory(adata: AnnData) -> None:
    """Refuse tables that are read from disk as they are used."""
    for name in ("obs", "var"):
        if not isinstance(getattr(adata, name), pd.DataFrame):
            msg = (
                f"adata.{name} is a {type(getattr(adata, name)).__name__} and no data frame: it is lazy. Load the data, "
                "`adata = adata.to_memory()`, or open the file with `anndata.read_h5ad(path, backed='r')`, which leaves the counts on disk."
            )
            raise TypeError(msg)


def check_mdata(mdata: Any, *, view_allowed: bool = True) -> None:
    """Refuse what is not a MuData of modalities with the same cells, and a view where the MuData itself is needed."""
    if isinstance(mdata, AnnData):
        msg = (
            "mdata must be a MuData, and this is an AnnData. Register it with `scpln.model.setup_anndata(adata, ...)`, "
            "or name its modality: `mudata.MuData({'rna': adata})`."
        )
        raise TypeError(msg)
    if not isinstance(mdata, MuData):
        remedies = {"str": "mudata.read_h5mu(path)", "PosixPath": "mudata.read_h5mu(path)"}
        hint = remedies.get(type(mdata).__name__, "mudata.MuData({'rna': adata, 'prot': other})")
        msg = f"mdata must be a MuData, not {type(mdata).__name__}. Make one, for example with `{hint}`."
        raise TypeError(msg)
    if mdata.axis != 0:
        msg = (
            f"mdata.axis is {mdata.axis}, so its modalities need not have the same cells. "
            "Make it with axis=0: `mudata.MuData(dict(mdata.mod), axis=0)`."
        )
        raise ValueError(msg)
    if mdata.n_obs == 0:
        msg = "mdata is empty: it has no cells. If it was filtered or subset before, that removed everything."
        raise ValueError(msg)
    for name, adata in mdata.mod.items():
        if not isinstance(adata, AnnData):
            msg = f"mdata[{name!r}] is a {type(adata).__name__}, but modalities must be AnnData."
            raise TypeError(msg)
        with named(f"mdata[{name!r}]"):
            _check_in_memory(adata)
        _check_gene_names(adata, f"mdata[{name!r}]")
    if not view_allowed and (mdata.is_view or any(adata.is_view for adata in mdata.mod.values())):
        msg = "mdata, or one of its modalities, is a view of another. Run `mdata = mdata.copy()` first."
        raise ValueError(msg)


def _check_gene_names(adata: AnnData, data: str) -> None:
    """Refuse names that are no text, as a new index of ``adata.var`` may have: results are matched to genes by name."""
    kind = adata.var_names.inferred_type
    if kind not in {"string", "categorical", "empty"}:
        msg = (
            f"{data}.var_names are not text but {kind} (first {adata.var_names[0]!r}), and genes are matched by name. Run "
            f"`{data}.var_names = {data}.var_names.astype(str)`."
        )
        raise ValueError(msg)
