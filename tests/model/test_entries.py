"""Models of counts with offsets of every entry, and of counts that were not all observed."""

import copy
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData, set_options

import scpln
from scpln.model import PLNPCA, CountVAE, setup_anndata, setup_mudata
from scpln.model.autoencoder._start import start_at_means

from .conftest import POSTERIORS, make_adata
from .every_model import INDEPENDENT, KINDS, OF_ENTRIES
from .every_model import make_adata as small_adata
from .every_model import train as train_kind
from .test_saved_mutations import WRONG, changed, leaves, use, write

OF_COUNTS = [kind for kind in OF_ENTRIES if KINDS[kind][1].get("likelihood") != "gaussian"]
MASKED = [kind for kind in OF_COUNTS if "k_max" not in KINDS[kind][1]]
BOTH = {"offset_key": "offset", "mask_key": "seen"}


def with_entries(adata: AnnData) -> AnnData:
    random = np.random.default_rng(0)
    adata.layers["seen"] = random.random(adata.shape) > 0.2
    adata.layers["offset"] = random.normal(1.0, 0.5, size=adata.shape)
    return adata


def fit(adata, *, posterior="fullrank", prior="learned", **keys) -> PLNPCA:
    setup_anndata(adata, **keys)
    model = PLNPCA(adata, n_latent=2, posterior=posterior, prior=prior)
    model.train(progress=False)
    return model


@cache
def trained(kind: str):
    """The model of a kind with offsets, and a mask if its likelihood takes one; do not change it."""
    return train_kind(kind, with_entries(small_adata()), **keys_of(kind))


def keys_of(kind: str) -> dict[str, str]:
    return BOTH if kind in MASKED else {"offset_key": "offset"}


@pytest.fixture
def adata() -> AnnData:
    return with_entries(make_adata())


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_equal_columns_are_size_factors(adata, posterior):
    adata.obs["depth"] = np.exp(np.random.default_rng(1).normal(2.0, 0.5, adata.n_obs))
    adata.layers["depth"] = np.repeat(np.log(adata.obs["depth"].to_numpy())[:, None], adata.n_vars, axis=1)
    expected = fit(adata, posterior=posterior, size_factor_key="depth")
    actual = fit(adata, posterior=posterior, offset_key="depth")
    assert actual.get_elbo() == pytest.approx(expected.get_elbo(), abs=1e-4)
    np.testing.assert_allclose(actual.get_coefficients(), expected.get_coefficients(), atol=5e-3)
    np.testing.assert_allclose(actual.get_loadings(), expected.get_loadings(), atol=5e-3)
    for size in (1, "latent"):
        ours, theirs = (model.get_normalized_expression(library_size=size) for model in (actual, expected))
        np.testing.assert_allclose(ours, theirs, rtol=2e-2)


def test_two_depths_are_two_modalities(adata):
    """As of fungi and bacteria of the same samples, each with a depth of its own."""
    random, halves = np.random.default_rng(1), [slice(0, 18), slice(18, 30)]
    depths = np.exp(random.normal([2.0, 5.0], 0.6, (adata.n_obs, 2)))
    adata.obsm["log depth"] = pd.DataFrame(
        np.log(np.repeat(depths, [18, 12], axis=1)), adata.obs_names, adata.var_names
    )
    with set_options(pull_on_update=False):
        parts = {name: adata[:, half].copy() for name, half in zip(("fungi", "bacteria"), halves, strict=True)}
        for part, depth in zip(parts.values(), depths.T, strict=True):
            part.obs["depth"] = depth
        mdata = MuData(parts)
        setup_mudata(mdata, modalities={name: {"size_factor_key": "depth"} for name in parts})
        expected = PLNPCA(mdata, n_latent=2, prior="none")  # a learned one is each modality's own
        expected.train(progress=False)
        actual = fit(adata, prior="none", offset_key="log depth")
        assert actual.get_elbo() == pytest.approx(expected.get_elbo(), abs=1e-4)
        np.testing.assert_allclose(actual.get_coefficients(), expected.get_coefficients(), atol=1e-2)
        np.testing.assert_allclose(actual.get_loadings(), expected.get_loadings(), atol=1e-2)
        rates = [model.get_normalized_expression(library_size="latent") for model in (actual, expected)]
        np.testing.assert_allclose(*rates, rtol=3e-2)


@pytest.mark.parametrize("kind", MASKED)
def test_what_was_not_observed_has_no_effect(kind):
    """Whatever stands there, numbers that are no counts too, the model is the same to the last bit."""
    adata = with_entries(small_adata())
    seen = adata.layers["seen"]
    adata.X = np.where(seen, adata.X.toarray(), np.nan)
    adata.layers["offset"] = adata.layers["offset"].copy()
    other, first = train_kind(kind, adata, **BOTH), trained(kind)
    np.testing.assert_array_equal(other.get_latent_representation(), first.get_latent_representation())
    np.testing.assert_array_equal(other.get_elbo(return_mean=False, seed=0), first.get_elbo(return_mean=False, seed=0))


@pytest.mark.parametrize("kind", OF_COUNTS)
def test_every_model_gives_finite_results(kind):
    """Rates and draws of entries that were not observed too."""
    model = trained(kind)
    assert np.isfinite(model.get_elbo())
    assert np.isfinite(model.get_latent_representation()).all()
    for given in ({"library_size": "latent"}, {"transform_batch": "1", "n_samples": 3}):
        assert np.isfinite(model.get_normalized_expression(**given).to_numpy()).all()
    draws = model.posterior_predictive_sample(n_samples=2, seed=0).todense()
    assert draws.shape == (*model.adata.shape, 2)
    if kind in MASKED:
        assert draws[~model.adata.layers["seen"]].any()
    found = scpln.tl.evaluate(model, n_samples=20)
    assert np.isfinite(found["elbo"])
    assert "given the offsets" in str(found)


@pytest.mark.parametrize("kind", OF_COUNTS)
def test_new_cells_and_saved_models_are_the_same(kind, tmp_path):
    """Other objects with the same cells, in another order of genes, some of the cells, and the model from a directory."""
    model, cells = trained(kind), np.array([40, 3, 3])
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", model.adata)
    for some in (model, loaded):
        everything = some.get_latent_representation(model.adata.copy())
        np.testing.assert_allclose(everything, model.get_latent_representation(), atol=5e-3)
        other = model.adata[:, ::-1].copy()
        np.testing.assert_allclose(some.get_latent_representation(other), everything, atol=2e-3)
        if kind in INDEPENDENT:
            np.testing.assert_allclose(some.get_latent_representation(other[cells]), everything[cells], atol=2e-3)
        np.testing.assert_allclose(some.get_latent_representation(other, cells), everything[cells], atol=2e-3)
    assert loaded.get_elbo(seed=0) == pytest.approx(model.get_elbo(seed=0), rel=1e-6)


@pytest.mark.parametrize(
    "kind", [kind for kind in OF_COUNTS if kind != "PLNPCA, mixture" and hasattr(KINDS[kind][0], "load_query_data")]
)
def test_cells_can_be_mapped(kind):
    """Offsets of the query are around the centre of the reference."""
    model, query = trained(kind), with_entries(small_adata(60))
    query.obs["batch"] = "new"
    query.layers["offset"] += 0.7
    mapped = type(model).load_query_data(query, model)
    mapped.train(max_epochs=2, progress=False)
    assert np.isfinite(mapped.get_latent_representation()).all()
    center = model.registry["field_registries"]["entries"]["state_registry"]["center"]
    read = mapped._read(None).data.entries.offsets
    np.testing.assert_allclose(read, query.layers["offset"] - np.array(center), atol=1e-12)


def test_a_mask_of_everything_is_none(adata):
    adata.layers["all"] = np.ones(adata.shape, bool)
    masked, plain = (fit(adata, mask_key=key) for key in ("all", None))
    assert masked.get_elbo() == pytest.approx(plain.get_elbo(), abs=1e-6)
    np.testing.assert_allclose(masked.get_loadings(), plain.get_loadings(), atol=1e-4)


def test_held_out_entries_are_predicted():
    """Log-rates of simulated counts where they were hidden, nearly as well as where they were seen."""
    adata = scpln.datasets.simulate(n_obs=400, n_vars=60, n_latent=2, density=0.7, seed=0)
    hidden = np.random.default_rng(0).random(adata.shape) < 0.2
    adata.layers["seen"] = ~hidden
    model = fit(adata, mask_key="seen", size_factor_key="size_factor")
    expected = np.log(model.get_normalized_expression(library_size="latent").to_numpy())
    truth = adata.obsm["true_latent"] @ adata.varm["true_loadings"].T + adata.varm["true_coefficients"].to_numpy().T
    truth = truth + np.log(adata.obs["size_factor"].to_numpy())[:, None]
    where_hidden, where_seen = (np.corrcoef(expected[each], truth[each])[0, 1] for each in (hidden, ~hidden))
    assert where_hidden > 0.95
    assert where_seen - where_hidden < 0.02


def test_offsets_of_real_values_are_added_to_the_mean():
    """As taken from the values beforehand, but for each gene's mean, which is an intercept."""
    adata = with_entries(make_adata())
    adata.layers["z"] = np.random.default_rng(0).normal(size=adata.shape) + adata.layers["offset"]
    adata.layers["without"] = adata.layers["z"] - adata.layers["offset"] + adata.layers["offset"].mean(0)
    models = []
    for layer, key in (("z", "offset"), ("without", None)):
        setup_anndata(adata, layer=layer, offset_key=key, is_count_data=False)
        models.append(PLNPCA(adata, n_latent=2, likelihood="gaussian"))
        models[-1].train(progress=False)
    ours, theirs = models
    assert ours.get_elbo() == pytest.approx(theirs.get_elbo(), abs=1e-6)
    np.testing.assert_allclose(ours.get_coefficients(), theirs.get_coefficients(), atol=1e-5)
    added = ours.get_normalized_expression(library_size="latent") - ours.get_normalized_expression()
    np.testing.assert_allclose(added, adata.layers["offset"] - adata.layers["offset"].mean(0), atol=1e-4)


def test_encoders_see_what_was_not_observed():
    """The same counts, of which zeros were measured or not, are other cells to them."""
    model = trained("CountVAE")
    adata = model.adata.copy()
    before = model.get_latent_representation(adata)
    gene = np.flatnonzero(adata.X[5].toarray().ravel() == 0)
    gene = gene[adata.layers["seen"][5, gene]][0]
    adata.layers["seen"][5, gene] = False
    after = model.get_latent_representation(adata)
    assert (after[5] != before[5]).any()
    np.testing.assert_allclose(np.delete(after, 5, 0), np.delete(before, 5, 0), atol=1e-6)


def test_observed_entries_alone_are_compared():
    """Raw means of differential expression, and replicated counts, by hand."""
    model = trained("PLNPCA, nb")
    adata = model.adata.copy()
    seen, counts = adata.layers["seen"], adata.X.toarray()
    table = model.differential_expression(adata, groupby="group", group1="a", silent=True)
    chosen = (adata.obs["group"] == "a").to_numpy()
    means = np.where(seen, counts, 0)[chosen].sum(0) / seen[chosen].sum(0)
    np.testing.assert_allclose(table["raw_mean1"].reindex(adata.var_names), means, rtol=1e-5)
    scpln.tl.posterior_predictive(model, adata, n_samples=20, seed=0)
    observed = np.where(seen, counts, 0).sum(0) / seen.sum(0)
    np.testing.assert_allclose(adata.var["plnpca_ppc_mean_observed"], observed, rtol=1e-12)
    np.testing.assert_allclose(adata.var["plnpca_ppc_mean_replicated"], observed, rtol=0.35, atol=0.1)


def test_genes_that_a_query_lacks_are_not_observed(adata):
    model = fit(adata, **BOTH)
    lacking = adata[:, :25].copy()
    with pytest.warns(UserWarning, match=r"5 of the reference's 30 genes .* which are not observed \(mask_key\)"):
        query = PLNPCA.prepare_query_anndata(lacking, model, inplace=False, fill_missing=True)
    cells = model._read(query)
    np.testing.assert_array_equal(cells.data.entries.observed[:, :25], adata.layers["seen"][:, :25])
    assert not cells.data.entries.observed[:, 25:].any()


def test_in_one_call(adata):
    scpln.tl.plnpca(adata, **BOTH, n_latent=2, progress=False)
    expected = fit(adata, **BOTH)
    np.testing.assert_allclose(adata.obsm["plnpca_state"], expected.get_posterior().mean, atol=1e-5)
    assert adata.uns["plnpca"]["setup"]["mask_key"] == "seen"


def test_refused(adata):
    model = fit(adata, **BOTH)
    with pytest.raises(ValueError, match="test_groups compares counts with one size factor for each cell"):
        model.test_groups(groupby="batch")
    with pytest.raises(ValueError, match="k_max gives small counts probabilities of their own"):
        CountVAE(adata, likelihood="poisson", k_max=2)


@pytest.mark.filterwarnings("ignore")
def test_damaged_registrations_are_refused_or_work(tmp_path):
    """Whatever somebody writes where a saved model speaks of entries."""
    model = trained("PLNPCA, nb")
    model.save(tmp_path, save_anndata=True)
    document = json.loads((tmp_path / "model.json").read_text())
    paths = [path for path in leaves(document["model"]) if {"entries", "offset_key", "mask_key"} & set(map(str, path))]
    assert ("registry", "field_registries", "entries", "state_registry", "center", 0) in paths
    for path in paths:
        for value in WRONG:
            write(tmp_path, changed(document, ("model", *path), value))
            use(tmp_path, model.adata.copy())
    del document["model"]["registry"]["field_registries"]["entries"]
    write(tmp_path, changed(document, ("model", "is_trained"), True))
    with pytest.raises(ValueError, match=r"damaged: registry.field_registries.entries is not what a model has there"):
        scpln.hub.load(tmp_path, model.adata.copy())


@pytest.mark.parametrize("softmax", [False, True])
def test_autoencoders_start_at_observed_entries(softmax, adata):
    """At each gene's observed counts over its observed exposures, by hand; and from there with the latent states of PLN-PCA."""
    setup_anndata(adata, **BOTH)
    model = CountVAE(adata, n_latent=2, n_hidden=8, scale_activation="softmax" if softmax else "exp")
    model.train(max_epochs=2, progress=False)
    assert np.isfinite(model.get_elbo())
    data = model._read(None).data
    module = copy.deepcopy(model.module)
    start_at_means(module, data)
    exposures = (np.exp(data.entries.offsets) * data.entries.observed).sum(0)
    counts = np.asarray(data.counts.sum(0)).ravel()
    found = module.generative.decoder.coefficients[:, 0].numpy()
    np.testing.assert_allclose(found, np.log((counts + 0.5) / exposures), rtol=1e-5, atol=1e-5)


def test_depth_can_be_left_to_the_latent_state_beside_offsets(adata):
    """Without size factors, offsets are all that is given."""
    setup_anndata(adata, size_factor_key="size_factor", **BOTH)
    model = CountVAE(adata, n_latent=2, n_hidden=8, size_factors=False)
    model.train(max_epochs=2, start="random", progress=False)
    data = model._read(None).data
    assert not data.offsets.any()
    assert data.entries.offsets.any()
    assert "given the offsets" in str(scpln.tl.evaluate(model, n_samples=5))
