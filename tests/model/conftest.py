"""Small simulated counts with two batches, and models trained on them."""

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scpln
from scpln.model import PLNPCA, setup_anndata

POSTERIORS = ["fullrank", "meanfield"]

MATRICES = {
    "csr_matrix": sp.csr_matrix,
    "csc_matrix": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "dense": lambda counts: counts.toarray(),
    "fortran": lambda counts: np.asfortranarray(counts.toarray()),
    "int64": lambda counts: counts.astype(np.int64),
    "uint16": lambda counts: counts.astype(np.uint16),
    "float32": lambda counts: counts.astype(np.float32),
    "float64": lambda counts: counts.toarray().astype(np.float64),
    "split entries": lambda counts: split_entries(counts),
}


def split_entries(counts: sp.csr_matrix) -> sp.csr_matrix:
    """The same counts, each stored as two entries of which the first is 1."""
    counts = sp.csr_matrix(counts)
    data = np.column_stack([np.ones_like(counts.data), counts.data - 1]).ravel()
    return sp.csr_matrix((data, np.repeat(counts.indices, 2), 2 * counts.indptr), shape=counts.shape)


def make_adata(n_obs: int = 150, n_vars: int = 30) -> AnnData:
    adata = scpln.datasets.simulate(n_obs=n_obs, n_vars=n_vars, n_latent=2, n_batches=2, seed=0)
    adata.obs["age"] = np.random.default_rng(0).normal(size=n_obs)
    adata.obs["donor"] = np.resize(["d1", "d2", "d3"], n_obs)
    adata.layers["counts"] = adata.X.copy()
    return adata


@pytest.fixture
def adata() -> AnnData:
    """Fresh counts, not set up."""
    return make_adata()


def train(adata: AnnData, *, n_latent: int = 2, posterior: str = "fullrank", **keys) -> PLNPCA:
    setup_anndata(adata, **keys)
    model = PLNPCA(adata, n_latent=n_latent, posterior=posterior)
    model.train(progress=False)
    return model


@pytest.fixture(scope="session", params=POSTERIORS)
def trained(request) -> PLNPCA:
    """Trained model of each posterior, on data with batches; do not change it."""
    return train(make_adata(), posterior=request.param, layer="counts", batch_key="batch")


@pytest.fixture(scope="session")
def fullrank() -> PLNPCA:
    """Trained full-rank model, on data with batches; do not change it."""
    return train(make_adata(), layer="counts", batch_key="batch")
