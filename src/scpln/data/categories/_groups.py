"""Groups of cells that are compared, by a column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from scpln.utils import positive_integer, warn

from ._coding import Coding, match
from ._text import as_text, restore

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Groups that are compared one after another without being named: a comparison takes about a second.
MOST_GROUPS = 100


@dataclass(frozen=True)
class Comparison:
    """Groups of a column that are compared one after another with the rest, or with others.

    Parameters
    ----------
    name
        The column.
    coding
        Its groups: those that have cells.
    first
        Positions of the groups to compare.
    second
        Positions of those to compare with, taken together; none for the rest.
    """

    name: str
    coding: Coding
    first: list[int]
    second: list[int]

    @classmethod
    def of(cls, column: pd.Series, group1: Any, group2: Any, min_cells: int) -> Self:
        """Groups as the user names them, in whatever type; by default all that have enough cells.

        Raises
        ------
        ValueError
            If there is no such group, one is on both sides, there are too many to compare unless they are named, or one has
            fewer than `min_cells` cells. Unnamed groups that have are left out, with a warning.
        """
        min_cells = positive_integer("min_cells", min_cells)
        everything = cls(str(column.name), Coding.of(column), [], [])
        second = everything._positions(group2)
        named = everything._positions(group1)
        twice = [group for group in named if group in second]
        if twice:
            msg = f"{everything._of_column(twice[0])} is compared with itself: it is in group1 and in group2."
            raise ValueError(msg)
        others = [group for group in range(len(everything.coding.categories)) if group not in second]
        comparison = cls(everything.name, everything.coding, named if group1 is not None else others, second)
        if group1 is None and len(others) > MOST_GROUPS:
            msg = (
                f"{comparison._where} has {len(others):,} groups, and each would be compared in turn. Name the ones to "
                "compare, group1=[...], or pass a column of clusters or labels."
            )
            raise ValueError(msg)
        return comparison._with_enough(min_cells, all_needed=group1 is not None)

    @property
    def column(self) -> pd.Series:
        """Name of each cell's group, missing where it has none; those to compare with have one name."""
        names = np.array([*self.coding.categories, None], dtype=object)
        if len(self.second) > 1:
            names[self.second] = self.group2
        return pd.Series(names[self.coding.codes], dtype="category")

    @property
    def group1(self) -> list[str]:
        """Names of the groups to compare."""
        return [self.coding.categories[group] for group in self.first]

    @property
    def group2(self) -> str | None:
        """Name of what they are compared with; None for the rest."""
        return ", ".join(self.coding.categories[group] for group in self.second) or None

    def restored(self, names: pd.Series) -> pd.Series:
        """Names of groups as values of the column's type; other names stay."""
        if not self.coding.dtype.startswith(("int", "uint", "float", "bool")):
            return names
        # Plain numbers have the digits of their texts, which single precision would lengthen: 0.1, not 0.10000000149.
        dtype = "float64" if self.coding.dtype.startswith("float") else self.coding.dtype
        values = restore(self.coding.categories, dtype).tolist()
        own = dict(zip(self.coding.categories, values, strict=True))
        return names.map(lambda name: own.get(name, name))

    @property
    def _where(self) -> str:
        return f"adata.obs[{self.name!r}] (groupby)"

    def _of_column(self, group: int) -> str:
        return f"{self.coding.categories[group]!r} of {self._where}"

    def _positions(self, groups: Any) -> list[int]:
        if groups is None:
            return []
        wanted = list(groups) if isinstance(groups, Iterable) and not isinstance(groups, str | bytes) else [groups]
        positions: list[int] = match([as_text(group) for group in wanted], self.coding.categories).tolist()
        for group, position in zip(wanted, positions, strict=True):
            if position < 0:
                msg = (
                    f"{group!r} is not a group of adata.obs[{self.name!r}], which has {self.coding.categories[:20]}"
                    f"{', …' if len(self.coding.categories) > 20 else ''}."
                )
                raise ValueError(msg)
        if not positions:
            msg = f"No group is named of {self._where}. Name one or more, or leave the argument out."
            raise ValueError(msg)
        return list(dict.fromkeys(positions))

    def _with_enough(self, min_cells: int, *, all_needed: bool) -> Self:
        """The groups that have enough cells, and enough to be compared with."""
        sizes = self.coding.sizes
        against = np.full(len(sizes), sizes[self.second].sum()) if self.second else len(self.coding.codes) - sizes
        few = [group for group in self.first if min(sizes[group], against[group]) < min_cells]
        enough = [group for group in self.first if group not in few]
        if few and (all_needed or not enough):
            group = few[0]
            what = "what it is compared with has" if sizes[group] >= min_cells else "it has"
            msg = (
                f"{self._of_column(group)} cannot be compared: {what} {min(sizes[group], against[group]):,} cells, fewer than "
                f"min_cells={min_cells}. So few say too little about a group: join it with another, or pass min_cells=1."
            )
            raise ValueError(msg)
        if few:
            self._warn_of_few(few, sizes, min_cells)
        return type(self)(self.name, self.coding, enough, self.second)

    def _warn_of_few(self, few: list[int], sizes: NDArray[np.int64], min_cells: int) -> None:
        shown = ", ".join(f"{self.coding.categories[group]!r} ({sizes[group]:,})" for group in few[:8])
        warn(
            f"{len(few):,} groups of {self._where} are left out, since they or what they are compared with have fewer than "
            f"min_cells={min_cells} cells: {shown}{', …' if len(few) > 8 else ''}. Join them with others, or pass "
            "min_cells=1."
        )
