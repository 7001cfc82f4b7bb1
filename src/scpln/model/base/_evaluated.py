"""What abilities of a model say of cells when it is evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Evaluated:
    """Numbers and tables, to which each ability adds its own.

    Parameters
    ----------
    summary
        Numbers, by name: means over cells, counts and scores.
    cells
        Table with one row for each cell, whose means some of them are.
    dimensions
        Table with one row for each latent dimension.
    notes
        What some numbers are conditional on or computed from, by name.

    Examples
    --------
    >>> Evaluated({"n_cells": 3}).plus({"accuracy": 0.5}, notes={"accuracy": "of the labels that are known"}).summary
    {'n_cells': 3, 'accuracy': 0.5}
    """

    summary: dict[str, float]
    cells: pd.DataFrame = field(default_factory=pd.DataFrame)
    dimensions: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: dict[str, str] = field(default_factory=dict)

    def plus(
        self,
        summary: Mapping[str, float],
        cells: pd.DataFrame | None = None,
        dimensions: pd.DataFrame | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Self:
        """With more numbers, and tables of an ability's own."""
        tables = [table for table in (self.cells, cells) if table is not None and len(table)]
        return type(self)(
            {**self.summary, **summary},
            pd.concat(tables, axis=1) if tables else self.cells,
            self.dimensions if dimensions is None else dimensions,
            {**self.notes, **(notes or {})},
        )
