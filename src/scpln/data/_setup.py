"""`setup_anndata`, `setup_mudata`: say once where the counts (or other values), batches and covariates of the data are."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.utils import as_bool, name_of, named

from . import _manager
from ._checks import check_adata, check_mdata
from ._field import DESIGN_KEY
from ._make_fields import make_fields
from ._modalities import modality_sizes, specify
from ._rows import location
from ._validation import validated_once
from .categories import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from ._field import Data

logger = logging.getLogger("scpln")

#: What arguments name that name no column.
_SINGLE = {
    "layer": "one layer",
    "unlabeled_category": "one category of labels_key",
    "offset_key": "one layer, or entry of obsm",
    "mask_key": "one layer, or entry of obsm",
}


def setup_anndata(
    adata: AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    unlabeled_category: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    is_count_data: bool = True,
    round_counts: bool = False,
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
        Column of ``adata.obs`` with known labels, for models that use them; missing where they are not known.
    unlabeled_category
        Category of `labels_key` whose cells have no label, such as ``"Unknown"``, besides those with a missing value; it
        is then no label. By default only missing values are: every category, however it is called, is a label.
    size_factor_key
        Column of ``adata.obs`` with a size factor for each cell, on the natural scale. By default each cell's total
        count over the genes of `adata`: when these are a subset (highly variable ones), store the total over *all*
        genes in a column before subsetting, and name it here. Their logarithms are centred on the training cells.
    offset_key
        Layer, or entry of ``adata.obsm`` (cells × genes; columns of a data frame are matched to genes by name), with the
        offset of every entry, on the scale of natural logarithms: what is known of its log-rate, such as the logarithm of
        a depth that differs between groups of genes. It takes the place of size factors, unless `size_factor_key` is given,
        to whose logarithm it is then added. Each gene's offsets are centred on the training cells.
    mask_key
        Layer, or entry of ``adata.obsm``, that is True (or not 0) where an entry was observed. Whatever stands where it is
        not, missing values too, adds nothing to any bound. Totals are then over the observed entries: give a
        `size_factor_key` where these differ much. For counts only.
    design
        Formula of columns of ``adata.obs``, such as ``"~ condition * age + donor"``, in place of covariate keys: see
        :doc:`/guides/design`. The batch is added to it, unless it is in it.
    categorical_covariate_keys
        Columns of ``adata.obs`` with further categories for the design.
    continuous_covariate_keys
        Columns of ``adata.obs`` with numbers for the design, in any unit.
    is_count_data
        Whether `layer` holds raw counts. If False, it may hold any finite numbers, such as log-normalised expression
        or centred log-ratios of proteins, for ``likelihood="gaussian"``. Such values have no size factors: the offset
        of every cell is 0, unless `size_factor_key` names a column, whose centred logarithm is then added to the mean
        of every gene.
    round_counts
        Whether to round values to the nearest whole numbers, for counts that were estimated (salmon, kallisto, SoupX,
        CellBender) or carry rounding errors, here and wherever a model reads cells. `adata` stays as it is. What rounding
        changes is warned of. Values that are negative, or look normalised, are refused all the same.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> scpln.model.setup_anndata(adata, layer="counts", size_factor_key="n_counts")
    >>> scpln.model.PLNPCA(adata, n_latent=5)
    PLNPCA(n_latent=5, n_components=1, posterior='fullrank', prior='learned', inference='variational', likelihood='poisson', amortized=False)
      data: 700 cells × 765 genes, adata.layers['counts'], size_factor_key='n_counts'
      design: (Intercept)
      status: not trained

    Log-normalised expression:

    >>> import scanpy as sc
    >>> adata.layers["log"] = adata.layers["counts"].copy()
    >>> sc.pp.normalize_total(adata, layer="log", target_sum=1e4)
    >>> sc.pp.log1p(adata, layer="log")
    >>> scpln.model.setup_anndata(adata, layer="log", is_count_data=False)

    A tenth of the entries held out:

    >>> import numpy as np
    >>> adata.layers["seen"] = np.random.default_rng(0).random(adata.shape) > 0.1
    >>> scpln.model.setup_anndata(adata, layer="counts", size_factor_key="n_counts", mask_key="seen")
    """
    register(
        adata,
        layer=layer,
        batch_key=batch_key,
        labels_key=labels_key,
        unlabeled_category=unlabeled_category,
        size_factor_key=size_factor_key,
        offset_key=offset_key,
        mask_key=mask_key,
        design=design,
        categorical_covariate_keys=categorical_covariate_keys,
        continuous_covariate_keys=continuous_covariate_keys,
        is_count_data=is_count_data,
        round_counts=round_counts,
    )


def setup_mudata(
    mdata: MuData,
    *,
    modalities: Mapping[str, str | Mapping[str, str | None] | None] | Sequence[str],
    design: str | None = None,
    batch_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    round_counts: bool = False,
) -> None:
    """Register several modalities of the same cells for `PLNPCA`, which gives each cell one latent state for all of them.

    Cells are matched by name, and may lack some of the modalities, but not all. Every count is checked. Nothing of
    `mdata` changes but two identifiers in ``mdata.uns``, which scvi-tools needs.

    Parameters
    ----------
    mdata
        Modalities of the same cells (``axis=0``), in memory or backed.
    modalities
        The modalities to model, and where the counts of each are: None for its ``X``, the name of a layer, or a mapping
        with ``"layer"``, ``"offset_key"`` and ``"mask_key"``, as in `setup_anndata`, and ``"size_factor_key"``, a column of
        the modality's ``obs`` with a size factor for each cell, on the natural scale. By default, that is the cell's total count in the modality: when it has a subset of
        its genes (highly variable ones), store the total over *all* of them before subsetting. The logarithms are
        centred on the cells that have the modality. Of a list of names, the counts are in ``X``.
    design
        Formula of columns of ``mdata.obs``, in place of covariate keys, as in `setup_anndata`.
    batch_key
        Column of ``mdata.obs`` with the batch of each cell. Enters the design, its first category as the reference.
    categorical_covariate_keys
        Columns of ``mdata.obs`` with further categories for the design.
    continuous_covariate_keys
        Columns of ``mdata.obs`` with numbers for the design, in any unit.
    round_counts
        Whether to round the values of all modalities to the nearest whole numbers, as `setup_anndata` does.

    Examples
    --------
    >>> import scpln
    >>> mdata = scpln.datasets.simulate_multimodal(200, {"rna": 60, "prot": 10}, density={"prot": 0.9})
    >>> scpln.model.setup_mudata(mdata, modalities=["rna", "prot"])
    >>> scpln.model.PLNPCA(mdata, n_latent=3, likelihood={"rna": "poisson", "prot": "nb"})
    PLNPCA(n_latent=3, n_components=1, posterior='fullrank', prior='learned', inference='variational', likelihood={'rna': 'poisson', 'prot': 'nb'}, amortized=False)
      data: 200 cells × 70 genes, mdata['rna'].X (60) + mdata['prot'].X (10)
      design: (Intercept)
      status: not trained

    Counts in layers, and a size factor of one modality:

    >>> for name in ("rna", "prot"):
    ...     mdata[name].layers["counts"] = mdata[name].X.copy()
    >>> mdata["rna"].obs["total"] = mdata["rna"].X.sum(1)
    >>> modalities = {"rna": {"layer": "counts", "size_factor_key": "total"}, "prot": "counts"}
    >>> scpln.model.setup_mudata(mdata, modalities=modalities)
    """
    register_mudata(
        mdata,
        modalities=modalities,
        design=design,
        batch_key=batch_key,
        categorical_covariate_keys=categorical_covariate_keys,
        continuous_covariate_keys=continuous_covariate_keys,
        round_counts=round_counts,
    )


def register(
    adata: AnnData,
    source_registry: dict[str, Any] | None = None,
    *,
    is_count_data: bool,
    round_counts: bool = False,
    **keys: Any,
) -> _manager.SharedManager:
    """Register an AnnData, learning its genes and categories or taking them from `source_registry`."""
    check_adata(adata, view_allowed=False)
    args = _arguments(is_count_data, round_counts, keys)
    return _register(adata, args, source_registry)


def unregistered(
    adata: AnnData, *, is_count_data: bool = True, round_counts: bool = False, **keys: Any
) -> dict[str, Any]:
    """What registering an AnnData would learn of it, for functions that read cells without a model; it stays as it is.

    Parameters
    ----------
    adata
        Annotated data, which may be a view.
    is_count_data, round_counts, **keys
        As in `setup_anndata`.
    """
    check_adata(adata)
    args = _arguments(is_count_data, round_counts, {"labels_key": None, "unlabeled_category": None, **keys})
    with named(name_of(adata)), validated_once():
        known = {key: {"state_registry": field.learn(adata)} for key, field in make_fields(**args).items()}
    return {"setup_args": args, "field_registries": known}


def _arguments(is_count_data: bool, round_counts: bool, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `setup_anndata` as they are kept."""
    if not isinstance(is_count_data, bool | np.bool_):
        msg = f"is_count_data={is_count_data!r}, but it must be True (raw counts) or False (any finite numbers)."
        raise TypeError(msg)
    args = {name: _plain(name, value) for name, value in keys.items()}
    # What goes without saying is not kept, so that registrations stay as they were before there was a choice.
    if not is_count_data:
        args["is_count_data"] = False
    for name in ("unlabeled_category", "offset_key", "mask_key", "design"):
        if args.get(name) is None:
            args.pop(name, None)
    args |= _rounding(round_counts)
    if round_counts and not is_count_data:
        msg = (
            "round_counts=True rounds counts, and is_count_data=False says that these are none. Leave one of them out."
        )
        raise ValueError(msg)
    if not is_count_data and "mask_key" in args:
        msg = (
            "mask_key is for counts, and is_count_data=False says that these are none: the gaussian likelihood has no values that "
            "add nothing. Leave out cells or genes with missing values."
        )
        raise ValueError(msg)
    return args


def register_mudata(
    mdata: MuData,
    source_registry: dict[str, Any] | None = None,
    *,
    modalities: Any,
    round_counts: bool = False,
    **keys: Any,
) -> _manager.SharedManager:
    """Register a MuData, learning its genes and categories or taking them from `source_registry`."""
    check_mdata(mdata, view_allowed=False)
    args = {name: _plain(name, value) for name, value in keys.items()} | _rounding(round_counts)
    if args.get("design") is None:
        args.pop("design", None)
    known = mdata.mod if source_registry is None else _manager.setup_args(source_registry)["modalities"]
    modalities = specify(modalities, list(known))
    for name in modalities if source_registry is None else ():
        with named(f"mdata[{name!r}]"):
            check_adata(mdata.mod[name])
    return _register(mdata, {"modalities": modalities, **args}, source_registry)


def _register(data: Data, args: dict[str, Any], source_registry: dict[str, Any] | None) -> _manager.SharedManager:
    with named(name_of(data)), validated_once():
        manager = _manager.register(data, make_fields(**args), args, source_registry)
    names = _manager.states(manager.registry)[DESIGN_KEY]["names"]
    shape, where = describe(manager.registry)
    logger.info(
        "Registered %s: %s in %s, design with %d columns (%s).",
        shape,
        "counts" if _manager.is_count_data(manager.registry) else "real values",
        where,
        len(names),
        ", ".join(names[:8]) + (", …" if len(names) > 8 else ""),
    )
    return manager


def describe(registry: Mapping[str, Any]) -> tuple[str, str]:
    """How many cells and genes are registered, and where their counts are."""
    args, known = _manager.setup_args(registry), _manager.states(registry)
    shape = f"{known['X']['n_obs']:,} cells × {known['X']['n_vars']:,} genes"
    if not _manager.is_joint(registry):
        return shape, location(args["layer"])
    sizes, modalities = modality_sizes(known), args["modalities"]
    places = []
    for name, options in modalities.items():
        given = [f", {key}={value!r}" for key, value in options.items() if key != "layer" and value is not None]
        places.append(f"{location(options['layer'], f'mdata[{name!r}]')} ({sizes[name]:,}{''.join(given)})")
    return shape, " + ".join(places)


def _rounding(round_counts: bool) -> dict[str, bool]:
    """What is kept of `round_counts`: that they are rounded; that they are not goes without saying."""
    return {"round_counts": True} if as_bool("round_counts", round_counts) else {}


def _plain(argument: str, value: Any) -> Any:
    """The value of an argument as JSON has it: a name, or names where there may be several."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if argument == "unlabeled_category" and np.isscalar(value):
        return as_text(value)
    if argument.endswith("_keys") and isinstance(value, Iterable) and all(isinstance(key, str) for key in value):
        return [str(key) for key in value]
    if argument == "design":
        msg = f"design={value!r}, but it must be a formula, as text, such as '~ condition * age', or None."
        raise TypeError(msg)
    what = "one or more columns of obs" if argument.endswith("_keys") else _SINGLE.get(argument, "one column of obs")
    further = " Further categories go into categorical_covariate_keys." if argument == "batch_key" else ""
    msg = f"{argument}={value!r}, but it must be the name of {what}, as text, or None.{further}"
    raise TypeError(msg)
