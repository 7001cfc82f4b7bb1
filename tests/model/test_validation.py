"""Values are validated once in a call, however often they are read, and again in the next."""

import anndata
import numpy as np
import pytest

import scpln
from scpln.data import _fields
from scpln.model import PLNPCA, CountGMVAE, setup_anndata


@pytest.fixture
def looks(monkeypatch):
    """Cells of each validation."""
    found, check = [], _fields.check_counts

    def counting(rows, **options):
        found.append(rows.shape[0])
        return check(rows, **options)

    monkeypatch.setattr(_fields, "check_counts", counting)
    return found


@pytest.fixture(scope="module")
def cells():
    return scpln.datasets.simulate(n_obs=60, n_vars=12, n_latent=2, density=0.6, seed=1)


@pytest.fixture(scope="module", params=[PLNPCA, CountGMVAE])
def model(request, cells):
    adata = cells.copy()
    setup_anndata(adata)
    extra = {"n_components": 2, "n_hidden": 4} if request.param is CountGMVAE else {}
    model = request.param(adata, n_latent=2, **extra)
    model.train(progress=False, max_epochs=3)
    return model


def test_set_up(cells, looks):
    setup_anndata(cells.copy())
    assert looks == [60]


def test_evaluation(model, cells, looks):
    scpln.tl.evaluate(model, cells[:20].copy(), n_samples=25)
    assert looks == [20]


def test_annotation(model, cells, looks):
    model.annotate(cells.copy(), diagnostics=True)
    assert looks == [60]


def test_an_edit_between_two_calls_is_noticed(model, cells):
    adata = cells.copy()
    model.get_elbo(adata)
    adata.X[0, 0] = -1
    with pytest.raises(ValueError, match="negative"):
        model.get_elbo(adata)
    adata.X[0, 0] = 100
    before = model.get_elbo(cells)
    assert model.get_elbo(adata) != before


def test_a_file_is_validated_once_until_it_changes(model, cells, looks, tmp_path):
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    for _ in range(2):
        backed = anndata.read_h5ad(path, backed="r")
        model.get_latent_representation(backed)
        model.get_elbo(backed)
        backed.file.close()
    assert looks == [60]
    other = cells.copy()
    other.X = other.X * 2
    other.write_h5ad(path)
    backed = anndata.read_h5ad(path, backed="r")
    latent = model.get_latent_representation(backed)
    backed.file.close()
    assert looks == [60, 60]
    np.testing.assert_allclose(latent, model.get_latent_representation(other), atol=1e-5)


def test_errors_are_not_kept(model, cells, tmp_path):
    wrong = cells.copy()
    wrong.X = wrong.X * 0.3
    wrong.write_h5ad(tmp_path / "wrong.h5ad")
    for _ in range(2):
        backed = anndata.read_h5ad(tmp_path / "wrong.h5ad", backed="r")
        with pytest.raises(ValueError, match="fractional"):
            model.get_elbo(backed)
        backed.file.close()
