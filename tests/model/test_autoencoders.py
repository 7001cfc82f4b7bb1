"""Properties that both autoencoders obey, and what each has of its own."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score

from scpln.datasets import simulate
from scpln.model import PLNPCA, CountGMVAE, CountVAE, CountVQVAE, setup_anndata
from scpln.model.autoencoder import _epochs
from scpln.train.epochs import split_cells

SMALL = {"n_latent": 2, "n_hidden": 16}
KINDS = {
    "VAE": (CountVAE, {}),
    "VAE with a flow": (CountVAE, {"posterior": "flow"}),
    "linear VAE": (CountVAE, {"n_layers": 0, "posterior": "meanfield"}),
    "shares": (CountVAE, {"likelihood": "poisson", "scale_activation": "softmax"}),
    "shares, nb": (CountVAE, {"scale_activation": "softmax"}),
    "GMVAE": (CountGMVAE, {"n_components": 3}),
    "GMVAE by component": (CountGMVAE, {"n_components": 3, "component_posteriors": True}),
}


def make_adata(n_obs=240, n_vars=30, **arguments):
    adata = simulate(n_obs=n_obs, n_vars=n_vars, n_latent=2, seed=0, **arguments)
    adata.obs["batch"] = np.where(np.arange(n_obs) % 3 == 0, "a", "b")
    return adata


@pytest.fixture(scope="module", params=KINDS, ids=KINDS)
def trained(request):
    adata = make_adata()
    setup_anndata(adata, batch_key="batch")
    model_class, arguments = KINDS[request.param]
    model = model_class(adata, **SMALL, **arguments)
    model.train(max_epochs=6, start="plnpca" if request.param == "GMVAE" else "random", progress=False)
    return model


def test_what_it_gives_has_the_right_shapes(trained):
    n, p = trained.adata.shape
    assert trained.get_latent_representation().shape == (n, 2)
    assert trained.get_elbo(return_mean=False).shape == (n,)
    assert trained.get_normalized_expression(n_samples=2, gene_list=trained.genes[:3]).shape == (n, 3)
    assert trained.get_normalized_expression(transform_batch=["a", "b"], n_samples=2).shape == (n, p)
    assert trained.posterior_predictive_sample(n_samples=2).shape == (n, p, 2)
    assert "elbo" in trained.get_posterior_diagnostics(indices=[0, 5], n_samples=30)
    assert set(trained.history) >= {"elbo_train", "elbo_validation", "kl_weight"}
    assert trained.stop_reason.startswith("6 epochs")
    split = np.concatenate([trained.train_indices, trained.validation_indices])
    np.testing.assert_array_equal(np.sort(split), np.arange(n))


def test_bounds_do_not_depend_on_blocks_or_other_cells(trained):
    n = trained.adata.n_obs
    values = trained.get_elbo(return_mean=False)
    np.testing.assert_allclose(trained.get_elbo(return_mean=False, batch_size=7), values, atol=1e-3)
    order = np.random.default_rng(0).permutation(n)
    np.testing.assert_allclose(trained.get_elbo(indices=order, return_mean=False), values[order], atol=1e-3)
    some = trained.get_iw_bound(indices=[3, 50], n_samples=50, return_mean=False)
    np.testing.assert_allclose(some, trained.get_iw_bound(n_samples=50, return_mean=False)[[3, 50]], atol=1e-3)


def test_importance_samples_raise_the_bound(trained):
    bounds = [trained.get_iw_bound(n_samples=k) for k in (1, 10, 100, 1000)]
    assert bounds == sorted(bounds)
    assert bounds[-1] > trained.get_elbo()


def test_saving_and_loading_give_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = type(trained).load(tmp_path / "model", trained.adata)
    np.testing.assert_array_equal(loaded.get_elbo(return_mean=False), trained.get_elbo(return_mean=False))
    np.testing.assert_array_equal(loaded.get_latent_representation(), trained.get_latent_representation())
    assert repr(loaded) == repr(trained)


def test_new_cells_in_any_order_of_genes(trained):
    other = trained.adata[:20, ::-1].copy()
    values = trained.get_elbo(other, return_mean=False)
    np.testing.assert_allclose(values, trained.get_elbo(indices=np.arange(20), return_mean=False), atol=1e-3)


def test_annotations_survive_a_file(trained, tmp_path):
    adata = trained.adata.copy()
    trained.annotate(adata, diagnostics=False)
    key = type(trained).__name__.lower()
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    assert read.obsm[f"X_{key}"].shape == (adata.n_obs, 2)
    np.testing.assert_allclose(read.obs[f"{key}_elbo"], trained.get_elbo(return_mean=False))
    assert read.uns[key]["model"] == type(trained).__name__
    assert len(read.uns[key]["history"]["elbo_validation"]) == 6
    if isinstance(trained, CountGMVAE):
        assert (read.obs[f"{key}_cluster"].astype(str) == trained.predict()).all()
        np.testing.assert_allclose(read.obsm[f"{key}_cluster_probs"].sum(1), 1, rtol=1e-5)


def test_covariates_may_have_any_scale():
    adata = make_adata()
    adata.obs["age"] = np.random.default_rng(0).normal(50, 15, adata.n_obs)
    adata.obs["days"] = 365 * adata.obs["age"] + 1000
    bounds = []
    for key in ("age", "days"):
        setup_anndata(adata, continuous_covariate_keys=[key])
        model = CountVAE(adata, **SMALL)
        model.train(max_epochs=3, start="random", progress=False)
        bounds.append(model.get_elbo())
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-2)


def test_draws_share_no_random_numbers_with_latent_states():
    adata = make_adata(30, 5)
    adata.X = adata.X.toarray().astype(float) + 0.5
    setup_anndata(adata, is_count_data=False)
    model = CountVAE(adata, n_latent=1, n_hidden=4, likelihood="gaussian")
    model.train(max_epochs=1, start="random", progress=False)
    drawn, states = [], []
    for seed in range(100):
        drawn.append(model.posterior_predictive_sample(indices=[0], seed=seed).todense()[0, 0])
        states.append(model.get_posterior(indices=[0]).sample(1, seed=seed)[0, 0, 0])
    assert abs(np.corrcoef(drawn, states)[0, 1]) < 0.4


def test_the_seed_decides(trained):
    adata = make_adata()
    setup_anndata(adata, batch_key="batch")
    arguments = {name: value for name, value in trained.init_params_["non_kwargs"].items() if name != "registry"}
    models = [type(trained)(adata, **arguments) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        model.train(max_epochs=2, seed=seed, start="random", progress=False)
    one, same, other = (model.get_latent_representation() for model in models)
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_refining_raises_the_bound(trained):
    if getattr(trained, "component_posteriors", False):
        with pytest.raises(ValueError, match="refine moves one Gaussian of each cell"):
            trained.get_elbo(refine=5)
        return
    assert trained.get_elbo(indices=np.arange(40), refine=100) > trained.get_elbo(indices=np.arange(40))


def test_a_linear_decoder_is_plnpca_with_an_encoder():
    """Without their penalties the two models are one: trained on the same cells, their bounds and states agree."""
    adata = make_adata(500, 40)
    setup_anndata(adata, batch_key="batch")
    pca = PLNPCA(adata, n_latent=2, amortized=True, encoder_hidden=[64], prior="none")
    pca.train(n_steps=800, progress=False)
    vae = CountVAE(adata, n_latent=2, n_layers=0, n_hidden=64, likelihood="poisson")
    vae.train(max_epochs=1200, validation_size=0, batch_size=500, weight_decay=0.0, learning_rate=1e-2, progress=False)
    assert vae.get_iw_bound(n_samples=200) == pytest.approx(pca.get_iw_bound(n_samples=200), abs=0.03)
    ours, theirs = vae.get_latent_representation(), pca.get_latent_representation()
    known = np.column_stack([ours, np.ones(len(ours))])
    predicted = known @ np.linalg.lstsq(known, theirs, rcond=None)[0]
    assert ((theirs - predicted).var(0) < 0.1 * theirs.var(0)).all()


def test_the_bound_is_conditional_on_size_factors_or_not():
    adata = make_adata()
    setup_anndata(adata)
    model = CountVAE(adata, **SMALL, size_factors=False)
    model.train(max_epochs=2, start="random", progress=False)
    scaled = adata.copy()
    scaled.obs["size"] = 2.0
    assert (model._read(None).data.offsets == 0).all()
    assert np.isfinite(model.get_elbo())


@pytest.mark.parametrize("dispersion", ["gene", "gene-batch", "gene-cell"])
@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
def test_dispersion(dispersion, likelihood):
    adata = make_adata()
    setup_anndata(adata, batch_key="batch")
    model = CountVAE(adata, **SMALL, likelihood=likelihood, dispersion=dispersion)
    model.train(max_epochs=3, start="random", progress=False)
    assert np.isfinite(model.get_elbo())
    assert model.posterior_predictive_sample(transform_batch="b").shape == adata.shape
    moved = [name for name in model.module.state_dict() if "by_batch" in name or "by_cell" in name]
    assert len(moved) == (0 if dispersion == "gene" else 1 if likelihood == "nb" else 2)
    for name in moved:
        assert model.module.state_dict()[name].abs().max() > 0


def test_batch_dispersion_finds_what_differs():
    rng = np.random.default_rng(0)
    theta = np.where(np.arange(600)[:, None] < 300, 0.3, 30.0)
    adata = make_adata(600, 20)
    adata.X = sp.csr_matrix(rng.negative_binomial(theta, theta / (theta + 5.0), (600, 20)).astype(np.float32))
    adata.obs["batch"] = np.where(np.arange(600) < 300, "noisy", "quiet")
    setup_anndata(adata, batch_key="batch")
    model = CountVAE(adata, n_latent=1, n_hidden=8, dispersion="gene-batch")
    model.train(max_epochs=60, progress=False)
    noisy, quiet = model.module.generative.decoder.by_batch["log_inverse_dispersion"].numpy()
    assert np.median(quiet - noisy) > 2


def test_counts_in_categories():
    adata = make_adata()
    setup_anndata(adata)
    model = CountVAE(adata, **SMALL, k_max=3)
    model.train(max_epochs=5, progress=False)
    assert np.isfinite(model.get_elbo())
    drawn = model.posterior_predictive_sample().todense()
    assert drawn.mean() == pytest.approx(adata.X.mean(), rel=0.3)
    rates = model.get_normalized_expression(library_size="latent", return_numpy=True)
    assert rates.mean() == pytest.approx(adata.X.mean(), rel=0.3)
    genes = [model.genes[3], model.genes[0]]
    some = model.get_normalized_expression(library_size="latent", gene_list=genes, return_numpy=True)
    np.testing.assert_allclose(some, rates[:, [3, 0]], rtol=1e-5)


class TestMixture:
    """Clusters."""

    @pytest.fixture(scope="class")
    def adata(self):
        rng = np.random.default_rng(0)
        classes = np.repeat(np.arange(4), 100)
        rates = np.exp(rng.normal(0.5, 0.8, (4, 40)))
        adata = make_adata(400, 40)
        adata.X = sp.csr_matrix(rng.poisson(rates[classes]).astype(np.float32))
        adata.obs["class"] = [f"class {k}" for k in classes]
        adata.obs["label"] = pd.Series(adata.obs["class"].where(rng.random(400) < 0.2), dtype="object")
        return adata

    @pytest.fixture(scope="class")
    def model(self, adata):
        setup_anndata(adata)
        model = CountGMVAE(adata, n_components=4, n_latent=3, n_hidden=32)
        model.train(max_epochs=30, progress=False)
        return model

    def test_clusters_are_found(self, model, adata):
        assert adjusted_rand_score(adata.obs["class"], model.predict()) > 0.95
        assert model.get_n_effective_clusters() == pytest.approx(4, abs=0.1)
        summary = model.get_cluster_summary()
        assert summary["n_cells"].sum() == adata.n_obs
        np.testing.assert_allclose(summary[["mean_probability", "weight"]].sum(), 1, rtol=1e-5)

    def test_the_number_of_components_is_found(self, adata):
        setup_anndata(adata)
        model = CountGMVAE(adata, n_latent=3, n_hidden=32)
        model.train(max_epochs=10, progress=False)
        assert 4 <= model.training_["n_components"] <= 5
        assert adjusted_rand_score(adata.obs["class"], model.predict()) > 0.9

    def test_a_model_that_chose_its_components_is_saved(self, adata, tmp_path):
        setup_anndata(adata)
        model = CountGMVAE(adata, n_latent=3, n_hidden=32)
        model.train(max_epochs=1, progress=False)
        model.save(tmp_path / "model")
        loaded = CountGMVAE.load(tmp_path / "model", adata)
        assert (loaded.predict() == model.predict()).all()

    def test_labels_name_components_and_are_transferred(self, adata):
        setup_anndata(adata, labels_key="label")
        model = CountGMVAE(adata, n_latent=3, n_hidden=32)
        model.train(max_epochs=20, progress=False)
        assert model.component_names == [f"class {k}" for k in range(4)]
        unlabelled = adata.obs["label"].isna().to_numpy()
        assert (model.predict()[unlabelled] == adata.obs["class"][unlabelled]).mean() > 0.95
        new = adata[:50].copy()
        del new.obs["label"]
        assert (model.predict(new) == adata.obs["class"][:50]).mean() > 0.95

    def test_cells_of_an_unknown_type_are_refused(self, adata, tmp_path):
        """And about the share that is asked for of those of known types."""
        known = adata[adata.obs["class"] != "class 3"].copy()
        reference, held_out = known[::2].copy(), known[1::2].copy()
        setup_anndata(reference, labels_key="class")
        model = CountGMVAE(reference, n_latent=3, n_hidden=32)
        model.train(max_epochs=30, progress=False)
        unseen = adata[adata.obs["class"] == "class 3"].copy()
        model.save(tmp_path / "model")
        loaded = CountGMVAE.load(tmp_path / "model", adata=False)
        for each in (model, loaded):
            refused = each.predict(held_out, reject=0.05) == "unknown"
            assert 0 < refused.mean() < 0.15
            assert (each.predict(held_out)[~refused] == each.predict(held_out, reject=0.05)[~refused]).all()
            assert (each.predict(unseen, reject=0.05) == "unknown").mean() > 0.5
        assert not (model.predict(held_out, reject=0) == "unknown").all()
        with pytest.raises(ValueError, match="reject=2, but it must be from 0 to 1"):
            model.predict(reject=2)
        loaded.states_ = {}
        with pytest.raises(RuntimeError, match="an earlier version trained it"):
            loaded.predict(unseen, reject=0.05)

    def test_more_components_than_labels(self, adata):
        partial = adata.copy()
        partial.obs["label"] = partial.obs["label"].where(partial.obs["label"].isin(["class 0", "class 1"]))
        setup_anndata(partial, labels_key="label")
        model = CountGMVAE(partial, n_components=4, n_latent=3, n_hidden=32)
        model.train(max_epochs=20, progress=False)
        assert model.component_names == ["class 0", "class 1", "component 2", "component 3"]
        assert (
            model.prior_predictive_sample(2, component=2).shape
            == model.prior_predictive_sample(2, component="component 2").shape
        )
        assert adjusted_rand_score(adata.obs["class"], model.predict()) > 0.9

    def test_draws_come_from_their_component(self, model, adata):
        counts, z = model.prior_predictive_sample(2000, component=model.component_names[0], return_latent=True)
        assert counts.shape == (2000, 40)
        parameters = model.get_component_parameters()
        error = np.sqrt(np.diag(parameters["covariances"][0]) / 2000)
        assert (np.abs(z.mean(0) - parameters["means"][0]) < 5 * error).all()
        own = adata.X.toarray()[model.predict() == model.component_names[0]].mean(0)
        assert np.corrcoef(np.log(counts.mean(0) + 0.1), np.log(own + 0.1))[0, 1] > 0.95
        assert model.prior_predictive_sample(3).shape == (3, 40)

    def test_probabilities_do_not_depend_on_other_cells(self, model):
        together = model.get_cluster_probabilities().to_numpy()
        np.testing.assert_allclose(model.get_cluster_probabilities(indices=[7, 300]), together[[7, 300]], atol=1e-5)

    def test_labels_that_are_numbers(self, adata):
        numbered = adata.copy()
        numbered.obs["label"] = pd.Categorical(np.where(np.arange(400) < 100, 1, 2)).astype("category")
        setup_anndata(numbered, labels_key="label")
        model = CountGMVAE(numbered, n_components=np.int64(4), n_latent=np.int64(3), n_hidden=8)
        model.train(max_epochs=1, progress=False)
        assert model.component_names == ["1", "2", "component 2", "component 3"]
        model.annotate(numbered, diagnostics=False)

    def test_parameters_of_components(self, model):
        parameters = model.get_component_parameters()
        assert parameters["weights"].sum() == pytest.approx(1)
        assert parameters["means"].shape == (4, 3)
        assert (np.linalg.eigvalsh(parameters["covariances"]) > 0).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_components": 0}, "at least 1"),
            ({"n_components": 2, "weights": [0.5, 0.6]}, "add up to 1"),
            ({"weights": [0.5, 0.5]}, "one number above 0 for each of the components"),
            ({"covariance": "tied"}, "covariance='tied' is not available"),
        ],
    )
    def test_bad_arguments(self, adata, arguments, message):
        setup_anndata(adata)
        with pytest.raises(ValueError, match=message):
            CountGMVAE(adata, **arguments)

    def test_fewer_components_than_labels(self, adata):
        setup_anndata(adata, labels_key="label")
        with pytest.raises(ValueError, match="each of the 4 labels in labels_key needs a component"):
            CountGMVAE(adata, n_components=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_size": 1.5}, "validation_size=1.5, but it must be from 0 to 0.9"),
        ({"kl_warmup": 2}, "kl_warmup=2, but it must be from 0 to 1"),
        ({"free_bits": -1}, "free_bits=-1, but it must be at least 0"),
        ({"weight_decay": -1}, "weight_decay=-1, but it must be at least 0"),
        ({"learning_rate": 0}, "learning_rate=0, but it must be greater than 0"),
        ({"n_samples": 0}, "n_samples=0"),
        ({"patience": 0}, "patience=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"start": "pca"}, "start='pca' is not available"),
        ({"accelerator": "gpu"}, "accelerator='gpu'.* cannot be used here"),
    ],
)
def test_bad_arguments_of_train(arguments, message):
    if "accelerator" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    adata = make_adata(20, 5)
    setup_anndata(adata)
    model = CountVAE(adata, **SMALL)
    with pytest.raises(ValueError, match=message):
        model.train(**{"start": "random", "progress": False, **arguments})
    assert not model.is_trained_


def test_training_goes_on_from_a_checkpoint(tmp_path):
    adata = make_adata(60, 12)
    setup_anndata(adata)

    def fitted(directory, *, max_epochs=6, **arguments):
        model = CountVAE(adata, **{**SMALL, **arguments})
        model.train(max_epochs, batch_size=32, checkpoint_dir=directory, resume=True, progress=False)
        return model

    whole, again = fitted(tmp_path / "one"), fitted(tmp_path / "one")
    np.testing.assert_array_equal(again.get_elbo(return_mean=False), whole.get_elbo(return_mean=False))
    with pytest.raises(ValueError, match="checkpoint of another training"):
        fitted(tmp_path / "one", n_hidden=8)
    (tmp_path / "one" / "last.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="is a damaged checkpoint"):
        fitted(tmp_path / "one")


def test_a_checkpoint_of_another_mixture_is_refused(tmp_path):
    adata = make_adata(60, 12)
    setup_anndata(adata)
    options = {"batch_size": 32, "checkpoint_dir": tmp_path, "resume": True, "start": "random", "progress": False}
    CountGMVAE(adata, n_components=2, **SMALL).train(2, **options)
    for changes in ({"n_components": 3}, {"weights": "uniform"}, {"covariance": "diagonal"}):
        with pytest.raises(ValueError, match="checkpoint of another training"):
            CountGMVAE(adata, **{"n_components": 2, **SMALL, **changes}).train(2, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"likelihood": "poisson", "dispersion": "gene-cell"}, "likelihood='poisson' has none"),
        ({"dispersion": "gene-batch"}, "needs batches"),
        ({"scale_activation": "softmax", "size_factors": False}, "Leave out size_factors=False"),
        ({"scale_activation": "softplus"}, r"scale_activation='softplus' is not available; choose from \['exp'"),
        ({"likelihood": "gaussian", "scale_activation": "softmax"}, "is for real values. Leave it out"),
        ({"likelihood": "negbin"}, "likelihood='negbin' is not available"),
        ({"likelihood": "gaussian"}, "is for real-valued data, and these are registered as counts"),
        ({"dispersion": "cell"}, "dispersion='cell' is not available"),
        ({"posterior": "gaussian"}, "posterior='gaussian' is not available"),
        ({"flow": "nsf"}, "flow='nsf' needs posterior='flow'"),
        ({"n_layers": -1}, "n_layers=-1"),
        ({"dropout_rate": 1.0}, "dropout_rate=1.0"),
        ({"encoder_hidden": []}, "encoder_hidden"),
    ],
)
def test_bad_arguments(arguments, message):
    adata = make_adata(20, 5)
    setup_anndata(adata)
    with pytest.raises(ValueError, match=message):
        CountVAE(adata, **arguments)


class TestEdges:
    """Data at the edge of what makes sense: a defined result, never NaN."""

    @pytest.fixture(params=[CountVAE, CountGMVAE])
    def model_class(self, request):
        return request.param

    def fitted(self, model_class, adata, *, batch_size=64, start="random", **arguments):
        setup_anndata(adata, **arguments)
        extra = {"n_components": 2} if model_class is CountGMVAE else {}
        model = model_class(adata, **SMALL, **extra)
        model.train(max_epochs=3, batch_size=batch_size, start=start, progress=False)
        assert np.isfinite(model.get_elbo(return_mean=False)).all()
        assert np.isfinite(model.get_latent_representation()).all()
        assert model.training_["n_skipped"] == 0
        return model

    @pytest.mark.filterwarnings("ignore:.*no counts")
    def test_cells_and_genes_without_counts(self, model_class):
        adata = make_adata(60, 12)
        counts = adata.X.toarray()
        counts[:5], counts[:, 3] = 0, 0
        adata.X = sp.csr_matrix(counts)
        self.fitted(model_class, adata, start="plnpca")

    def test_a_gene_that_no_training_cell_has(self, model_class):
        """Seen in one cell, which is held out of training."""
        adata = make_adata(60, 12)
        setup_anndata(adata)
        counts = adata.X.toarray()
        counts[:, 0] = 0
        model = CountVAE(adata, **SMALL)
        model.train(max_epochs=1, start="random", progress=False)
        counts[model.validation_indices[0], 0] = 40
        adata.X = sp.csr_matrix(counts)
        self.fitted(model_class, adata)

    def test_batches_of_one_cell(self, model_class):
        adata = make_adata(40, 12)
        adata.obs["batch"] = ["alone", *["rest"] * 39]
        self.fitted(model_class, adata, batch_key="batch")

    def test_minibatches_of_one_cell(self, model_class):
        self.fitted(model_class, make_adata(25, 12), batch_size=1)

    def test_counts_of_a_million(self, model_class):
        adata = make_adata(60, 12)
        counts = adata.X.toarray()
        counts[::7, ::5] = 1_000_000
        adata.X = sp.csr_matrix(counts)
        self.fitted(model_class, adata)

    @pytest.mark.parametrize("n_obs", [1, 2, 5])
    def test_few_cells(self, model_class, n_obs):
        self.fitted(model_class, make_adata(40, 12)[:n_obs].copy(), start="plnpca")

    def test_one_gene(self, model_class):
        self.fitted(model_class, make_adata(40, 12)[:, :1].copy(), start="plnpca")

    def test_more_components_than_cells(self):
        adata = make_adata(6, 12)
        setup_anndata(adata)
        model = CountGMVAE(adata, n_components=10, **SMALL)
        model.train(max_epochs=3, progress=False)
        assert model.get_cluster_probabilities().shape == (6, 10)
        assert np.isfinite(model.get_elbo())


def test_real_values():
    adata = make_adata(100, 12)
    adata.X = np.log1p(adata.X.toarray()) - 1
    setup_anndata(adata, is_count_data=False)
    model = CountVAE(adata, **SMALL, likelihood="gaussian")
    model.train(max_epochs=200, progress=False)
    independent = norm(adata.X.mean(0), adata.X.std(0)).logpdf(adata.X).sum(1).mean()
    assert model.get_elbo() > independent - 1


def test_training_does_not_disturb_random_numbers():
    adata = make_adata(60, 12)
    setup_anndata(adata)
    model = CountVAE(adata, **SMALL)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.train(max_epochs=1, start="random", progress=False)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("model_class", "extra"),
    [
        (CountVAE, {"n_latent": 2}),
        (CountGMVAE, {"n_latent": 2, "n_components": 2}),
        (CountVQVAE, {"n_codes": 2, "codebook_size": 3}),
    ],
)
def test_cells_that_validate_have_no_part_in_the_start(model_class, extra, monkeypatch):
    """Neither in the PLN-PCA nor in the means and the encoder: other counts of theirs give the same start."""
    starts = []

    def remember(module, *args, **kwargs):
        starts.append({key: value.clone() for key, value in module.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(_epochs, "train_by_gradients", remember)
    _, validation = split_cells(60, 0.2, seed=0)
    for factor in (1, 7):
        adata = simulate(n_obs=60, n_vars=12, n_latent=2, seed=1)
        counts = sp.csr_matrix(adata.X).toarray()
        adata.obs["size"] = counts.sum(1) + 1
        counts[validation] = counts[validation] * factor
        adata.X = counts
        setup_anndata(adata, size_factor_key="size")
        model = model_class(adata, n_hidden=4, **extra)
        with pytest.raises(KeyboardInterrupt):
            model.train(validation_size=0.2, seed=0, progress=False)
    assert all(torch.equal(starts[0][key], starts[1][key]) for key in starts[0])


@pytest.mark.parametrize("ends", [KeyboardInterrupt, RuntimeError])
def test_no_training_is_lost_with_its_summary(ends, monkeypatch):
    adata = make_adata()
    setup_anndata(adata)
    model = CountGMVAE(adata, n_components=3, **SMALL)

    def fails(*_):
        raise ends

    with monkeypatch.context() as patched:
        patched.setattr(CountGMVAE, "_training_summary", fails)
        model.train(max_epochs=2, start="random", progress=False)
    assert model.is_trained_
    assert "3 components" in repr(model)
    assert np.isfinite(model.get_elbo())
