"""Genes that few cells have are warned of at set-up: once, with their number and the line that removes them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData, read_h5ad
from mudata import MuData

from scpln.model import setup_anndata, setup_mudata

N_CELLS = 500
#: Cells that have the first genes; all have the others.
SEEN = (0, 5, 9, 10)


def make(n_cells: int = N_CELLS, *, form=sp.csr_matrix, name: str = "gene") -> AnnData:
    counts = np.random.default_rng(0).poisson(2, (n_cells, 20)) + 1
    for gene, n_seen in enumerate(SEEN):
        counts[n_seen:, gene] = 0
    var = pd.DataFrame(index=[f"{name}_{gene}" for gene in range(20)])
    return AnnData(
        form(counts.astype(np.float32)), obs=pd.DataFrame(index=[f"cell_{i}" for i in range(n_cells)]), var=var
    )


def with_a_stored_zero(counts):
    """CSR in which one of the ten counts of gene 3 is stored, and 0."""
    rows = sp.csr_matrix(counts)
    rows.data[np.flatnonzero(rows.indices == 3)[0]] = 0
    return rows


@pytest.mark.parametrize(
    ("form", "n_rare"), [(sp.csr_matrix, 3), (sp.csc_matrix, 3), (np.asarray, 3), (with_a_stored_zero, 4)]
)
def test_they_are_warned_of_once_with_their_number(form, n_rare):
    with pytest.warns(UserWarning, match="genes") as record:
        setup_anndata(make(form=form))
    (warning,) = record
    said = f"{n_rare} of 20 genes in adata.X are seen in fewer than 10 of the 500 cells, 1 of them in none."
    assert str(warning.message).startswith(said)
    assert "set up: `sc.pp.filter_genes(adata, min_cells=10)`" in str(warning.message)
    assert warning.filename == __file__


def test_the_line_that_filters_them_leaves_nothing_to_warn_of():
    adata = make()
    sc.pp.filter_genes(adata, min_cells=10)
    assert adata.n_vars == 17
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        setup_anndata(adata)


def test_few_cells_are_no_reason_to_call_a_gene_rare():
    with pytest.warns(UserWarning, match="genes") as record:
        setup_anndata(make(499))
    (warning,) = record
    assert str(warning.message).startswith("1 of 20 genes in adata.X have no counts.")


def test_on_disk(tmp_path):
    make().write_h5ad(tmp_path / "counts.h5ad")
    with pytest.warns(UserWarning, match="3 of 20 genes.*once loaded with to_memory.*: `sc.pp.filter_genes") as record:
        setup_anndata(read_h5ad(tmp_path / "counts.h5ad", backed="r"))
    assert len(record) == 1


def test_of_modalities():
    mdata = MuData({"rna": make(), "prot": make(name="protein")[:, 4:].copy()}, axis=0)
    with pytest.warns(UserWarning, match="genes") as record:
        setup_mudata(mdata, modalities=["rna", "prot"])
    (warning,) = record
    assert str(warning.message).startswith("3 of 20 genes in mdata['rna'].X are seen in fewer than 10 of the 500 cells")
    assert "`sc.pp.filter_genes(mdata['rna'], min_cells=10)`" in str(warning.message)
