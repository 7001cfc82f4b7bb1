"""`setup_anndata`: say once where the counts, batches and covariates of an AnnData are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

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
) -> None:
    """Register an AnnData for every scpln model.

    Every count is checked. Nothing of `adata` changes but two identifiers in ``adata.uns``, which scvi-tools needs.
    Calling it again replaces the registration for models made afterwards.

    Parameters
    ----------
    adata
        Annotated data: cells × genes, in memory or backed.
    layer
        Layer that holds the raw counts; None for ``adata.X``.
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

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> scpln.model.setup_anndata(adata, layer="counts", size_factor_key="n_counts")
    >>> scpln.model.PLNPCA(adata, n_latent=5)
    PLNPCA(n_latent=5, posterior='fullrank', likelihood='poisson')
      data: 700 cells × 765 genes, adata.layers['counts'], size_factor_key='n_counts'
      design: (Intercept)
      status: not trained
    """
    register(
        adata,
        layer=layer,
        batch_key=batch_key,
        labels_key=labels_key,
        size_factor_key=size_factor_key,
        categorical_covariate_keys=categorical_covariate_keys,
        continuous_covariate_keys=continuous_covariate_keys,
    )


def register(adata: AnnData, source_registry: dict[str, Any] | None = None, **keys: Any) -> None:
    """Register an AnnData, learning its genes and categories or taking them from `source_registry`."""
    check_adata(adata, view_allowed=False)
    args: dict[str, Any] = {name: _plain(value) for name, value in keys.items()}
    _manager.register(adata, make_fields(**args), args, source_registry)
    manager = _manager.find(adata)
    assert manager is not None
    names = _manager.states(manager.registry)[DESIGN_KEY]["names"]
    logger.info(
        "Registered %s cells × %s genes: counts in %s, design with %d columns (%s).",
        f"{adata.n_obs:,}",
        f"{adata.n_vars:,}",
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
