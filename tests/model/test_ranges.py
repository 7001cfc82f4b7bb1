"""Numbers that cannot be computed with are refused where data are set up, with name, value and range."""

import re

import numpy as np
import pytest
import scipy.sparse as sp

from scpln.model import PLNPCA, CountVAE, setup_anndata

from .every_model import make_adata


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("value", [1e300, 1e13, 2**53 + 1, np.int64(2**60), np.uint64(2**63 + 1)])
def test_counts(form, value):
    adata = make_adata()
    dtype = np.asarray(value).dtype
    counts = adata.X.toarray().astype(dtype)
    counts[3, 2] = value
    adata.X = form(counts)
    with pytest.raises(
        ValueError, match=re.escape(f"1 beyond 1e+12. The first is {float(value):.6g}, in cell 'cell_3', gene 'gene_2'")
    ):
        setup_anndata(adata)
    if dtype.kind == "f":
        with pytest.raises(ValueError, match="1 beyond 1e"):
            setup_anndata(adata, round_counts=True)


@pytest.mark.parametrize("value", [1e51, -1e300])
def test_real_values(value):
    adata = make_adata()
    adata.layers["log"][3, 2] = value
    with pytest.raises(
        ValueError, match=r"1 beyond 1e\+50. The first is .*in cell 'cell_3', gene 'gene_2'. Give the values in"
    ):
        setup_anndata(adata, layer="log", is_count_data=False)


@pytest.mark.parametrize("value", [1e-300, 1e-40, 1e40, 1e300])
def test_size_factors(value):
    adata = make_adata()
    adata.obs["depth"] = np.r_[np.full(89, 2.0), value]
    with pytest.raises(ValueError, match=r"obs\['depth'\] \(size_factor_key\) is .*'cell_89'"):
        setup_anndata(adata, size_factor_key="depth")


def test_size_factors_of_new_cells():
    adata = make_adata()
    adata.obs["depth"] = 2.0
    setup_anndata(adata, size_factor_key="depth")
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False, max_epochs=3)
    other = adata.copy()
    other.obs["depth"] = 1e-30
    with pytest.raises(ValueError, match=r"is 1e-30 for 'cell_0', and for 90 of 90 cells .* the training cells, 2\."):
        model.get_elbo(other)


@pytest.mark.parametrize("model_class", [PLNPCA, CountVAE])
@pytest.mark.parametrize("name", ["count", "small factor", "large factor", "unit of factors"])
def test_what_is_let_in_can_be_computed_with(model_class, name):
    adata = make_adata()
    adata.obs["depth"] = np.linspace(1, 2, 90)
    if name == "count":
        adata.X = adata.X.toarray().astype(float)
        adata.X[3, 2] = 1e12
    elif name == "unit of factors":
        adata.obs["depth"] *= 1e-45
    else:
        adata.obs.loc["cell_3", "depth"] = 1e-19 if name == "small factor" else 1e19
    setup_anndata(adata, size_factor_key="depth")
    model = model_class(adata, n_latent=2)
    model.train(progress=False, max_epochs=3, **({} if model_class is PLNPCA else {"start": "random"}))
    assert np.isfinite(model.get_elbo(return_mean=False)).all()
    assert np.isfinite(model.get_latent_representation()).all()
