"""`setup_anndata`: say once where the counts (or other values), batches and covariates of an AnnData are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from . import _manager
from ._fields import DESIGN_KEY, make_fields
from ._rows import location

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("scpln")


def setup_anndata(
    adata: AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    is_count_data: bool = True,
) -> None:
    """Register an AnnData for every scpln model.

    Every value is checked. Nothing of `adata` changes but two identifiers in ``adata.uns``, which scvi-tools needs.
    Calling it again replaces the registration for models made afterwards.

    Parameters
    ----------
    adata
        Annotated data: cells × genes, in memory or backed.
    layer
        Layer that holds the raw counts, or other values (`is_count_data`); None for ``adata.X``.
    batch_key
        Column of ``adata.obs`` with the batch of each cell. Enters the design, its first category as the reference.
    labels_key
        Column of ``adata.obs`` with known labels, for models that use them.
    size_factor_key
        Column of ``adata.obs`` with a size factor for each cell, on the natural scale. By default each cell's total
        count over the genes of `adata`: when these are a subset (highly variable ones), store the total over *all*
        genes in a column before subsetting, and name it here. Their logarithms are centred on the training cells.
    categorical_covariate_keys
        Columns of ``adata.obs`` with further categories for the design.
    continuous_covariate_keys
        Columns of ``adata.obs`` with numbers for the design, used as they are.
    is_count_data
        Whether `layer` holds raw counts. If False, it may hold any finite numbers, such as log-normalised expression
        or centred log-ratios of proteins, for ``likelihood="gaussian"``. Such values have no size factors: the offset
        of every cell is 0, unless `size_factor_key` names a column, whose centred logarithm is then added to the mean
        of every gene.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> scpln.model.setup_anndata(adata, layer="counts", size_factor_key="n_counts")
    >>> scpln.model.PLNPCA(adata, n_latent=5)
    PLNPCA(n_latent=5, posterior='fullrank', likelihood='poisson', amortized=False)
      data: 700 cells × 765 genes, adata.layers['counts'], size_factor_key='n_counts'
      design: (Intercept)
      status: not trained

    Log-normalised expression:

    >>> import scanpy as sc
    >>> adata.layers["log"] = adata.layers["counts"].copy()
    >>> sc.pp.normalize_total(adata, layer="log", target_sum=1e4)
    >>> sc.pp.log1p(adata, layer="log")
    >>> scpln.model.setup_anndata(adata, layer="log", is_count_data=False)
    """
    register(
        adata,
        layer=layer,
        batch_key=batch_key,
        labels_key=labels_key,
        size_factor_key=size_factor_key,
        categorical_covariate_keys=categorical_covariate_keys,
        continuous_covariate_keys=continuous_covariate_keys,
        is_count_data=is_count_data,
    )


def register(
    adata: AnnData, source_registry: dict[str, Any] | None = None, *, is_count_data: bool, **keys: Any
) -> None:
    """Register an AnnData, learning its genes and categories or taking them from `source_registry`."""
    check_adata(adata, view_allowed=False)
    if not isinstance(is_count_data, bool | np.bool_):
        msg = f"is_count_data={is_count_data!r}, but it must be True (raw counts) or False (any finite numbers)."
        raise TypeError(msg)
    args: dict[str, Any] = {name: _plain(value) for name, value in keys.items()}
    if not is_count_data:  # counts go without saying, so that their registrations stay as they were before this choice
        args["is_count_data"] = False
    _manager.register(adata, make_fields(**args), args, source_registry)
    manager = _manager.find(adata)
    assert manager is not None
    names = _manager.states(manager.registry)[DESIGN_KEY]["names"]
    logger.info(
        "Registered %s cells × %s genes: %s in %s, design with %d columns (%s).",
        f"{adata.n_obs:,}",
        f"{adata.n_vars:,}",
        "counts" if is_count_data else "real values",
        location(keys["layer"]),
        len(names),
        ", ".join(names[:8]) + (", …" if len(names) > 8 else ""),
    )


def check_adata(adata: Any, *, view_allowed: bool = True) -> None:
    """Refuse what is not an AnnData with cells and genes, and a view where the AnnData itself is needed."""
    if not isinstance(adata, AnnData):
        remedies = {"str": "anndata.read_h5ad(path)", "PosixPath": "anndata.read_h5ad(path)", "MuData": "mdata['rna']"}
        hint = remedies.get(type(adata).__name__, "anndata.AnnData(matrix, obs=..., var=...)")
        msg = f"adata must be an AnnData, not {type(adata).__name__}. Make one, for example with `{hint}`."
        raise TypeError(msg)
    if adata.n_obs == 0 or adata.n_vars == 0:
        msg = (
            f"adata is empty: {adata.n_obs:,} cells × {adata.n_vars:,} genes. If it was filtered or subset before, "
            "that removed everything."
        )
        raise ValueError(msg)
    if adata.is_view and not view_allowed:
        msg = (
            f"adata is a view of another AnnData ({adata.n_obs:,} cells × {adata.n_vars:,} genes), and this needs one "
            "with its own data. Run `adata = adata.copy()` first."
        )
        raise ValueError(msg)


def _plain(keys: Sequence[str] | str | None) -> list[str] | str | None:
    """Keys as JSON has them."""
    return keys if keys is None or isinstance(keys, str) else [str(key) for key in keys]
