"""The Poisson log-normal model in gene space: what a user does with it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scpln
from scpln.model import PLN, PLNPCA, setup_anndata

P = 8


def simulated(n_obs=120, n_vars=P, seed=0, **kwargs):
    adata = scpln.datasets.simulate(n_obs, n_vars, n_latent=3, density=0.6, n_batches=2, seed=seed, **kwargs)
    setup_anndata(adata, batch_key="batch", size_factor_key="size_factor")
    return adata


def fitted(adata, *args, **kwargs):
    model = PLN(adata, *args, **kwargs)
    model.train(progress=False)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted(simulated())


def test_it_converges_to_a_bound_that_draws_confirm(model):
    assert model.converged
    assert model.history["elbo"].to_numpy().ravel()[-1] == pytest.approx(model.get_elbo(), abs=1e-4)
    weights = np.concatenate([w for _, w in model._log_weights(model.get_posterior(), None, None, 4000, 0)], axis=1)
    assert weights.mean(0) == pytest.approx(model.get_elbo(return_mean=False), abs=0.2)
    assert weights.mean() == pytest.approx(model.get_elbo(), abs=0.01)
    assert model.get_elbo() < model.get_iw_bound(n_samples=500) < model.get_elbo() + 1
    terms = model.get_bound_terms()
    assert (terms["reconstruction"] - terms["kl"]).to_numpy() == pytest.approx(terms["elbo"].to_numpy())


def test_full_rank_is_above_mean_field_and_equal_without_covariances():
    adata = simulated()
    full, mean_field = (fitted(adata, posterior=each).get_elbo() for each in ("fullrank", "meanfield"))
    assert full > mean_field + 0.05
    apart = [fitted(adata, "diagonal", posterior=each).get_elbo() for each in ("fullrank", "meanfield")]
    assert apart[0] == pytest.approx(apart[1], abs=1e-4)
    assert full > apart[0] > fitted(adata, "spherical").get_elbo()


def test_a_covariance_of_few_dimensions_is_pln_pca():
    adata = simulated(150)
    pca = PLNPCA(adata, 3, prior="none")
    pca.train(progress=False, tol=1e-6)
    given = PLN(adata, "fixed", given=pca.get_covariance().astype(np.float32), prior_precision=0.0)
    given.train(progress=False)
    assert given.get_elbo() == pytest.approx(pca.get_elbo(), abs=2e-3)
    assert given.get_coefficients().to_numpy() == pytest.approx(pca.get_coefficients().to_numpy(), abs=0.02)


def test_estimates_are_close_to_the_truth():
    adata = simulated(3000, n_vars=6, seed=1)
    model = fitted(adata)
    assert model.get_covariance().to_numpy() == pytest.approx(adata.varp["true_covariance"], abs=0.2)
    assert model.get_coefficients().to_numpy()[:, 1:] == pytest.approx(
        adata.varm["true_coefficients"].to_numpy()[:, 1:], abs=0.2
    )


def test_new_cells_are_training_cells(model):
    copy = model.adata[:, ::-1].copy()
    assert model.get_elbo(copy, return_mean=False) == pytest.approx(model.get_elbo(return_mean=False), abs=1e-5)
    assert model.get_posterior(copy).covariance == pytest.approx(model.get_posterior().covariance, abs=1e-4)
    assert model.get_latent_representation(copy, [7, 3]) == pytest.approx(
        model.get_latent_representation()[[7, 3]], abs=1e-4
    )


def test_expression_is_its_mean_under_the_posterior(model):
    exact = model.get_normalized_expression(indices=range(10)).to_numpy()
    drawn = model.get_normalized_expression(indices=range(10), n_samples=2000, return_numpy=True)
    assert drawn == pytest.approx(exact, rel=0.3)
    moved = model.get_normalized_expression(transform_batch="1")
    there = (model.adata.obs["batch"] == "1").to_numpy()
    assert np.allclose(moved[there], model.get_normalized_expression()[there])


def test_matrices_are_of_genes(model):
    sigma, correlation, precision = model.get_covariance(), model.get_correlation(), model.get_precision()
    assert list(sigma.index) == list(sigma.columns) == model.genes
    deviation = np.sqrt(np.diag(sigma))
    assert correlation.to_numpy() == pytest.approx(sigma.to_numpy() / np.outer(deviation, deviation))
    assert sigma.to_numpy() @ precision.to_numpy() == pytest.approx(np.eye(P), abs=1e-6)
    some = model.get_precision(["gene_5", "gene_2"])
    assert some.equals(precision.loc[["gene_5", "gene_2"], ["gene_5", "gene_2"]])
    with pytest.raises(ValueError, match="genes are not in the model"):
        model.get_correlation(["nobody"])


def test_some_genes_predict_others():
    adata = simulated(800, seed=2, latent_variance=2.0)
    model = fitted(adata)
    new = simulated(400, seed=2, latent_variance=2.0)
    given = model.genes[:5]
    predicted = model.predict(new, given=given)
    changed = new.copy()
    changed.X = new.X.toarray()
    changed.X[:, 5:] = 7
    assert model.predict(changed, given=given).to_numpy() == pytest.approx(predicted.to_numpy(), rel=1e-6)
    prior = model.get_normalized_expression(new, library_size="latent")
    assert model.predict(new).to_numpy() == pytest.approx(prior.to_numpy(), rel=1e-3)
    truth = new.obsm["true_latent"] @ new.varm["true_loadings"].T
    found = np.log(predicted.to_numpy()) - np.log(new.obs["size_factor"].to_numpy())[:, None]
    for gene in range(5, P):
        assert np.corrcoef(found[:, gene], truth[:, gene])[0, 1] > 0.4
    with pytest.raises(ValueError, match="given"):
        model.predict(new, given=[])


def test_it_is_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = PLN.load(tmp_path / "model", model.adata.copy())
    assert loaded.get_elbo() == model.get_elbo()
    assert loaded.get_correlation().equals(model.get_correlation())
    alone = PLN.load(tmp_path / "model", adata=False)
    assert alone.get_posterior().covariance == pytest.approx(model.get_posterior().covariance)


def test_it_annotates(model):
    adata = model.adata.copy()
    model.annotate(adata, diagnostics=True)
    assert adata.obsm["X_pln"].shape == adata.shape
    assert adata.varp["pln_correlation"] == pytest.approx(model.get_correlation().to_numpy())
    assert adata.varm["pln_coefficients"] == pytest.approx(model.get_coefficients().to_numpy())
    assert adata.obs["pln_elbo"].mean() == pytest.approx(model.get_elbo())
    assert {"pln_iw_bound", "pln_gap", "pln_ess", "pln_pareto_k"} <= set(adata.obs)
    assert adata.uns["pln"]["training"]["n_parameters"] == 2 * P + P * (P + 1) // 2


def test_groups_can_be_compared_and_exact_posteriors_drawn(model):
    adata = model.adata
    adata.obs["half"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    assert len(model.test_groups(groupby="half", group1="a")) == P
    assert len(model.differential_expression(groupby="half", group1="a", group2="b", silent=True)) == P
    draws = model.sample_exact_posterior(indices=[3], n_samples=200, n_warmup=100, seed=1)
    assert draws.mean(0) == pytest.approx(model.get_posterior(indices=[3]).mean, abs=0.4)
    counts = model.prior_predictive_sample(3000, seed=1)
    assert np.log(counts.mean(0)) == pytest.approx(
        np.log(adata.X.toarray()[(adata.obs["batch"] == "0").to_numpy()].mean(0)), abs=0.6
    )


class TestGiven:
    """Covariances that need a matrix."""

    def test_by_name_by_key_and_in_order(self):
        adata = simulated()
        kernel = pd.DataFrame(np.exp(-np.abs(np.subtract.outer(range(P), range(P)))), adata.var_names, adata.var_names)
        adata.varp["tree"] = kernel.to_numpy()
        bounds = [
            fitted(adata, "kernel", given=given).get_elbo()
            for given in (kernel.iloc[::-1, ::-1], "tree", kernel.to_numpy())
        ]
        assert bounds[1:] == pytest.approx([bounds[0]] * 2, abs=1e-6)
        assert fitted(adata).get_elbo() > bounds[0] >= fitted(adata, "spherical").get_elbo() - 1e-4

    @pytest.mark.parametrize(
        ("covariance", "given", "message"),
        [
            ("full", np.eye(P), "Leave it out"),
            ("fixed", None, "Pass given="),
            ("fixed", "nowhere", "not in adata.varp"),
            ("fixed", np.eye(P + 1), "has shape"),
            ("fixed", np.full((P, P), np.nan), "finite and symmetric"),
            ("kernel", -np.eye(P), "kernel has an eigenvalue of -1"),
            ("fixed", -np.eye(P), "given has an eigenvalue of -1"),
            ("kernel", pd.DataFrame(np.eye(2)), "lacks 8 of 8 genes"),
            ("fixed", object(), "no matrix of numbers"),
        ],
    )
    def test_wrong_ones_are_refused(self, covariance, given, message):
        with pytest.raises((ValueError, TypeError), match=message):
            PLN(simulated(), covariance, given=given)

    @pytest.mark.parametrize(
        ("covariance", "known"),
        [
            ("fixed", {"given": 3 * np.eye(P)}),
            ("kernel", {"given": np.ones((P, P))}),
            ("basis", {"basis": np.eye(P)[:, :3]}),
        ],
    )
    @pytest.mark.parametrize("is_trained", [True, False])
    def test_it_is_saved_with_the_model_and_trains_it_again(self, covariance, known, is_trained, tmp_path):
        adata = simulated()
        model = fitted(adata, covariance, **known)
        (model if is_trained else PLN(adata, covariance, **known)).save(tmp_path / "model")
        loaded = PLN.load(tmp_path / "model", adata)
        if is_trained:
            assert PLN.load(tmp_path / "model", adata=False).get_elbo() == model.get_elbo()
        loaded.train(progress=False)
        assert loaded.get_elbo() == pytest.approx(model.get_elbo(), abs=1e-8)


def test_too_many_genes_and_real_values_are_refused():
    adata = ad.AnnData(np.ones((3, 1001), np.float32))
    setup_anndata(adata)
    with pytest.raises(ValueError, match="posterior='meanfield' takes up to 5,000"):
        PLN(adata)
    PLN(adata, posterior="meanfield")
    setup_anndata(adata, is_count_data=False)
    with pytest.raises(ValueError, match="PLN models counts"):
        PLN(adata)
    with pytest.raises(ValueError, match="prior_precision"):
        PLN(simulated(), prior_precision=-1)


class TestEntries:
    """Offsets of every entry, and entries that were not observed."""

    def test_equal_offsets_are_size_factors(self):
        adata = simulated()
        expected = fitted(adata).get_elbo(return_mean=False)
        logs = np.log(adata.obs["size_factor"].to_numpy())
        adata.layers["offset"] = np.repeat(logs[:, None], P, axis=1)
        setup_anndata(adata, batch_key="batch", offset_key="offset")
        assert fitted(adata).get_elbo(return_mean=False) == pytest.approx(expected, abs=2e-3)

    def test_hidden_entries_do_not_matter_and_are_predicted(self):
        adata = simulated(600, seed=4, latent_variance=2.0)
        hidden = np.random.default_rng(0).random(adata.shape) < 0.2
        hidden[:, 0] = False
        adata.layers["seen"], counts, models = ~hidden, adata.X.toarray(), []
        for value in (0, 50):
            adata.X = np.where(hidden, value, counts).astype(np.float32)
            setup_anndata(adata, batch_key="batch", size_factor_key="size_factor", mask_key="seen")
            models.append(fitted(adata))
        one, two = models
        assert one.get_elbo(return_mean=False) == pytest.approx(two.get_elbo(return_mean=False))
        assert one.get_elbo() < one.get_iw_bound(n_samples=200) < one.get_elbo() + 1
        mean = np.log(one.get_normalized_expression().to_numpy())
        truth = adata.obsm["true_latent"] @ adata.varm["true_loadings"].T
        for gene in range(1, P):
            some = hidden[:, gene] & (adata.obs["batch"] == "0").to_numpy()
            assert np.corrcoef(mean[some, gene], truth[some, gene])[0, 1] > 0.5
        assert np.isfinite(one.predict(given=one.genes[:4]).to_numpy()).all()


class TestBasis:
    """Known directions."""

    def test_that_of_a_fit_reproduces_it(self):
        adata = simulated()
        full = fitted(adata)
        again = fitted(adata, "basis", basis=full)
        assert again.get_elbo() == pytest.approx(full.get_elbo(), abs=2e-3)
        assert again.get_covariance().to_numpy() == pytest.approx(full.get_covariance().to_numpy(), abs=0.05)
        assert again.training_["n_parameters"] < full.training_["n_parameters"]

    def test_few_directions_are_pln_pca(self):
        adata = simulated(150)
        pca = PLNPCA(adata, 3, prior="none")
        pca.train(progress=False, tol=1e-6)
        model = fitted(adata, "basis", basis=pca, prior_precision=0.0)
        assert model.get_elbo() == pytest.approx(pca.get_elbo(), abs=2e-3)
        assert np.linalg.matrix_rank(model.get_covariance().to_numpy(), tol=1e-4) == 3

    def test_variances_are_found(self, tmp_path):
        adata = simulated(3000, n_vars=6, seed=1)
        values, vectors = np.linalg.eigh(adata.varp["true_covariance"])
        basis = pd.DataFrame(vectors, adata.var_names)
        adata.varm["directions"] = vectors
        models = [fitted(adata, "basis", basis=each) for each in (basis.iloc[::-1], vectors, "directions")]
        assert len({round(model.get_elbo(), 6) for model in models}) == 1
        assert models[0].training_["eigenvalues"] == pytest.approx(values, abs=0.15)
        models[0].save(tmp_path / "model")
        assert PLN.load(tmp_path / "model", adata=False).get_elbo() == models[0].get_elbo()

    @pytest.mark.parametrize(
        ("covariance", "basis", "message"),
        [
            ("full", np.eye(P), "Leave it out"),
            ("basis", None, "Pass basis="),
            ("basis", "PCs", "not in adata.varm"),
            ("basis", np.eye(P + 1), "has shape"),
            ("basis", np.ones(P), "has shape"),
            ("basis", np.full((P, 2), np.nan), "not finite"),
            ("basis", 2 * np.eye(P), "not orthonormal"),
            ("basis", np.ones((P, 2)) / np.sqrt(P), "linearly dependent"),
            ("basis", pd.DataFrame(np.eye(2)), "lacks 8 of 8 genes"),
            ("basis", object(), "no matrix of numbers"),
        ],
    )
    def test_wrong_ones_are_refused(self, covariance, basis, message):
        with pytest.raises((ValueError, TypeError), match=message):
            PLN(simulated(), covariance, basis=basis)

    def test_mean_field_is_refused(self):
        with pytest.raises(ValueError, match="Take posterior='fullrank'"):
            PLN(simulated(), "basis", basis=np.eye(P), posterior="meanfield")


class TestLikelihoods:
    def test_parameters_are_the_fit_s_and_kept(self, tmp_path):
        random = np.random.default_rng(0)
        rates = np.exp(1.5 + 0.7 * random.standard_normal((150, 6)))
        adata = ad.AnnData(
            random.poisson(rates) * (random.random((150, 6)) > [0.5, 0, 0, 0, 0, 0.3]).astype(np.float32)
        )
        adata.obs["size"] = 1.0
        setup_anndata(adata, size_factor_key="size")
        model = PLN(adata, likelihood="zip")
        model.train(progress=False)
        inflation = model.get_gene_parameters()["zero_inflation"]
        assert inflation.iloc[[0, 5]].min() > 0.2
        assert model.training_["n_parameters"] == 6 + 21 + 6
        model.annotate()
        np.testing.assert_array_equal(adata.var["pln_zero_inflation"], inflation)
        model.save(tmp_path / "model")
        again = PLN.load(tmp_path / "model", adata)
        np.testing.assert_array_equal(again.get_gene_parameters(), model.get_gene_parameters())
        new = adata[:20].copy()
        np.testing.assert_allclose(again.get_elbo(new, return_mean=False), model.module.elbo[:20], atol=1e-3)

    def test_expected_counts_are_less_than_rates_by_what_is_inflated(self):
        model = fitted(simulated(), likelihood="zip")
        rates = model.get_normalized_expression(library_size="latent")
        share = 1 - model.get_gene_parameters()["zero_inflation"]
        np.testing.assert_allclose(model.predict(), rates * share, rtol=1e-5)

    def test_a_disturbance_beside_free_variances_is_refused(self):
        adata = scpln.datasets.simulate(40, 6, n_latent=2, seed=0)
        setup_anndata(adata, size_factor_key="size_factor")
        with pytest.raises(ValueError, match="only their sum can be estimated"):
            PLN(adata, likelihood="poisson_lognormal")
        model = PLN(adata, "basis", basis=np.eye(6)[:, :2], likelihood="poisson_lognormal")
        model.train(progress=False)
        assert (model.get_gene_parameters()["log_rate_sd"] > 0).all()

    def test_inflation_by_covariates(self, tmp_path):
        random = np.random.default_rng(0)
        dry = np.resize([0, 1], 120)
        kept = random.random((120, 4)) > 0.1 + 0.5 * dry[:, None]
        adata = ad.AnnData(random.poisson(np.exp(2 + 0.5 * random.standard_normal((120, 4)))) * kept.astype(np.float32))
        adata.obs["dry"], adata.obs["size"] = pd.Categorical(dry.astype(str)), 1.0
        setup_anndata(adata, batch_key="dry", size_factor_key="size")
        model = fitted(adata, likelihood="zip", zero_inflation="covariates")
        effects = model.get_inflation_coefficients()["dry[T.1]"]
        assert (effects > 1).all()
        assert model.training_["n_parameters"] == 8 + 10 + 8
        share = 1 - 1 / (1 + np.exp(-model.module.inflation @ [1, 1]))
        rates = model.get_normalized_expression(library_size="latent")
        np.testing.assert_allclose(model.predict()[dry == 1], (rates * share)[dry == 1], rtol=1e-4)
        assert model.get_iw_bound() > model.get_elbo()
        assert (model.posterior_predictive_sample(n_samples=20, seed=0)[dry == 1] == 0).mean() > 0.4
        model.annotate()
        assert adata.varm["pln_inflation_coefficients"].shape == (4, 2)
        model.save(tmp_path / "model")
        again = PLN.load(tmp_path / "model", adata)
        np.testing.assert_array_equal(again.module.inflation, model.module.inflation)
        np.testing.assert_allclose(
            again.get_elbo(adata[:10].copy(), return_mean=False), model.module.elbo[:10], atol=1e-3
        )

    def test_inflation_by_cell(self, tmp_path):
        random = np.random.default_rng(0)
        share = np.resize([0.05, 0.5], 80)
        kept = random.random((80, 20)) > share[:, None]
        adata = ad.AnnData(random.poisson(np.exp(2 + 0.5 * random.standard_normal((80, 20)))) * kept.astype(np.float32))
        adata.obs["size"] = 1.0
        setup_anndata(adata, size_factor_key="size")
        model = fitted(adata, covariance="diagonal", likelihood="zip", zero_inflation="cell")
        found = model.get_cell_inflation()
        np.testing.assert_allclose(found, share, atol=0.35)
        np.testing.assert_allclose(found.groupby(share).mean(), [0.05, 0.5], atol=0.05)
        assert model.training_["n_parameters"] == 20 + 20 + 80
        assert model.training_["reliability"] is not None
        assert list(model.get_gene_parameters()) == []
        rates = model.get_normalized_expression(library_size="latent")
        np.testing.assert_allclose(model.predict(), rates.mul(1 - found, axis=0), rtol=1e-4)
        assert model.get_elbo() < model.get_iw_bound(n_samples=500) < model.get_elbo() + 1
        terms = model.get_bound_terms()
        np.testing.assert_allclose(terms["reconstruction"] - terms["kl"], terms["elbo"], atol=1e-6)
        assert model.sample_exact_posterior(indices=[0], n_samples=20, n_warmup=20).shape == (20, 1, 20)
        model.annotate(diagnostics=True)
        np.testing.assert_array_equal(adata.obs["pln_zero_inflation"], found)
        model.save(tmp_path / "model")
        again = PLN.load(tmp_path / "model", adata)
        new = adata[:10, ::-1].copy()
        np.testing.assert_allclose(again.get_elbo(new, return_mean=False), model.module.elbo[:10], atol=1e-3)
        np.testing.assert_allclose(again.get_cell_inflation(new), found[:10], atol=1e-3)
        np.testing.assert_allclose(again.get_cell_inflation(indices=[3, 5]), found.iloc[[3, 5]], atol=1e-9)
        with pytest.raises(ValueError, match="a probability of each cell, which follows from its counts"):
            model.posterior_predictive_sample(n_samples=2)
        with pytest.raises(ValueError, match="a probability of each cell, which follows from its counts"):
            model.prior_predictive_sample(5)

    def test_what_inflation_goes_with(self):
        adata = simulated(30)
        with pytest.raises(ValueError, match="is for 'zip' and 'zinb', and likelihood='nb' has none"):
            PLN(adata, likelihood="nb", zero_inflation="single")
        with pytest.raises(ValueError, match="zero_inflation='sample'"):
            PLN(adata, likelihood="zip", zero_inflation="sample")
        model = fitted(adata, likelihood="zip", zero_inflation="single")
        assert model.get_gene_parameters()["zero_inflation"].nunique() == 1
        with pytest.raises(ValueError, match="does not depend on covariates"):
            model.get_inflation_coefficients()
        with pytest.raises(ValueError, match="is not by cell"):
            model.get_cell_inflation()
