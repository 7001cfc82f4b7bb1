"""Offsets of entries, and which of them were observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS

from scpln.core import Entries
from scpln.data._field import Field
from scpln.utils import warn

from ._matrix import place_of, read_matrix
from ._observed import read_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.data._field import State, States

ENTRIES_KEY = "entries"

#: How far offsets of counts may be from the gene's mean offset: rates beyond a factor of 1e20 are none.
FURTHEST_OFFSET = float(np.log(1e20))


class EntriesField(Field):
    """Offsets of every entry, each gene's centred on the training cells where it was observed, and which were observed.

    Real values have offsets in their own unit.
    """

    def __init__(self, offset_key: str | None, mask_key: str | None, is_count_data: bool) -> None:
        super().__init__(ENTRIES_KEY, "layers", offset_key or mask_key)
        self.offset_key, self.mask_key, self.is_count_data = offset_key, mask_key, is_count_data

    def learn(self, adata: AnnData) -> State:
        """The centre: each gene's mean offset."""
        genes = [str(gene) for gene in adata.var_names]
        observed = self._observed(adata, genes)
        self._warn_of_unobserved(adata, observed)
        if self.offset_key is None:
            return {}
        offsets = self._offsets(adata, genes, observed)
        center = _means(offsets, observed)
        self._centred(adata, offsets, center, genes)
        return {"center": center.tolist()}

    def read(self, adata: AnnData, states: States) -> NDArray[np.float64]:
        """What is added to log-rates besides log size factors, (n × p)."""
        return self.take(adata, states).added(slice(None))

    def take(self, adata: AnnData, states: States, cells: NDArray[np.intp] | None = None) -> Entries:
        """Offsets of all or some cells, and which of their entries were observed."""
        genes = states[REGISTRY_KEYS.X_KEY]["column_names"]
        observed = self._observed(adata, genes, cells)
        if self.offset_key is None:
            return Entries(observed=observed)
        offsets = self._offsets(adata, genes, observed, cells)
        center = np.array(states[self.registry_key]["center"])
        return Entries(self._centred(adata, offsets, center, genes, cells), observed)

    def transfer_field(self, state_registry: State, adata_target: AnnData, **kwargs: Any) -> State:
        """The same centre; values are checked when they are read."""
        for argument in ("offset_key", "mask_key"):
            if (key := getattr(self, argument)) is not None:
                place_of(adata_target, key, argument)
        return dict(state_registry)

    def _observed(
        self, adata: AnnData, genes: Sequence[str], cells: NDArray[np.intp] | None = None
    ) -> NDArray[np.bool_] | None:
        return None if self.mask_key is None else read_mask(adata, self.mask_key, genes, cells)

    def _offsets(
        self,
        adata: AnnData,
        genes: Sequence[str],
        observed: NDArray[np.bool_] | None,
        cells: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """Offsets as they are given, NaN where nothing was observed and they are not finite."""
        assert self.offset_key is not None
        offsets = read_matrix(adata, self.offset_key, "offset_key", genes, cells).astype(np.float64)
        unknown = ~np.isfinite(offsets)
        wrong = unknown if observed is None else unknown & observed
        if wrong.any():
            cell, gene = np.argwhere(wrong)[0]
            names = adata.obs_names if cells is None else adata.obs_names[cells]
            msg = (
                f"{place_of(adata, self.offset_key, 'offset_key')} (offset_key) is not finite for {int(wrong.sum()):,} entries, first "
                f"{offsets[cell, gene]} in cell {names[cell]!r}, gene {genes[gene]!r}. An entry that could not be seen has no "
                "offset: say that it was not observed (mask_key)."
            )
            raise ValueError(msg)
        offsets[unknown] = np.nan
        return offsets

    def _centred(
        self,
        adata: AnnData,
        offsets: NDArray[np.float64],
        center: NDArray[np.float64],
        genes: Sequence[str],
        cells: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """Offsets around their centre, 0 where they are not known; an error for one from which no rate can be computed."""
        offsets = offsets - center
        offsets[np.isnan(offsets)] = 0
        wrong = np.abs(offsets) > FURTHEST_OFFSET
        if self.is_count_data and wrong.any():
            assert self.offset_key is not None
            cell, gene = np.argwhere(wrong)[0]
            names = adata.obs_names if cells is None else adata.obs_names[cells]
            msg = (
                f"{place_of(adata, self.offset_key, 'offset_key')} (offset_key) is {offsets[cell, gene] + center[gene]:.6g} in cell "
                f"{names[cell]!r}, gene {genes[gene]!r}, and for {int(wrong.sum()):,} entries it is further than {FURTHEST_OFFSET:.0f} from "
                "the mean of its gene in the training cells. Offsets are natural logarithms: of depths or exposures, pass np.log."
            )
            raise ValueError(msg)
        return offsets

    def _warn_of_unobserved(self, adata: AnnData, observed: NDArray[np.bool_] | None) -> None:
        """Say which genes nothing was observed of."""
        if observed is None or self.mask_key is None:
            return
        nothing = np.flatnonzero(~observed.any(0))
        if len(nothing):
            warn(
                f"{len(nothing):,} of {adata.n_vars:,} genes were observed in no cell ({place_of(adata, self.mask_key, 'mask_key')}, "
                f"mask_key), first {adata.var_names[nothing[0]]!r}. They are kept, but nothing can be learned about them."
            )


def _means(offsets: NDArray[np.float64], observed: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Mean offset of each gene over the cells where it was observed, of all where it was in none; 0 if they are unknown."""
    counted = ~np.isnan(offsets)
    if observed is not None:
        counted &= observed | ~observed.any(0)
    means: NDArray[np.float64] = np.where(counted, offsets, 0).sum(0) / np.maximum(counted.sum(0), 1)
    return means
