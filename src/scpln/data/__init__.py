"""AnnData and MuData: registration, checks of counts, and the cells that models read."""

from ._cells import Cells, cell_positions, cells_where, gene_positions, read_cells, read_labels
from ._checks import check_adata, check_mdata
from ._field import DESIGN_KEY, Data
from ._manager import adopt, has_entries, is_joint, setup_args, states
from ._modalities import modality_sizes, modality_slices
from ._rows import block_ranges, get_matrix, take_cells
from ._setup import register_mudata, setup_anndata, setup_mudata, unregistered
from ._validation import validated_once
from .categories import Coding, Comparison, as_text, match, restore
from .design import Design, as_list, check_categories, columns_in, get_codes, get_column

__all__ = [
    "DESIGN_KEY",
    "Cells",
    "Coding",
    "Comparison",
    "Data",
    "Design",
    "adopt",
    "as_list",
    "as_text",
    "block_ranges",
    "cell_positions",
    "cells_where",
    "check_adata",
    "check_categories",
    "check_mdata",
    "columns_in",
    "gene_positions",
    "get_codes",
    "get_column",
    "get_matrix",
    "has_entries",
    "is_joint",
    "match",
    "modality_sizes",
    "modality_slices",
    "read_cells",
    "read_labels",
    "register_mudata",
    "restore",
    "setup_anndata",
    "setup_args",
    "setup_mudata",
    "states",
    "take_cells",
    "unregistered",
    "validated_once",
]
