"""Are these raw counts, or real numbers? Every entry is looked at, block by block; the answer says what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scpln.data._rows import rounded, row_blocks
from scpln.utils import warn

from ._diagnosis import TRANSFORMED, diagnosis
from ._whole import LARGEST_COUNT, LARGEST_VALUE, NEARLY_WHOLE, Rounding, is_no_count, is_no_estimate, leeway

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

_KINDS = {
    "nan": "NaN",
    "infinite": "infinite",
    "negative": "negative",
    "fraction": "fractional",
    "large": "beyond {limit:.0e}",
}

#: A gene of fewer cells is rare, in data of so many cells or more.
RARE, CELLS_FOR_RARE = 10, 500


@dataclass(frozen=True)
class CountTotals:
    """Total count of every cell (n,) and of every gene (p,), the cells' checksums, and how many cells have each gene (p,).

    The totals and checksums of several modalities stand side by side, (n, G).
    """

    cells: NDArray[np.float64]
    genes: NDArray[np.float64]
    checksums: NDArray[np.uint64]
    detected: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    rounding: Rounding = field(default_factory=Rounding)


@dataclass(frozen=True)
class Checksums:
    """A number for every cell (n,) by which real values are recognised, whose totals are mere rounding error where they are centred."""

    checksums: NDArray[np.uint64]


@dataclass
class _Tally:
    """How many values there are, what is wrong, how often, and where first."""

    limit: float = LARGEST_COUNT
    n_values: int = 0
    n_bad: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    first: tuple[int, int, float] | None = None
    farthest: float = 0.0
    is_nearly_whole: bool = True

    def find(self, start: int, block: Any, is_bad: Callable[[NDArray], NDArray[np.bool_] | None]) -> bool:
        """Look at all stored values of a block; whether all so far are good."""
        values = block.data if sp.issparse(block) else block.reshape(-1)
        self.n_values += values.size
        bad = is_bad(values)
        if bad is not None and bad.any():
            self._add(start, block, values, bad)
        return self.first is None

    def message(self, where: str, demand: str, obs_names: pd.Index, var_names: Sequence[str]) -> str:
        """What is wrong with the matrix `where`, and where first."""
        assert self.first is not None
        n_bad = sum(self.n_bad.values())
        kinds = ", ".join(
            f"{count:,} {_KINDS[kind].format(limit=self.limit)}" for kind, count in self.n_bad.items() if count
        )
        cell, gene, value = self.first
        return (
            f"{where} must hold {demand}, but {n_bad:,} of its {self.n_values:,} stored values "
            f"{'is' if n_bad == 1 else 'are'} not: {kinds}. The first is {_shown(value)}, "
            f"in cell {obs_names[cell]!r}, gene {var_names[gene]!r}."
        )

    def _add(self, start: int, block: Any, values: NDArray, bad: NDArray[np.bool_]) -> None:
        """Count the bad entries of a block, by kind, and remember where the first one is."""
        wrong = values[bad].astype(float)
        kinds = {"nan": np.isnan(wrong), "infinite": np.isinf(wrong), "negative": wrong < 0}
        kinds["large"] = (np.abs(wrong) > self.limit) & ~kinds["infinite"]
        kinds["negative"] &= ~kinds["infinite"] & ~kinds["large"]
        for kind, is_kind in kinds.items():
            self.n_bad[kind] += int(is_kind.sum())
        self.n_bad["fraction"] += len(wrong) - int(sum(is_kind.sum() for is_kind in kinds.values()))
        with np.errstate(invalid="ignore"):
            distance = np.abs(wrong - np.rint(wrong))
            nearly = (distance <= leeway(wrong)) & (wrong >= -NEARLY_WHOLE) & ~kinds["large"]
        self.is_nearly_whole &= bool(nearly.all())
        self.farthest = max(self.farthest, float(distance[np.isfinite(distance)].max(initial=0)))
        if self.first is None:
            entry = int(np.flatnonzero(bad)[0])
            if sp.issparse(block):
                cell, gene = int(np.searchsorted(block.indptr, entry, side="right")) - 1, int(block.indices[entry])
            else:
                cell, gene = divmod(entry, block.shape[1])
            self.first = (start + cell, gene, float(wrong[0]))


def check_counts(
    rows: Any,
    *,
    where: str,
    obs_names: pd.Index,
    var_names: Sequence[str],
    elsewhere: str = "",
    round_counts: bool = False,
) -> CountTotals:
    """Check that all entries are whole numbers of 0 or more, and add them up.

    Parameters
    ----------
    rows
        Counts (n × p), as `as_rows` gives them.
    where
        Name of the matrix, for messages.
    obs_names, var_names
        Names of its cells and genes.
    elsewhere
        Where else the counts may be, as the end of a sentence that says to pass those.
    round_counts
        Whether values are meant to be rounded: then they need not be whole, and the sums are those of the nearest whole
        numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> cells, genes = pd.Index(["AAAC", "AAAG"]), ["GAPDH", "CD4"]
    >>> check_counts(np.array([[3, 0], [1, 2]]), where="adata.X", obs_names=cells, var_names=genes).cells
    array([3., 3.])
    >>> check_counts(np.array([[3, 0], [1, 2.5]]), where="adata.X", obs_names=cells, var_names=genes)
    Traceback (most recent call last):
        ...
    ValueError: adata.X must hold raw counts (whole numbers, 0 or more), but 1 of its 4 stored values is not: ...
    """
    tally = _Tally()
    n, p = rows.shape
    totals, weights = (
        CountTotals(np.zeros(n), np.zeros(p), np.zeros(n, np.uint64), np.zeros(p, np.intp)),
        checksum_weights(p),
    )
    for start, block in row_blocks(rows):
        if tally.find(start, block, is_no_estimate if round_counts else is_no_count):
            if round_counts and block.dtype.kind == "f":
                totals.rounding.add(block, whole := rounded(block))
                block = whole
            cells = slice(start, start + block.shape[0])
            totals.cells[cells] = np.asarray(block.sum(axis=1, dtype=float)).ravel()
            totals.genes[:] += np.asarray(block.sum(axis=0, dtype=float)).ravel()
            totals.checksums[cells] = block.astype(np.uint64) @ weights
            totals.detected[:] += _cells_with(block)
    if tally.first is None:
        if totals.rounding.n_changed:
            _refuse_to_round(rows, where, elsewhere)
        return totals
    demand = "counts (numbers, 0 or more)" if round_counts else "raw counts (whole numbers, 0 or more)"
    what = tally.message(where, demand, obs_names, var_names)
    msg = f"{what} {_advice(rows, where, tally, elsewhere)}"
    raise ValueError(msg)


def check_real(rows: Any, *, where: str, obs_names: pd.Index, var_names: Sequence[str]) -> Checksums:
    """Check that all entries are finite, and compute by what to recognise them.

    Parameters
    ----------
    rows
        Real values (n × p), as `as_rows` gives them.
    where
        Name of the matrix, for messages.
    obs_names, var_names
        Names of its cells and genes.

    Examples
    --------
    >>> import pandas as pd
    >>> cells, proteins = pd.Index(["AAAC", "AAAG"]), ["CD3", "CD4"]
    >>> found = check_real(np.array([[0.5, -1], [-2.5, 0]]), where="adata.X", obs_names=cells, var_names=proteins)
    >>> found.checksums.shape
    (2,)
    >>> check_real(np.array([[0.5, np.nan], [1, 0]]), where="adata.X", obs_names=cells, var_names=proteins)
    Traceback (most recent call last):
        ...
    ValueError: adata.X must hold finite numbers (is_count_data=False), but 1 of its 4 stored values is not: 1 NaN. ...
    """
    tally = _Tally(LARGEST_VALUE)
    sums, weights = Checksums(np.zeros(rows.shape[0], np.uint64)), checksum_weights(rows.shape[1])
    for start, block in row_blocks(rows):
        if tally.find(start, block, lambda values: ~(np.abs(values) <= np.float64(LARGEST_VALUE))):
            sums.checksums[start : start + block.shape[0]] = _bit_patterns(block) @ weights
    if tally.first is None:
        return sums
    what = tally.message(where, "finite numbers (is_count_data=False)", obs_names, var_names)
    if tally.n_bad["large"]:
        msg = f"{what} Give the values in a larger unit, or remove these cells or genes."
        raise ValueError(msg)
    msg = (
        f"{what} They often come from a logarithm of 0, or from division by a total or a standard deviation of 0: add "
        "1 before the logarithm (np.log1p), remove the cells or genes that are constant, or put numbers in their place."
    )
    raise ValueError(msg)


def checksum_weights(n: int) -> NDArray[np.uint64]:
    """Random odd numbers, the same always, whose weighted sum modulo 2⁶⁴ is a checksum of as many whole numbers.

    A change of any of these leaves the sum as it is with a probability of about 2⁻⁶⁴. It depends neither on the order of
    summation nor on how a matrix is stored, and costs one multiplication by a vector.
    """
    return np.random.PCG64(0).random_raw(n) | np.uint64(1)


def warn_if_rare(totals: CountTotals, where: str, *, on_disk: bool = False) -> None:
    """Say how many cells have no counts, and how many genes are in so few cells that little can be learned about them.

    Of data with few cells, where a gene of as few may be a common one, only genes without counts are counted.
    """
    n, p = len(totals.cells), len(totals.genes)
    n_empty, n_absent = int((totals.cells == 0).sum()), int((totals.detected == 0).sum())
    n_rare = int((totals.detected < RARE).sum()) if n >= CELLS_FOR_RARE else 0
    # scanpy does not filter what is on disk
    before = f"to remove them before they are set up{', once loaded with to_memory()' if on_disk else ''}: "
    if n_empty:
        warn(
            f"{n_empty:,} of {n:,} cells in {where} have no counts. They are kept, but nothing can be "
            f"learned about them; {before}`sc.pp.filter_cells(adata, min_counts=1)`."
        )
    if n_rare > n_absent:
        absent = f", {n_absent:,} of them in none" if n_absent else ""
        warn(
            f"{n_rare:,} of {p:,} genes in {where} are seen in fewer than {RARE} of the {n:,} cells{absent}. They are kept, but "
            f"little can be learned about them; {before}`sc.pp.filter_genes(adata, min_cells={RARE})`."
        )
    elif n_absent:
        warn(
            f"{n_absent:,} of {p:,} genes in {where} have no counts. They are kept, but nothing can be "
            f"learned about them; {before}`sc.pp.filter_genes(adata, min_counts=1)`."
        )


def warn_if_rounded(totals: CountTotals, where: str) -> None:
    """Say what rounding changes, where it changes more than rounding errors."""
    found = totals.rounding
    if found.n_changed:
        change = 100 * (found.after / found.before - 1)
        warn(
            f"{found.n_changed:,} of the {found.n_values:,} stored values in {where} are not whole, and are rounded "
            f"(round_counts=True) by up to {found.largest:.2g}; the total count goes from {found.before:,.1f} to "
            f"{found.after:,.0f} ({change:+.2g} %)."
        )


def _cells_with(block: Any) -> NDArray[np.intp]:
    """How many cells of a block have each gene; zeros that are stored are none."""
    if sp.issparse(block):
        return np.bincount(block.indices[block.data != 0], minlength=block.shape[1])
    return np.count_nonzero(block, axis=0)


def _shown(value: float) -> str:
    """Six digits of a number, or all if six would make it whole.

    Examples
    --------
    >>> _shown(0.25), _shown(3.0000003)
    ('0.25', '3.0000003')
    """
    short = f"{value:.6g}"
    return repr(value) if np.isfinite(value) and float(short) == round(value) != value else short


def _refuse_to_round(rows: Any, where: str, elsewhere: str) -> None:
    """An error if what is to be rounded is no estimate of counts, but made of counts by normalising them."""
    looks = diagnosis(rows)
    if looks is not None and not looks.startswith(TRANSFORMED):
        msg = (
            f"{where} has values that are not whole, and it looks {looks}. Rounding them does not give the counts back, so "
            f"round_counts=True is refused: {elsewhere or 'pass the counts'}."
        )
        raise ValueError(msg)


def _bit_patterns(block: Any) -> NDArray[np.uint64]:
    """Bit patterns of the values, dense; all zeros of 0, whatever its sign."""
    dense = block.toarray() if sp.issparse(block) else block
    return (dense.astype(np.float64, order="C") + 0.0).view(np.uint64)


def _advice(rows: Any, where: str, tally: _Tally, elsewhere: str) -> str:
    """One or two sentences: what the values look like, and what to do."""
    if tally.is_nearly_whole:
        return (
            f"All are within {tally.farthest:.2g} of a whole number, as rounding errors leave them: "
            "`setup_anndata(..., round_counts=True)` rounds them."
        )
    looks = diagnosis(rows) if tally.n_bad["negative"] or tally.n_bad["fraction"] else None
    if looks is not None:
        return (
            f"It looks {looks}. The counts cannot be computed back from that: {elsewhere or 'pass those'}. "
            "To model such values as they are, `setup_anndata(adata, ..., is_count_data=False)`, for likelihood='gaussian'."
        )
    if tally.n_bad["fraction"] and not tally.n_bad["negative"]:
        return (
            f"The farthest is {tally.farthest:.2g} from a whole number. If they are estimated counts (ambient RNA removed, "
            "reads shared between transcripts), `setup_anndata(..., round_counts=True)` rounds them."
        )
    return "Remove these cells or genes, or put the counts in their place."
