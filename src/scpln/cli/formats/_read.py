"""Reading files of every kind."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from scpln.cli._errors import CommandError
from scpln.cli._stdin import on_disk

from ._kind import Kind, kind_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from scpln.data import Data

GENES = "Gene Expression"
LONGEST = 300


def read(path: Path) -> Data:
    """Read a file of any kind, or say in one line why that cannot be done; ``-`` is standard input."""
    with on_disk(path) as file:
        return _read(file)


def _read(path: Path) -> Data:
    kind = kind_of(path)
    try:
        return _READERS[kind](path)
    except Exception as error:
        jargon = isinstance(
            error, OSError | RuntimeError | KeyError | AttributeError
        )  # of HDF5, or of what lacks a part
        why = "it is damaged, or lacks a part" if jargon else " ".join(str(error).split())[:LONGEST]
        msg = f"cannot read {path} as {kind.value}: {why}"
        raise CommandError(msg) from error


def _read_h5ad(path: Path) -> AnnData:
    import anndata as ad

    return ad.read_h5ad(path)


def _read_zarr(path: Path) -> AnnData:
    import anndata as ad

    return ad.read_zarr(path)


def _read_mudata(path: Path) -> Any:
    import mudata as md

    with md.set_options(pull_on_update=False):  # or columns of the modalities are copied into mdata.obs
        return md.read_zarr(path) if path.is_dir() else md.read_h5mu(path)


def _read_10x(path: Path) -> AnnData:
    """Genes of a file of Cell Ranger; other features are left out, and genes of one name told apart."""
    import scanpy as sc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = sc.read_10x_h5(path, gex_only=False)
    types = adata.var.get("feature_types")
    if types is not None and (types == GENES).any() and (others := int((types != GENES).sum())):
        warnings.warn(
            f"{path} has {others} features that are not genes ({', '.join(sorted({*types} - {GENES}))}), which are left out; "
            "muon.read_10x_h5 reads them as modalities of a MuData",
            stacklevel=2,
        )
        adata = adata[:, types == GENES].copy()
    if not adata.var_names.is_unique:
        repeated = adata.var_names[adata.var_names.duplicated()].unique()
        warnings.warn(
            f"{path} has {len(repeated)} gene names more than once, such as {repeated[0]}: -1, -2, … are appended to them; "
            "var['gene_ids'] has their identifiers",
            stacklevel=2,
        )
        adata.var_names_make_unique()
    return adata


_READERS = {
    Kind.H5AD: _read_h5ad,
    Kind.ZARR: _read_zarr,
    Kind.H5MU: _read_mudata,
    Kind.ZARR_MUDATA: _read_mudata,
    Kind.TENX: _read_10x,
}
