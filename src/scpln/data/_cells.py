"""Reading cells of an AnnData as a model was set up to read them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scvi import REGISTRY_KEYS

from scpln.core import CountData
from scpln.utils import name_of, named

from ._field import DESIGN_KEY, OFFSET_KEY
from ._make_fields import make_fields
from ._manager import setup_args, states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from ._counts import Checksums, CountTotals
    from ._field import Data
    from ._fields import CountsField, OffsetField
    from ._joint_fields import JointCountsField, JointOffsetField


@dataclass(frozen=True)
class Cells:
    """Counts of cells with their offsets and design, their names and totals (of real values, checksums)."""

    data: CountData
    totals: CountTotals | Checksums
    names: pd.Index

    def fingerprint(self) -> str:
        """Digest of names, totals, offsets and design: tells whether these are the cells that a model was trained on.

        Genes are in the model's order, so another order of them in AnnData does not matter. What was computed is
        rounded, so that another machine's logarithm does not matter either.
        """
        digest = hashlib.sha256("\n".join(map(str, self.names)).encode())
        for exact in (self.totals.cells, self.totals.genes):
            digest.update(exact.tobytes())
        for rounded in (self.data.offsets, self.data.design):
            digest.update(np.ascontiguousarray(rounded, dtype=np.float32).tobytes())
        return digest.hexdigest()


def read_cells(adata: Data, registry: Mapping[str, Any], cells: NDArray[np.intp] | None = None) -> Cells:
    """Read all or some cells, checking every value; `adata` may be a view, backed, and need not be registered.

    Columns of ``obs`` come first, so that a wrong one is refused before counts are read, which takes long.
    """
    fields = make_fields(**setup_args(registry))
    known = states(registry)
    counts = cast("CountsField | JointCountsField", fields[REGISTRY_KEYS.X_KEY])
    offsets = cast("OffsetField | JointOffsetField", fields[OFFSET_KEY])
    with named(name_of(adata)):
        design = fields[DESIGN_KEY].read(adata, known)
        batches = fields[REGISTRY_KEYS.BATCH_KEY].read(adata, known)[:, 0]
        if cells is None:
            offsets.transfer_field(known[OFFSET_KEY], adata)
        rows, totals = counts.take(adata, known, cells)
        log_size_factors = offsets.take(adata, known, cast("CountTotals", totals), cells)
    select = slice(None) if cells is None else cells
    data = CountData(rows, log_size_factors, design[select], batches[select], counts.groups(known))
    return Cells(data, totals, adata.obs_names[select])


def read_labels(adata: AnnData, registry: Mapping[str, Any]) -> tuple[NDArray[np.int64], list[str]] | None:
    """Code of each cell's label, −1 where it is missing, and the labels' names; None without ``labels_key``."""
    args, known = setup_args(registry), states(registry)
    if args["labels_key"] is None:
        return None
    codes = make_fields(**args)[REGISTRY_KEYS.LABELS_KEY].read(adata, known)[:, 0]
    return codes, list(known[REGISTRY_KEYS.LABELS_KEY]["categorical_mapping"])


def cell_positions(indices: Sequence[int] | ArrayLike | None, n_obs: int) -> NDArray[np.intp] | None:
    """Positions of the chosen cells; None for all of them.

    Examples
    --------
    >>> cell_positions([True, False, True], 3)
    array([0, 2])
    >>> cell_positions([-1, 0], 3)
    array([2, 0])
    """
    if indices is None:
        return None
    positions = np.atleast_1d(np.asarray(indices))
    if positions.dtype == bool:
        if positions.shape != (n_obs,):
            msg = f"indices is a mask of shape {positions.shape}, but there are {n_obs:,} cells."
            raise ValueError(msg)
        positions = np.flatnonzero(positions)
    if positions.size == 0:
        msg = "indices selects no cells. Pass at least one position, or None for all cells."
        raise ValueError(msg)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        msg = (
            f"indices must be positions of cells or a mask over them, not {positions.dtype} of shape {positions.shape}."
        )
        raise TypeError(msg)
    if positions.max() >= n_obs or positions.min() < -n_obs:
        wrong = positions[(positions >= n_obs) | (positions < -n_obs)][0]
        msg = f"indices contains {wrong}, but there are {n_obs:,} cells (0 to {n_obs - 1:,})."
        raise IndexError(msg)
    return positions % n_obs


def gene_positions(gene_list: Sequence[str] | None, genes: Sequence[str]) -> NDArray[np.intp] | None:
    """Positions of the named genes, in the given order; None for all of them."""
    if gene_list is None:
        return None
    position = {gene: i for i, gene in enumerate(genes)}
    names = [gene_list] if isinstance(gene_list, str) else list(gene_list)
    unknown = [name for name in names if name not in position]
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (", …" if len(unknown) > 5 else "")
        msg = (
            f"{len(unknown):,} of {len(names):,} genes are not in the model: {shown}. "
            f"It has {len(genes):,} genes, named as in var_names of its data, such as {genes[0]!r}."
        )
        raise ValueError(msg)
    return np.array([position[name] for name in names], dtype=np.intp)
