"""Cells that are mapped onto a reference: they get what is new about them, and nothing else moves."""

import warnings
from functools import cache

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from mudata import MuData, set_options

import scpln
from scpln.model import PLN, PLNPCA, CountGMVAE, CountVAE, setup_anndata, setup_mudata
from scpln.module import FLOWS

RANDOM = {"max_epochs": 3, "start": "random"}
MODELS = {
    "plnpca": (PLNPCA, {}, {}),
    "meanfield": (PLNPCA, {"posterior": "meanfield"}, {}),
    "nb": (PLNPCA, {"likelihood": "nb"}, {}),
    "flow": (PLNPCA, {"posterior": "flow"}, {"n_steps": 10}),
    "amortized": (PLNPCA, {"amortized": True, "encoder_hidden": [8]}, {"n_steps": 20}),
    "pln": (PLN, {}, {}),
    "pln, mean-field": (PLN, {"posterior": "meanfield"}, {}),
    "vae": (CountVAE, {"n_hidden": 8}, RANDOM),
    "vae, gene-batch": (CountVAE, {"n_hidden": 8, "dispersion": "gene-batch"}, RANDOM),
    "gmvae": (CountGMVAE, {"n_hidden": 8, "n_components": 2}, RANDOM),
    "gmvae, by component": (
        CountGMVAE,
        {"n_hidden": 8, "n_components": 2, "component_posteriors": True},
        RANDOM,
    ),
}


def make_cells() -> tuple[anndata.AnnData, anndata.AnnData]:
    """Cells of two batches, and of these and a third."""
    adata = scpln.datasets.simulate(n_obs=160, n_vars=20, n_latent=2, n_batches=3, seed=0)
    adata.obs["donor"] = np.resize(["d1", "d2"], adata.n_obs)
    adata.obs["type"] = np.where(adata.X[:, 0].toarray().ravel() > 1, "high", "low")
    is_query = (adata.obs["batch"] == adata.obs["batch"].unique()[-1]).to_numpy()
    is_query |= np.arange(adata.n_obs) < 10
    return adata[~is_query].copy(), adata[is_query].copy()


@cache
def train_reference(name: str):
    """Trained reference, and options of its training; do not change it."""
    cls, arguments, options = MODELS[name]
    reference, _ = make_cells()
    setup_anndata(reference, batch_key="batch")
    latent = {} if cls is PLN else {"n_latent": 2}
    model = cls(reference, **latent, **arguments)
    model.train(progress=False, **options)
    return model, options


def map_onto(model, query, options):
    mapped = type(model).load_query_data(query, model)
    mapped.train(progress=False, **options)
    return mapped


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    """Reference and mapped model; do not change them."""
    model, options = train_reference(request.param)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    return model, map_onto(model, make_cells()[1], options), before


@pytest.fixture(scope="module")
def reference() -> PLNPCA:
    """Trained reference; do not change it."""
    return train_reference("plnpca")[0]


def test_everything_old_is_bit_identical(pair):
    model, mapped, before = pair
    growth, moved = mapped._growth, 0
    for name, value in mapped.module.state_dict().items():
        if name in model.module.by_cell or name.startswith("expression_"):  # which are kept once they are needed
            continue
        assert torch.equal(model.module.state_dict()[name], before[name])
        if name in growth.dims:
            dim = growth.dims[name]
            new, _ = growth.positions(name, value.shape[dim])
            old = torch.from_numpy(np.setdiff1d(np.arange(value.shape[dim]), new))
            moved += int(value.index_select(dim, torch.from_numpy(new)).abs().sum() > 0)
            value = value.index_select(dim, old)
        assert torch.equal(value, before[name]), name
    assert moved


def test_cells_of_the_reference_are_where_they_were(pair):
    model, mapped, _ = pair
    cells = make_cells()[0]
    expected, found = model.get_posterior(cells), mapped.get_posterior(cells)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-5)
    np.testing.assert_allclose(
        mapped.get_normalized_expression(cells, return_numpy=True),
        model.get_normalized_expression(cells, return_numpy=True),
        rtol=1e-4,
    )


def test_new_coefficients_raise_the_bound(pair):
    model, mapped, _ = pair
    _, query = make_cells()
    as_known = query.copy()
    as_known.obs["batch"] = model.adata.obs["batch"].iloc[0]
    assert mapped.get_elbo() > model.get_elbo(as_known)


def test_mapped_model_has_all_methods(pair):
    model, mapped, _ = pair
    n, p = mapped.adata.shape
    mapped.annotate(key_added="mapped")
    q = model.get_latent_representation(indices=[0]).shape[1]
    assert mapped.adata.obsm["X_mapped"].shape == (n, q)
    batch = model.adata.obs["batch"].iloc[0]
    assert mapped.get_normalized_expression(transform_batch=batch, indices=[0, 1]).shape == (2, p)
    assert mapped.get_latent_representation(indices=[3]).shape == (1, q)
    assert mapped.new_categories == {"batch": [mapped.adata.obs["batch"].unique()[-1]]}
    assert "mapped onto a reference" in repr(mapped)
    assert "mapped onto a reference" not in repr(model)


def test_save_and_load(pair, tmp_path):
    _, mapped, _ = pair
    mapped.save(tmp_path / "mapped")
    loaded = type(mapped).load(tmp_path / "mapped", mapped.adata.copy())
    np.testing.assert_array_equal(loaded.get_latent_representation(), mapped.get_latent_representation())
    assert loaded.new_categories == mapped.new_categories
    assert loaded._growth.dims == mapped._growth.dims


@pytest.mark.parametrize("name", ["plnpca", "pln", "vae"])
def test_reference_may_be_a_directory_and_training_is_reproducible(name, tmp_path):
    model, options = train_reference(name)
    model.save(tmp_path / "reference")
    first = map_onto(model, make_cells()[1], options)
    second = type(model).load_query_data(make_cells()[1], tmp_path / "reference")
    assert not second.is_trained_
    for _ in range(2):  # training again starts anew
        second.train(progress=False, **options)
        np.testing.assert_array_equal(second.get_latent_representation(), first.get_latent_representation())


@pytest.mark.parametrize("name", MODELS)
def test_cells_of_known_batches_need_no_training(name):
    model, _ = train_reference(name)
    _, query = make_cells()
    known = query[query.obs["batch"].isin(model.adata.obs["batch"])].copy()
    mapped = type(model).load_query_data(known, model)
    assert mapped.is_trained_
    assert mapped.stop_reason.startswith("nothing to train")
    np.testing.assert_allclose(mapped.get_latent_representation(), model.get_latent_representation(known), atol=1e-5)


@pytest.mark.parametrize("flow", FLOWS)
def test_flows_grow_without_a_change(flow):
    reference, query = make_cells()
    setup_anndata(reference, batch_key="batch", categorical_covariate_keys=["donor"])
    model = PLNPCA(reference, n_latent=2, posterior="flow", flow=flow, n_transforms=2, flow_hidden=[4])
    model.train(max_epochs=3, n_steps=5, progress=False)
    mapped = PLNPCA.load_query_data(query, model)
    mapped.is_trained_ = True
    found, expected = mapped.get_posterior(reference), model.get_posterior(reference.copy())
    np.testing.assert_allclose(found.sample(3, seed=0), expected.sample(3, seed=0), atol=1e-6)


@pytest.mark.parametrize("kind", [{"posterior": "flow", "flow": "nsf"}, {"posterior": "flow", "amortized": True}])
def test_models_of_modalities_grow_without_a_change(kind):
    options = {"n_latent": 2, "n_batches": 3, "missing": {"rna": 0.1, "prot": 0.3}}
    mdata = scpln.datasets.simulate_multimodal(120, {"rna": 20, "prot": 8}, density={"prot": 0.9}, **options)
    is_query = (mdata.obs["batch"] == mdata.obs["batch"].iloc[-1]).to_numpy()
    reference, query = mdata[~is_query].copy(), mdata[is_query].copy()
    setup_mudata(reference, modalities=["rna", "prot"], batch_key="batch")
    model = PLNPCA(reference, n_latent=2, n_transforms=2, flow_hidden=[4], **kind)
    model.train(max_epochs=5, n_steps=20, learning_rate=0.05, progress=False)
    mapped = map_onto(model, query, {"n_steps": 5})
    found, expected = mapped.get_posterior(reference), model.get_posterior(reference.copy())
    np.testing.assert_allclose(found.sample(3, seed=0), expected.sample(3, seed=0), atol=1e-5)


def test_order_of_cells_and_genes_does_not_matter(reference):
    _, query = make_cells()
    order = np.random.default_rng(0).permutation(query.n_obs)
    other = query[order].copy()[:, ::-1].copy()
    a, b = (map_onto(reference, cells, {"tol": 1e-6}) for cells in (query, other))
    np.testing.assert_allclose(b.get_latent_representation(), a.get_latent_representation()[order], atol=5e-3)


def test_new_categories_of_several_keys():
    reference, query = make_cells()
    setup_anndata(reference, batch_key="batch", categorical_covariate_keys=["donor"])
    model = PLNPCA(reference, n_latent=2)
    model.train(progress=False)
    query.obs["donor"] = np.resize(["d1", "d3", "d4"], query.n_obs)
    mapped = map_onto(model, query, {})
    new = query.obs["batch"].unique()[-1]
    assert mapped.new_categories == {"batch": [new], "donor": ["d3", "d4"]}
    assert mapped.covariates[-3:] == ["donor[T.d2]", "donor[T.d3]", "donor[T.d4]"]
    old = model.covariates
    pd.testing.assert_frame_equal(mapped.get_coefficients()[old], model.get_coefficients())


def test_two_categories_that_come_together_are_warned_of():
    reference, query = make_cells()
    setup_anndata(reference, batch_key="batch", categorical_covariate_keys=["donor"])
    model = PLNPCA(reference, n_latent=2)
    model.train(max_epochs=5, progress=False)
    query = query[query.obs["batch"] == query.obs["batch"].unique()[-1]].copy()
    query.obs["donor"] = "d3"
    with pytest.warns(UserWarning, match="cannot be told apart"):
        mapped = PLNPCA.load_query_data(query, model)
    mapped.train(progress=False)
    assert np.isfinite(mapped.get_elbo())


@pytest.mark.parametrize("how", ["mapped", "loaded"])
def test_data_that_were_set_up_keep_their_registration(reference, how, tmp_path):
    _, query = make_cells()
    setup_anndata(query, categorical_covariate_keys=["donor"])
    if how == "mapped":
        other = PLNPCA.load_query_data(query, reference)
    else:
        reference.save(tmp_path / "model")
        query.obs["batch"] = "2"
        other = PLNPCA.load(tmp_path / "model", query)
    assert other.covariates[1] == "batch[T.2]"
    assert PLNPCA(query, n_latent=2).covariates == ["(Intercept)", "donor[T.d2]"]
    assert other.adata_manager.registry["setup_args"]["batch_key"] == "batch"


def test_fewer_cells_than_dimensions(reference):
    one = make_cells()[1][-1:].copy()
    mapped = map_onto(reference, one, {})
    assert mapped.get_latent_representation().shape == (1, 2)


def test_a_mapped_model_can_be_a_reference(reference):
    _, query = make_cells()
    first = map_onto(reference, query, {})
    later = query.copy()
    later.obs["batch"] = "later"
    second = map_onto(first, later, {})
    assert second.new_categories == {"batch": ["later"]}
    old = first.covariates
    pd.testing.assert_frame_equal(second.get_coefficients()[old], first.get_coefficients())


def test_labels_are_transferred():
    adata = scpln.datasets.simulate(n_obs=300, n_vars=30, n_latent=2, n_batches=3, seed=1)
    score = np.log1p(adata.X.toarray()) @ np.linalg.svd(np.log1p(adata.X.toarray()))[2][1]
    adata.obs["type"] = np.where(score > np.median(score), "high", "low")
    is_query = (adata.obs["batch"] == adata.obs["batch"].unique()[-1]).to_numpy()
    reference, query = adata[~is_query].copy(), adata[is_query].copy()
    setup_anndata(reference, batch_key="batch", labels_key="type")
    model = CountGMVAE(reference, n_latent=2, n_hidden=16)
    model.train(max_epochs=15, progress=False)
    truth = query.obs.pop("type").to_numpy()
    mapped = map_onto(model, query, {"max_epochs": 10})
    assert set(mapped.predict()) <= {"high", "low"}
    assert (mapped.predict() == truth).mean() > 0.7
    assert mapped.label_names == model.label_names


def test_what_is_refused(reference):
    _, query = make_cells()
    with pytest.raises(TypeError, match=r"scpln.model.PLNPCA.load_query_data"):
        CountVAE.load_query_data(query, reference)
    with pytest.raises(TypeError, match="must be a PLNPCA"):
        PLNPCA.load_query_data(query, None)
    untrained, _ = make_cells()
    setup_anndata(untrained, batch_key="batch")
    with pytest.raises(RuntimeError, match="call train"):
        PLNPCA.load_query_data(query, PLNPCA(untrained, n_latent=2))
    with pytest.raises(ValueError, match="is missing"):
        nothing = query.copy()
        nothing.obs["batch"] = nothing.obs["batch"].astype(object).where(np.arange(query.n_obs) > 2)
        PLNPCA.load_query_data(nothing, reference)
    with pytest.raises(ValueError, match="no column 'batch'"):
        PLNPCA.load_query_data(anndata.AnnData(query.X, var=query.var), reference)
    with pytest.raises(ValueError, match="load_query_data"):
        reference.get_elbo(query)


def test_genes_are_prepared(reference):
    _, query = make_cells()
    genes = PLNPCA.prepare_query_anndata(query, reference, return_reference_var_names=True)
    assert list(genes) == reference.genes
    query = query[:, ::-1].copy()
    assert PLNPCA.prepare_query_anndata(query, reference) is None
    assert list(query.var_names) == reference.genes
    fewer = query[:, 3:].copy()
    with pytest.raises(ValueError, match=r"3 of the reference's 20 genes \(15.0 %\) are missing"):
        PLNPCA.prepare_query_anndata(fewer, reference)
    with pytest.warns(UserWarning, match="filled with zeros"):
        filled = PLNPCA.prepare_query_anndata(fewer, reference, inplace=False, fill_missing=True)
    assert filled[:, reference.genes[:3]].X.sum() == 0
    assert (filled[:, reference.genes[3:]].X != query[:, reference.genes[3:]].X).nnz == 0
    assert list(filled.obs.columns) == list(query.obs.columns)
    assert fewer.n_vars == 17
    mapped = map_onto(reference, filled, {})
    assert np.isfinite(mapped.get_coefficients()).all(axis=None)


def test_genes_of_modalities_are_prepared(tmp_path):
    with set_options(pull_on_update=False):
        mdata = scpln.datasets.simulate_multimodal(60, {"rna": 12, "prot": 5}, density={"prot": 0.9}, seed=0)
        setup_mudata(mdata, modalities=["rna", "prot"])
        model = PLNPCA(mdata, n_latent=2)
        model.train(progress=False, max_epochs=5)
        rna = mdata["rna"][:, ::-1][:, :10].copy()
        query = MuData({"rna": rna, "prot": mdata["prot"][:, ::-1].copy(), "extra": rna[:, :2].copy()})
        query.mod["extra"].var_names = ["x", "y"]
        query.update()
        query.obs["mine"] = np.arange(60)
    genes = PLNPCA.prepare_query_anndata(query, model, return_reference_var_names=True)
    assert list(genes) == model.genes
    with pytest.raises(
        ValueError, match=r"2 of the reference's 12 genes \(16.7 %\) are missing from mdata\['rna'\].var_names"
    ):
        PLNPCA.prepare_query_anndata(query, model)
    assert query["prot"].var_names.to_list() == model.genes[12:][::-1], "nothing was changed"
    with pytest.warns(UserWarning, match=r"missing from mdata\['rna'\].var_names and filled with zeros"):
        filled = PLNPCA.prepare_query_anndata(query, model, inplace=False, fill_missing=True)
    assert [*filled["rna"].var_names, *filled["prot"].var_names] == model.genes
    assert sorted(filled.var_names) == sorted([*model.genes, "x", "y"])
    assert filled.obs["mine"].to_list() == list(range(60))
    assert query["rna"].n_vars == 10
    assert np.isfinite(model.get_elbo(filled))
    with set_options(pull_on_update=False):
        alone = MuData({"prot": query["prot"].copy()})
    assert PLNPCA.prepare_query_anndata(alone, model) is None
    assert alone["prot"].var_names.to_list() == model.genes[12:]
    np.testing.assert_array_equal(alone["prot"].X.toarray(), mdata["prot"].X.toarray())
    with pytest.raises(TypeError, match="must be a MuData, and this is an AnnData"):
        PLNPCA.prepare_query_anndata(rna, model)


@pytest.mark.parametrize("name", ["plnpca", "amortized", "vae"])
def test_what_mapping_goes_by_is_saved_with_the_model(name, tmp_path):
    """Also with one that was mapped and not trained, or onto which others are mapped."""
    model, options = train_reference(name)
    query = make_cells()[1]
    direct = map_onto(model, query.copy(), options)
    type(model).load_query_data(query, model).save(tmp_path / "mapped")
    loaded = type(model).load(tmp_path / "mapped", query.copy())
    loaded.train(progress=False, **options)
    np.testing.assert_array_equal(loaded.get_latent_representation(), direct.get_latent_representation())
    assert loaded._kept_states() == direct._kept_states()
    assert model._kept_states()["density"] == direct._kept_states()["density"]


def make_types():
    """Cells of four types and two batches."""
    rng, p = np.random.default_rng(0), 60
    kind, batch = rng.integers(0, 4, 500), rng.integers(0, 2, 500)
    rates = rng.normal(1, 0.4, p) + rng.normal(0, 0.8, (4, p))[kind] + np.outer(batch, rng.normal(0, 0.3, p))
    obs = pd.DataFrame({"batch": batch.astype(str), "kind": kind.astype(str)}, index=[f"c{i}" for i in range(500)])
    return anndata.AnnData(rng.poisson(np.exp(rates)).astype(np.float32), obs)


@pytest.mark.parametrize(("model_class", "more"), [(PLNPCA, {}), (CountVAE, {"max_epochs": 10})])
def test_a_query_of_one_cell_type_keeps_it(model_class, more):
    adata = make_types()
    reference = adata[adata.obs["batch"] == "0"].copy()
    query = adata[(adata.obs["batch"] == "1") & (adata.obs["kind"] == "2")].copy()
    setup_anndata(reference, batch_key="batch")
    model = model_class(reference, n_latent=3)
    model.train(progress=False, **more)
    mapped = map_onto(model, query, more)
    states, of_query = model.get_latent_representation(), mapped.get_latent_representation()
    nearest = ((of_query[:, None] - states) ** 2).sum(2).argmin(1)
    assert (reference.obs["kind"].to_numpy()[nearest] == "2").mean() > 0.95


def test_says_if_coefficients_cannot_be_told_from_composition():
    adata = make_types()
    reference = adata[adata.obs["batch"] == "0"].copy()
    setup_anndata(reference, batch_key="batch")
    model = PLNPCA(reference, n_latent=3)
    model.train(progress=False)
    query = adata[(adata.obs["batch"] == "1") & (adata.obs["kind"] == "2")].copy()
    moved = query.copy()
    outwards = 1.2 * model.get_latent_representation()[reference.obs["kind"] == "2"].mean(0)
    moved.X = np.random.default_rng(0).poisson(query.X * np.exp(model.get_loadings().to_numpy() @ outwards))
    with pytest.warns(UserWarning, match="cannot be told from the composition"):
        map_onto(model, moved, {})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*composition.*")
        map_onto(model, adata[adata.obs["batch"] == "1"].copy(), {})
