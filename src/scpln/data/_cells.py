"""Reading cells of an AnnData as a model was set up to read them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from scpln.core import CountData
from scpln.utils import as_names, name_of, named

from ._field import DESIGN_KEY, OFFSET_KEY
from ._make_fields import make_fields
from ._manager import setup_args, states
from ._rows import block_ranges
from .counts import CountTotals, checksum_weights
from .entries import ENTRIES_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from ._field import Data
    from ._fields import CountsField, LabelsField, OffsetField
    from ._joint_fields import JointCountsField, JointOffsetField
    from .counts import Checksums
    from .entries import EntriesField


@dataclass(frozen=True)
class Cells:
    """Counts of cells with their offsets and design, their names, and their totals with checksums (of real values, these alone)."""

    data: CountData
    totals: CountTotals | Checksums
    names: pd.Index

    def signatures(self) -> NDArray[np.uint64]:
        """A number for every cell (n,) that says whether its counts, offsets and design are still what they were.

        Genes are in the model's order, so another order of them in AnnData does not matter. Offsets are rounded to
        2⁻³², so that another machine's logarithm does not matter either.
        """
        offsets = np.rint(self.data.log_sizes * 2.0**32).astype(np.int64).view(np.uint64)
        design = (np.ascontiguousarray(self.data.design, dtype=np.float64) + 0.0).view(np.uint64)
        parts = np.column_stack([self.totals.checksums, offsets, design, *self._checksums_of_entries()])
        return parts @ checksum_weights(parts.shape[1])

    def _checksums_of_entries(self) -> list[NDArray[np.uint64]]:
        """Checksums (n,) of what is known of entries; none where nothing is."""
        arrays = () if self.data.entries is None else self.data.entries.arrays()
        weights = checksum_weights(self.data.n_genes)
        blocks = list(block_ranges(*self.data.counts.shape))
        return [
            np.concatenate([(array[start:stop] + 0.0).view(np.uint64) @ weights for start, stop in blocks])
            for array in arrays
        ]

    def fingerprint(self) -> str:
        """Digest of names and signatures: tells whether these are the cells that a saved model was trained on."""
        digest = hashlib.sha256("\n".join(map(str, self.names)).encode())
        digest.update(self.signatures().astype("<u8").tobytes())
        return digest.hexdigest()

    def has_fingerprint(self, fingerprint: str) -> bool:
        """Whether these are the cells with this fingerprint, which may be one that version 0.1.0 saved."""
        if fingerprint == self.fingerprint():
            return True
        return (
            isinstance(self.totals, CountTotals)
            and self.data.entries is None
            and fingerprint == self._earlier_fingerprint(self.totals)
        )

    def _earlier_fingerprint(self, totals: CountTotals) -> str:
        """The digest of version 0.1.0, of names, totals, offsets and design."""
        digest = hashlib.sha256("\n".join(map(str, self.names)).encode())
        for exact in (totals.cells, totals.genes):
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
        of_entries = cast("EntriesField | None", fields.get(ENTRIES_KEY))
        entries = None if of_entries is None else of_entries.take(adata, known, cells)
        rows, totals = counts.take(adata, known, cells)
        log_size_factors = offsets.take(adata, known, cast("CountTotals", totals), cells)
    select = slice(None) if cells is None else cells
    data = CountData(rows, log_size_factors, design[select], batches[select], counts.groups(known), entries)
    return Cells(data, totals, adata.obs_names[select])


def read_labels(adata: AnnData, registry: Mapping[str, Any]) -> tuple[NDArray[np.int64], list[str]] | None:
    """Code of each cell's label, −1 where it has none, and the labels' names; None without ``labels_key``.

    Labels that the model does not know are named in a warning, and read as none.
    """
    args, known = setup_args(registry), states(registry)
    if args["labels_key"] is None:
        return None
    field = cast("LabelsField", make_fields(**args)[REGISTRY_KEYS.LABELS_KEY])
    field.warn_of_unknown(adata, known)
    codes = field.read(adata, known)[:, 0]
    return codes, list(known[REGISTRY_KEYS.LABELS_KEY]["categorical_mapping"])


def cell_positions(
    indices: Sequence[int] | ArrayLike | None, n_obs: int, name: str = "indices"
) -> NDArray[np.intp] | None:
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
            msg = f"{name} is a mask of shape {positions.shape}, but there are {n_obs:,} cells."
            raise ValueError(msg)
        positions = np.flatnonzero(positions)
    if positions.size == 0:
        msg = f"{name} selects no cells. Pass at least one position, or None for all cells."
        raise ValueError(msg)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        msg = (
            f"{name} must be positions of cells or a mask over them, not {positions.dtype} of shape {positions.shape}."
        )
        raise TypeError(msg)
    if positions.max() >= n_obs or positions.min() < -n_obs:
        wrong = positions[(positions >= n_obs) | (positions < -n_obs)][0]
        msg = f"{name} contains {wrong}, but there are {n_obs:,} cells (0 to {n_obs - 1:,})."
        raise IndexError(msg)
    return positions % n_obs


def cells_where(obs: pd.DataFrame, query: str, name: str) -> NDArray[np.bool_]:
    """Mask of the cells (n,) for which a query of the columns of ``obs`` is true.

    Examples
    --------
    >>> cells_where(pd.DataFrame({"age": [30, 60]}), "age > 50", "idx1")
    array([False,  True])
    """
    try:
        found = obs.eval(query)
    except Exception as error:  # pandas raises anything, of Python's parser, too
        msg = f"{name}={query!r} is no query of the columns of adata.obs: {error}."
        raise ValueError(msg) from error
    if not isinstance(found, pd.Series) or not pd.api.types.is_bool_dtype(found.dtype):
        msg = f"{name}={query!r} is no query of the columns of adata.obs: it is not True or False for each cell."
        raise ValueError(msg)
    return found.fillna(False).to_numpy(bool)


def gene_positions(
    gene_list: Sequence[str] | str | None, genes: Sequence[str], name: str = "gene_list"
) -> NDArray[np.intp] | None:
    """Positions of the named genes, in the given order; None for all of them."""
    if gene_list is None:
        return None
    position = {gene: i for i, gene in enumerate(genes)}
    names = as_names(name, gene_list)
    if not names:
        msg = f"{name} is empty. Name one gene or more, or pass None for all of them."
        raise ValueError(msg)
    unknown = [gene for gene in names if gene not in position]
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (", …" if len(unknown) > 5 else "")
        msg = (
            f"{len(unknown):,} of {len(names):,} genes are not in the model: {shown}. "
            f"It has {len(genes):,} genes, named as in var_names of its data, such as {genes[0]!r}."
        )
        raise ValueError(msg)
    return np.array([position[gene] for gene in names], dtype=np.intp)
