"""Labels, batches and covariates of any type: in set-up, saved models, new and mapped data, and given back as they were."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import scpln
from scpln.data import as_text, read_labels, restore
from scpln.datasets import simulate
from scpln.model import PLNPCA, CountGMVAE, setup_anndata

from .test_categories import VALUES, column

ROLES = ("batch_key", "labels_key", "categorical_covariate_keys")


def make_cells(values, n_obs=90):
    """Counts with a column of these values, shuffled, so that it goes with nothing else."""
    adata = simulate(n_obs=n_obs, n_vars=14, n_latent=2, n_batches=2, density=0.5, seed=0)
    order = np.random.default_rng(0).integers(0, len(values), n_obs)
    adata.obs["kind"] = pd.Series(values).iloc[order].set_axis(adata.obs_names)
    return adata


def train(adata, **arguments):
    setup_anndata(adata, labels_key="kind", **arguments)
    model = CountGMVAE(adata, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, start="random", progress=False)
    return model


@pytest.mark.filterwarnings("ignore:.*which is a label of its own")
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("role", ROLES)
def test_every_type_is_read_in_every_role(name, role):
    adata = make_cells(column(name))
    setup_anndata(adata, **{role: "kind"})
    model = PLNPCA(adata, n_latent=1)
    some = adata[20:50].copy()
    known = model.registry["field_registries"]["batch" if role == "batch_key" else "labels"]["state_registry"]
    for data in (adata, some):
        cells = model._read(data).data
        kinds = data.obs["kind"].astype(np.float32) if name == "float16" else data.obs["kind"]
        expected = kinds.astype("category").cat.remove_unused_categories().cat.codes.to_numpy()
        if role == "labels_key":
            found = read_labels(data, model.registry)[0]
            given_back = restore(known["categorical_mapping"], known["dtype"])
            assert [as_text(value) for value in given_back] == known["categorical_mapping"]
        else:
            found = cells.batches if role == "batch_key" else cells.design[:, 1:] @ np.arange(1, cells.design.shape[1])
        np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:.*which is a label of its own")
@pytest.mark.parametrize("name", ["float32", "bytes", "dates", "boolean", "objects"])
def test_missing_labels_are_missing_and_no_other_is(name):
    adata = make_cells(column(name))
    whole = adata.obs["kind"].astype("category").cat.codes.to_numpy()
    lost = np.arange(adata.n_obs) % 3 == 0
    adata.obs["kind"] = adata.obs["kind"].mask(lost)
    setup_anndata(adata, labels_key="kind")
    codes, _ = read_labels(adata, PLNPCA(adata, n_latent=1).registry)
    np.testing.assert_array_equal(codes, np.where(lost, -1, whole))


@pytest.mark.filterwarnings("ignore:.*which is a label of its own")
@pytest.mark.parametrize("name", ["float32", "Int32", "boolean", "dates", "bytes"])
def test_predictions_have_the_type_of_the_labels_also_after_saving(name, tmp_path):
    adata = make_cells(column(name))
    model = train(adata)
    predicted = model.predict()
    assert set(predicted.tolist()) <= set(pd.Series(adata.obs["kind"]).to_numpy(predicted.dtype).tolist())
    assert predicted.dtype == {"float32": "f4", "Int32": "i4", "boolean": "bool", "dates": "M8[ns]"}.get(name, "O")
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(CountGMVAE.load(tmp_path / "model", adata).predict(), predicted)
    if name == "bytes":
        return  # which .h5ad cannot hold
    model.annotate(diagnostics=False)
    adata.obs["kind"] = adata.obs["kind"].astype(str) if name == "dates" else adata.obs["kind"]
    adata.write_h5ad(tmp_path / "adata.h5ad")
    again = CountGMVAE.load(tmp_path / "model", read_h5ad(tmp_path / "adata.h5ad"))
    np.testing.assert_array_equal(again.predict(), predicted)


def test_components_without_a_label_keep_their_names_among_labels_that_are_numbers():
    adata = make_cells([1, 2])
    setup_anndata(adata, labels_key="kind")
    model = CountGMVAE(adata, n_components=3, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, start="random", progress=False)
    assert set(model.predict()) <= {1, 2, "component 2"}
    with pytest.raises(ValueError, match="component=1 may be the label '1' or component number 1, '2'"):
        model.prior_predictive_sample(1, component=1)
    same = [model.prior_predictive_sample(2, component=name, seed=0) for name in (0, "1")]
    np.testing.assert_array_equal(*same)
    assert model.prior_predictive_sample(1, component=2.0).shape == (1, 14)


def test_components_do_not_take_the_names_of_labels():
    adata = make_cells(["component 2", "a"])
    setup_anndata(adata, labels_key="kind")
    model = CountGMVAE(adata, n_components=4, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, start="random", progress=False)
    assert model.component_names == ["a", "component 2", "component 2 (no label)", "component 3"]
    model.annotate(diagnostics=False)
    assert list(adata.obs["countgmvae_cluster"].cat.categories) == model.component_names


class TestQueries:
    """A number of the reference is that number in new data, in whatever type it comes."""

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls):
        adata = make_cells([1, 2])
        setup_anndata(adata, batch_key="kind")
        model = PLNPCA(adata, n_latent=1)
        model.train(max_epochs=3, progress=False)
        return model

    @pytest.mark.parametrize("type_", ["float64", "Float32", "str", "object", "int8"])
    def test_known_numbers_are_known(self, reference, type_):
        query = reference.adata[:40].copy()
        expected = reference.get_elbo(query, return_mean=False)
        query.obs["kind"] = query.obs["kind"].astype(type_)
        np.testing.assert_array_equal(reference.get_elbo(query, return_mean=False), expected)
        assert PLNPCA.load_query_data(query, reference).new_categories == {}

    @pytest.mark.parametrize(
        ("values", "named"),
        [(["01", "2"], r"\['01'\]. It knows \['1', '2'\]"), ([True, False], r"\['False', 'True'\]")],
    )
    def test_others_are_named(self, reference, values, named):
        query = reference.adata[:40].copy()
        query.obs["kind"] = np.resize(values, 40)
        with pytest.raises(ValueError, match=rf"adata.obs\['kind'\] \(batch_key\) has categories that .*: {named}"):
            reference.get_elbo(query)

    @pytest.mark.parametrize("batch", [1, np.int64(1), 1.0, "1", [1], ("1.0",)])
    def test_a_single_number_is_a_list_of_one(self, reference, batch):
        expected = reference.get_normalized_expression(transform_batch=["1"])
        pd.testing.assert_frame_equal(reference.get_normalized_expression(transform_batch=batch), expected)
        drawn = [reference.posterior_predictive_sample(transform_batch=each, seed=0).todense() for each in (batch, "1")]
        np.testing.assert_array_equal(*drawn)


def test_labels_that_the_reference_lacks_are_named():
    reference, query = make_cells([1, 2]), make_cells(["1.0", "b"])
    model = train(reference)
    with pytest.warns(UserWarning, match=r"labels that the model was not trained on: \['b'\]. It knows \['1', '2'\]"):
        codes, _ = read_labels(query, model.registry)
    np.testing.assert_array_equal(codes, np.where(query.obs["kind"] == "1.0", 0, -1))


class TestUnlabelled:
    """Cells without a label, by a missing value or by the name of a category."""

    def test_a_category_of_unlabelled_cells_is_no_label(self, tmp_path):
        adata = make_cells(["Unknown", "b", "a", None])
        model = train(adata, unlabeled_category="Unknown")
        assert model.component_names == ["a", "b"]
        codes, _ = read_labels(adata, model.registry)
        np.testing.assert_array_equal(codes, adata.obs["kind"].map({"a": 0, "b": 1}).fillna(-1))
        assert set(model.predict()) <= {"a", "b"}
        model.save(tmp_path / "model")
        assert CountGMVAE.load(tmp_path / "model", adata).component_names == ["a", "b"]
        adata.obs["kind"] = adata.obs["kind"].astype("category")
        arguments = {"n_latent": 2, "n_hidden": 8, "max_epochs": 1, "start": "random", "progress": False}
        scpln.tl.count_gmvae(adata, labels_key="kind", unlabeled_category="Unknown", **arguments)
        assert list(adata.obs["countgmvae_cluster"].cat.categories) == ["a", "b"]

    def test_it_may_be_a_number(self):
        adata = make_cells([-1, 0, 1])
        setup_anndata(adata, labels_key="kind", unlabeled_category=-1)
        model = CountGMVAE(adata, n_latent=2, n_hidden=8)
        assert (model.label_names, model.label_dtype) == (["0", "1"], "int64")

    def test_what_is_called_unknown_is_announced_as_a_label(self):
        adata = make_cells(["Unknown", "b"])
        with pytest.warns(UserWarning, match=r"category 'Unknown', which is a label .* unlabeled_category='Unknown'"):
            setup_anndata(adata, labels_key="kind")
        with pytest.warns(UserWarning, match=r"has no category 'unknwn' \(unlabeled_category\).*\['Unknown', 'b'\]"):
            setup_anndata(adata, labels_key="kind", unlabeled_category="unknwn")
        with pytest.raises(ValueError, match="unlabeled_category='Unknown' is a category of labels_key"):
            setup_anndata(adata, unlabeled_category="Unknown")


def test_arguments_that_name_one_thing_take_one():
    adata = make_cells([1, 2])
    adata.layers["counts"] = adata.X
    for argument, value in [
        ("layer", ["counts"]),
        ("batch_key", ["kind"]),
        ("labels_key", ("kind",)),
        ("size_factor_key", 5),
        ("categorical_covariate_keys", 5),
        ("continuous_covariate_keys", [5]),
        ("unlabeled_category", ["a"]),
    ]:
        with pytest.raises(TypeError, match=rf"{argument}=.*, but it must be the name of "):
            setup_anndata(adata, **{argument: value})


def test_modalities_are_named_one_by_one():
    mdata = scpln.datasets.simulate_multimodal(40, {"rna": 9, "prot": 4}, density={"prot": 0.9})
    with pytest.raises(TypeError, match=r"batch_key=\['batch'\], but it must be the name of one column of obs"):
        scpln.model.setup_mudata(mdata, modalities=["rna", "prot"], batch_key=["batch"])
    with pytest.raises(TypeError, match=r"modalities\['rna'\] has layer=\['counts'\], but it must be one name"):
        scpln.model.setup_mudata(mdata, modalities={"rna": {"layer": ["counts"]}})
    mdata["prot"].var.index = range(4)
    with pytest.raises(ValueError, match=r"mdata\['prot'\].var_names are not text"):
        scpln.model.setup_mudata(mdata, modalities=["rna", "prot"])


@pytest.mark.parametrize("role", ROLES)
def test_a_column_that_names_cells_is_refused_at_once(role):
    adata = make_cells([0])
    adata.obs["kind"] = np.arange(90)
    setup_anndata(adata[:50].copy(), **{role: "kind"})  # few are the user's own choice
    many = AnnData(np.ones((2000, 3)), obs=pd.DataFrame({"kind": np.arange(2000) / 7}, index=map(str, range(2000))))
    many.obsm["X_a"] = np.ones((2000, 2))
    with pytest.raises(ValueError, match="has 2,000 categories for 2,000 cells"):
        scpln.tl.evaluate(many, labels_key="kind", use_rep="X_a")
    with pytest.raises(ValueError, match=rf"'kind'\] \({role}\) has 2,000 categories for 2,000 cells, such as '0.0'"):
        setup_anndata(many, **{role: "kind"})


@pytest.mark.parametrize("names", [range(14), [*range(13), "gene"], np.linspace(0, 1, 14)])
def test_gene_names_that_are_no_text_are_refused_also_of_new_data(names):
    adata = make_cells([0])
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1)
    model.train(max_epochs=1, progress=False)
    new = adata.copy()
    new.var.index = pd.Index(names)
    calls = [setup_anndata, model.get_elbo, lambda data: PLNPCA.load_query_data(data, model)]
    calls.append(lambda data: PLNPCA.prepare_query_anndata(data, model, fill_missing=True))
    for call in calls:
        with pytest.raises(
            ValueError, match=r"adata.var_names are not text but .*`adata.var_names = adata.var_names.ast"
        ):
            call(new)
    new.var_names = new.var_names.astype(str)
    setup_anndata(new)


@pytest.mark.parametrize("role", [*ROLES, "continuous_covariate_keys", "size_factor_key"])
def test_two_columns_of_one_name_are_refused(role):
    adata = make_cells([1, 2])
    adata.obs = pd.concat([adata.obs, adata.obs[["kind"]]], axis=1)
    with pytest.raises(ValueError, match=rf"adata.obs has 2 columns named 'kind' \({role}\)"):
        setup_anndata(adata, **{role: "kind"})
