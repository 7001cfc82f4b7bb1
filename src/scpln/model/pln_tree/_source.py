"""The tree of a model: from the table, or as a saved model has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln.core import Tree, TreeContrasts
from scpln.data import setup_args
from scpln.data.trees import read_tree

if TYPE_CHECKING:
    from scpln.data import Data
    from scpln.model.base import ScplnModel

#: Most samples × leaves²: every sample has a covariance of leaves × leaves.
MOST_NUMBERS = 3 * 10**8


def contrasts_of(model: ScplnModel, adata: Data | None, tree: Any) -> TreeContrasts:
    """Coordinates of the tree of the columns of a table, or of a saved model."""
    if adata is None and not isinstance(tree, dict):
        msg = "This saved model has no tree."
        raise ValueError(msg)
    found = Tree.from_state(tree) if adata is None else read_tree(adata, tree).without_only_children()
    return TreeContrasts(found, model.genes)


def check_table(model: ScplnModel) -> None:
    """Raise an error for offsets and masks of entries, and for tables that are too large."""
    args = setup_args(model.registry)
    given = [key for key in ("offset_key", "mask_key") if args.get(key) is not None]
    if given:
        msg = (
            f"{type(model).__name__} takes one size factor of each sample, of which all counts were observed, and the data were set up with {given[0]}. "
            f"Set them up without, scpln.model.setup_anndata(adata, size_factor_key=...), or take PLN."
        )
        raise ValueError(msg)
    n, p = model.summary_stats.n_cells, len(model.genes)
    if n * p**2 > MOST_NUMBERS:
        msg = (
            f"{type(model).__name__} keeps a covariance of leaves × leaves of each sample, and {n:,} samples × {p:,} leaves are too many: samples × leaves² "
            f"may be {MOST_NUMBERS:,}. Choose columns of the table, such as the most frequent ones, or add up species to genera."
        )
        raise ValueError(msg)
