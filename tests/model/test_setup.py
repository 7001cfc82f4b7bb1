"""One registration serves all model classes, changes nothing else, and lives as long as its AnnData."""

import gc
import logging
import weakref

import numpy as np
import pandas as pd
import pytest
import scvi
from anndata import AnnData
from mudata import MuData

from scpln.data import _manager
from scpln.model import PLNPCA, setup_anndata, setup_mudata

from .conftest import make_adata, train


class Other(PLNPCA):
    """Another model class."""


def test_one_registration_has_a_view_for_each_class(adata):
    setup_anndata(adata, layer="counts", batch_key="batch")
    first, second = PLNPCA(adata, n_latent=2), Other(adata, n_latent=2)
    shared = _manager.find(adata)
    for model in (first, second):
        assert model.adata_manager.id == shared.id
        assert model.adata_manager.adata is adata
        assert model.registry["model_name"] == type(model).__name__
        assert model.registry["field_registries"] is shared.registry["field_registries"]
    assert first.registry["setup_args"]["layer"] == "counts"


def test_the_class_method_is_the_same(adata):
    Other.setup_anndata(adata, layer="counts", batch_key="batch", continuous_covariate_keys=["age"])
    model = PLNPCA(adata, n_latent=2)
    assert model.covariates == ["(Intercept)", "batch[T.1]", "age"]
    assert model.registry["setup_method_name"] == "setup_anndata"
    assert dict(model.summary_stats) == {"n_cells": 150, "n_vars": 30, "n_batch": 2, "n_labels": 1, "n_covariates": 3}


def test_nothing_of_the_data_changes(adata):
    before = adata.copy()
    setup_anndata(adata, layer="counts", batch_key="batch", labels_key="donor", categorical_covariate_keys=["donor"])
    assert set(adata.uns) - set(before.uns) == {"_scvi_uuid", "_scvi_manager_uuid"}
    assert adata.obs.equals(before.obs)
    assert list(adata.obsm) == list(before.obsm)
    assert (adata.layers["counts"] != before.layers["counts"]).nnz == 0


WRONG_COLUMNS = [
    ("batch_key", "bad"),
    ("categorical_covariate_keys", ["bad"]),
    ("continuous_covariate_keys", ["bad"]),
    ("size_factor_key", "bad"),
]


@pytest.fixture
def uncounted(monkeypatch):
    """Counts that must not be looked at."""

    def look(*_args, **_more):
        pytest.fail("counts were read first")

    for name in ("check_counts", "check_real"):
        monkeypatch.setattr(f"scpln.data._fields.{name}", look)


@pytest.mark.parametrize(("argument", "value"), WRONG_COLUMNS)
@pytest.mark.usefixtures("uncounted")
def test_wrong_columns_are_refused_before_counting(adata, argument, value):
    adata.obs["bad"] = np.nan
    with pytest.raises(ValueError, match=r"adata.obs\['bad'\]"):
        setup_anndata(adata, **{argument: value})
    mdata = MuData(
        {
            name: AnnData(adata.X, obs=adata.obs, var=pd.DataFrame(index=name + adata.var_names))
            for name in ("rna", "prot")
        }
    )
    mdata.obs["bad"] = np.nan
    modalities = {"rna": None, "prot": None}
    if argument == "size_factor_key":
        modalities, joint = {name: {argument: value} for name in modalities}, {}
    else:
        joint = {argument: value}
    with pytest.raises(ValueError, match=r"\['bad'\]"):
        setup_mudata(mdata, modalities=modalities, **joint)


@pytest.mark.parametrize(("argument", "value"), WRONG_COLUMNS)
def test_wrong_columns_of_new_cells_are_refused_before_counting(adata, argument, value, request):
    of_numbers = argument in ("continuous_covariate_keys", "size_factor_key")
    adata.obs["bad"] = adata.obs["age"] ** 2 + 1.0 if of_numbers else adata.obs["batch"]
    model = train(adata, **{argument: value})
    new = adata.copy()
    new.obs["bad"] = np.nan
    request.getfixturevalue("uncounted")
    with pytest.raises(ValueError, match=r"adata.obs\['bad'\]"):
        model.get_latent_representation(new)


def test_setting_up_again_replaces(adata):
    setup_anndata(adata)
    setup_anndata(adata, batch_key="batch")
    assert PLNPCA(adata, n_latent=2).covariates == ["(Intercept)", "batch[T.1]"]


def test_original_and_copy_are_set_up_side_by_side(adata):
    setup_anndata(adata, batch_key="batch")
    copy = adata.copy()
    with pytest.raises(ValueError, match=r"This AnnData is not set up.*a copy.*has to be set up again"):
        PLNPCA(copy, n_latent=2)
    setup_anndata(copy)
    assert PLNPCA(adata, n_latent=2).covariates == ["(Intercept)", "batch[T.1]"]
    assert PLNPCA(copy, n_latent=2).covariates == ["(Intercept)"]


def test_scvi_models_can_use_the_same_data(adata):
    setup_anndata(adata, layer="counts", batch_key="batch")
    scvi.model.SCVI.setup_anndata(adata, layer="counts", batch_key="batch")
    scvi.model.SCVI(adata)
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    assert np.isfinite(model.get_elbo(adata.copy()))


def test_nothing_keeps_data_or_models_alive():
    adata = make_adata()
    model = train(adata)
    references, uuid, model_id = (weakref.ref(adata), weakref.ref(model)), adata.uns["_scvi_uuid"], model.id
    assert uuid in PLNPCA._setup_adata_manager_store
    assert model_id in PLNPCA._per_instance_manager_store
    del adata, model
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert uuid not in {manager.adata_uuid for manager in _manager._managers.values()}
    assert uuid not in PLNPCA._setup_adata_manager_store
    assert model_id not in PLNPCA._per_instance_manager_store


def test_data_loaders_give_what_models_need(adata):
    setup_anndata(adata, layer="counts", batch_key="batch", labels_key="donor", continuous_covariate_keys=["age"])
    adata.obs["donor"] = adata.obs["donor"].where(adata.obs_names != "cell_3")
    model = PLNPCA(adata, n_latent=2)
    tensors = next(iter(model._make_data_loader(adata, batch_size=150)))
    np.testing.assert_array_equal(tensors["X"], adata.layers["counts"].toarray())
    np.testing.assert_array_equal(tensors["batch"][:, 0], (adata.obs["batch"] == "1").astype(int))
    np.testing.assert_array_equal(tensors["labels"][:5, 0], [0, 1, 2, -1, 1])
    age = adata.obs["age"]
    np.testing.assert_allclose(tensors["design"][:, 2], (age - age.mean()) / age.std(ddof=0), atol=1e-6)
    totals = np.log(adata.layers["counts"].toarray().sum(1))
    np.testing.assert_allclose(tensors["log_size_factor"][:, 0], totals - totals.mean(), rtol=1e-5, atol=1e-6)


def test_data_loaders_read_new_data_by_gene_name(adata):
    model = train(adata, layer="counts")
    other = adata[:, ::-1].copy()
    tensors = next(iter(model._make_data_loader(model._validate_anndata(other), batch_size=150)))
    np.testing.assert_array_equal(tensors["X"], adata.layers["counts"].toarray())


def test_registration_can_be_viewed(adata, capsys):
    setup_anndata(adata, layer="counts", batch_key="batch")
    PLNPCA(adata, n_latent=2).view_anndata_setup()
    shown = capsys.readouterr().out
    for expected in ("Setup via `PLNPCA.setup_anndata`", "adata.layers['counts']", "batch[T.1]", "gene_9, …"):
        assert expected in shown


def test_what_was_registered_is_logged(adata, caplog):
    with caplog.at_level(logging.INFO, logger="scpln"):
        setup_anndata(adata, layer="counts", batch_key="batch")
    assert (
        "150 cells × 30 genes: counts in adata.layers['counts'], design with 2 columns ((Intercept), batch[T.1])"
        in caplog.text
    )


def test_size_factors_are_natural_scale_and_centred(adata):
    adata.obs["depth"] = np.exp(np.random.default_rng(0).normal(8, 1, adata.n_obs))
    setup_anndata(adata, size_factor_key="depth")
    offsets = PLNPCA(adata, n_latent=2)._read(None).data.offsets
    np.testing.assert_allclose(offsets, np.log(adata.obs["depth"]) - np.log(adata.obs["depth"]).mean())
    adata.obs.loc["cell_7", "depth"] = 0
    with pytest.raises(
        ValueError, match=r"'depth'\] \(size_factor_key\) is 0 or negative for 1 of 150 cells, first 0 for 'cell_7'"
    ):
        setup_anndata(adata, size_factor_key="depth")


@pytest.mark.filterwarnings("ignore:1 of 150 cells")
def test_a_cell_without_counts_counts_as_one(adata):
    counts = adata.X.toarray()
    counts[3] = 0
    adata.X = counts
    setup_anndata(adata)
    totals = np.log(np.maximum(counts.sum(1), 1))
    np.testing.assert_allclose(PLNPCA(adata, n_latent=2)._read(None).data.offsets, totals - totals.mean())


class TestRefused:
    """What cannot be set up, and what the user is told."""

    def test_view(self, adata):
        with pytest.raises(
            ValueError, match=r"view of another AnnData \(50 cells × 30 genes\).*`adata = adata.copy\(\)`"
        ):
            setup_anndata(adata[:50])

    @pytest.mark.parametrize("shape", [(0, 30), (150, 0)])
    def test_empty(self, adata, shape):
        with pytest.raises(ValueError, match=f"adata is empty: {shape[0]} cells × {shape[1]} genes"):
            setup_anndata(adata[: shape[0], : shape[1]].copy())

    @pytest.mark.parametrize(("thing", "hint"), [(np.eye(3), "anndata.AnnData"), ("a.h5ad", "anndata.read_h5ad")])
    def test_no_anndata(self, thing, hint):
        with pytest.raises(TypeError, match=f"must be an AnnData, not .*{hint}"):
            setup_anndata(thing)

    def test_gene_names_that_repeat(self, adata):
        adata.var_names = ["same"] * 30
        with pytest.raises(ValueError, match=r"var_names are not unique.*`adata.var_names_make_unique\(\)`"):
            setup_anndata(adata)

    def test_unknown_keys(self, adata):
        for argument in ("batch_key", "labels_key", "size_factor_key"):
            with pytest.raises(ValueError, match=rf"no column 'bacth' \({argument}\). Did you mean 'batch'"):
                setup_anndata(adata, **{argument: "bacth"})

    def test_a_failed_setup_leaves_the_previous(self, adata):
        setup_anndata(adata, batch_key="batch")
        with pytest.raises(ValueError, match="no column"):
            setup_anndata(adata, batch_key="zzz")
        assert PLNPCA(adata, n_latent=2).covariates == ["(Intercept)", "batch[T.1]"]

    def test_no_setup(self):
        with pytest.raises(ValueError, match=r"not set up. Call scpln.model.setup_anndata\(adata, layer=...\) first"):
            PLNPCA(AnnData(np.ones((3, 3))))

    def test_no_data(self):
        with pytest.raises(ValueError, match=r"PLNPCA needs data: PLNPCA\(adata\), after scpln.model.setup_anndata"):
            PLNPCA()


def test_tables_that_are_lazy(adata):
    """As `anndata.experimental.read_lazy` makes them."""

    class Dataset2D:
        shape = adata.obs.shape

    adata._obs = Dataset2D()
    for call in (setup_anndata, PLNPCA):
        with pytest.raises(
            TypeError, match=r"adata.obs is a Dataset2D and no data frame: it is lazy.*`adata = adata.to_memory\(\)`"
        ):
            call(adata)
