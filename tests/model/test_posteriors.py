"""Every posterior that PLN-PCA can have has the same properties, whatever gives it: an optimum, a flow, an encoder."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest

from scpln.inference import NotFiniteError
from scpln.model import PLNPCA, setup_anndata
from scpln.model.plnpca import _stages
from scpln.module import FLOWS
from scpln.train import _amortize

from .conftest import make_adata

N, P = 90, 20
GAUSSIAN = ["fullrank", "meanfield"]
FEW = {"n_transforms": 2, "flow_hidden": [16]}
KINDS = {
    **{name: {"posterior": name} for name in GAUSSIAN},
    **{f"{name}, importance-weighted": {"posterior": name, "n_importance_samples": 5} for name in GAUSSIAN},
    **{name: {"posterior": "flow", "flow": name, **FEW} for name in FLOWS},
    **{f"encoder, {name}": {"posterior": name, "amortized": True} for name in [*GAUSSIAN, "flow"]},
    "encoder, importance-weighted": {"amortized": True, "n_importance_samples": 5},
}
SOME = ["meanfield", "meanfield, importance-weighted", "sylvester", "encoder, fullrank", "encoder, flow"]


def make(name: str = "sylvester", *, adata=None, train=True, n_latent=2, **options) -> PLNPCA:
    """A model on two batches of cells, trained with few steps."""
    options = {**KINDS[name], "n_steps": 50, "learning_rate": 1e-2, "progress": False, **options}
    training = {
        key: options.pop(key)
        for key in list(options)
        if key not in ("posterior", "flow", "amortized", "likelihood", *FEW)
    }
    if adata is None:
        adata = make_adata(N, P)
        setup_anndata(adata, layer="counts", batch_key="batch")
    model = PLNPCA(adata, n_latent=n_latent, **{"prior": "none", **options})  # bounds that nothing but rungs tell apart
    if train:
        model.train(**training)
    return model


@pytest.fixture(scope="session")
def models():
    """Trained models by name, each made when it is first asked for; do not change them."""
    made: dict[str, PLNPCA] = {}

    def get(name: str) -> PLNPCA:
        if name not in made:
            made[name] = make(name)
        return made[name]

    return get


@pytest.fixture(params=KINDS)
def model(models, request) -> PLNPCA:
    """Each of them."""
    return models(request.param)


def new_cells() -> anndata.AnnData:
    return make_adata(N + 12, P)[N:].copy()


def test_bounds_are_ordered(model):
    values = [model.get_iw_bound(n_samples=n, return_mean=False) for n in (50, 500)]
    elbo = model.get_elbo(return_mean=False)
    assert elbo.dtype == values[0].dtype == np.float64
    assert elbo.mean() < values[1].mean()
    assert elbo.mean() - 0.01 < values[0].mean() < values[1].mean() + 0.02
    assert (elbo < values[1] + 0.1).all()
    assert model.get_elbo() == pytest.approx(elbo.mean())
    assert model.get_iw_bound(n_samples=50) == pytest.approx(values[0].mean())


def test_one_cell_is_as_good_as_all(model):
    chosen = [5, 3, 5]
    np.testing.assert_allclose(
        model.get_iw_bound(indices=[5], n_samples=60, return_mean=False),
        model.get_iw_bound(n_samples=60, return_mean=False)[[5]],
        rtol=1e-9,
    )
    np.testing.assert_array_equal(
        model.get_elbo(indices=chosen, return_mean=False), model.get_elbo(return_mean=False)[chosen]
    )
    np.testing.assert_allclose(
        model.get_latent_representation(indices=chosen), model.get_latent_representation()[chosen], rtol=1e-6
    )
    table = model.get_posterior_diagnostics(n_samples=100)
    pd.testing.assert_frame_equal(model.get_posterior_diagnostics(indices=chosen, n_samples=100), table.iloc[chosen])


def test_new_cells_get_what_training_cells_have(model):
    same = model.adata.copy()
    np.testing.assert_allclose(model.get_elbo(same, return_mean=False), model.get_elbo(return_mean=False), atol=2e-3)
    np.testing.assert_allclose(model.get_latent_representation(same), model.get_latent_representation(), atol=0.01)
    np.testing.assert_allclose(model.get_iw_bound(same, n_samples=60), model.get_iw_bound(n_samples=60), atol=2e-3)
    new = new_cells()
    whole, blocks = (model.get_elbo(new, return_mean=False, batch_size=size) for size in (None, 5))
    np.testing.assert_allclose(whole, blocks, atol=1e-3)
    assert (whole < model.get_iw_bound(new, n_samples=200, return_mean=False) + 0.1).all()
    np.testing.assert_allclose(model.get_elbo(new, indices=[7], return_mean=False), whole[[7]], atol=0.05)


def test_diagnostics(model):
    table = model.get_posterior_diagnostics(n_samples=200)
    assert list(table.columns) == ["elbo", "iw_bound", "gap", "ess", "pareto_k"]
    assert list(table.index) == list(model.adata.obs_names)
    np.testing.assert_array_equal(table["elbo"], model.get_elbo(return_mean=False))
    np.testing.assert_array_equal(table["iw_bound"], model.get_iw_bound(n_samples=200, return_mean=False))
    np.testing.assert_allclose(table["gap"], table["iw_bound"] - table["elbo"])
    assert ((table["ess"] > 0) & (table["ess"] <= 1)).all()
    assert np.isfinite(table["pareto_k"]).all()


def test_saving_keeps_everything(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    again, new = PLNPCA.load(tmp_path / "model"), new_cells()
    assert repr(again) == repr(model)
    for method in (
        lambda each: each.get_elbo(return_mean=False),
        lambda each: each.get_elbo(new, return_mean=False),
        lambda each: each.get_latent_representation(new),
        lambda each: each.get_latent_representation(),
        lambda each: each.get_iw_bound(n_samples=20, return_mean=False),
        lambda each: each.get_posterior().sample(2, seed=1),
        lambda each: each.get_loadings(),
        lambda each: each.get_normalized_expression(gene_list=["gene_3"]),
    ):
        np.testing.assert_array_equal(method(again), method(model))
    state, other = model.module.state_dict(), again.module.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {name: value.dtype for name, value in other.items()}


def test_rates_and_counts(model):
    rates = model.get_normalized_expression(library_size="latent")
    counts = model.adata.layers["counts"].toarray()
    assert rates.shape == counts.shape
    np.testing.assert_allclose(rates.mean().mean(), counts.mean(), rtol=0.1)
    several = model.get_normalized_expression(library_size="latent", n_samples=400, seed=1, return_numpy=True)
    relative = np.linalg.norm(several - rates.to_numpy()) / np.linalg.norm(rates.to_numpy())
    assert relative < 0.15, "the mean of draws is the posterior mean"
    drawn = model.posterior_predictive_sample(n_samples=3).todense()
    assert drawn.shape == (*counts.shape, 3)
    np.testing.assert_allclose(drawn.mean(), counts.mean(), rtol=0.1)


def test_annotate_writes_diagnostics(model):
    adata = model.adata.copy()
    model.annotate(adata, key_added="fit", diagnostics=True)
    columns = ["fit_iw_bound", "fit_gap", "fit_ess", "fit_pareto_k"]
    assert set(columns) < set(adata.obs)
    np.testing.assert_allclose(adata.obs["fit_gap"], adata.obs["fit_iw_bound"] - adata.obs["fit_elbo"])
    model.annotate(adata, key_added="less")
    assert [name for name in adata.obs if name.startswith("less")] == ["less_elbo"]


def test_training_is_told(model):
    assert model.is_trained
    assert model.converged
    assert set(model.training_["reliability"]) == {"gap", "unreliable", "n_cells"}
    assert "posterior" not in model.training_
    assert f"{model.training_['reliability']['gap']:.3f} nats per cell below the log-likelihood, Pareto" in repr(model)
    shared = model.module.approximation is not None
    assert ("stochastic_bound" in model.history) == shared == ("50 stochastic steps" in model.stop_reason)
    if shared:
        assert model.history["stochastic_bound"].shape == model.history["stochastic_seconds"].shape == (5, 1)


def test_refinement_does_no_harm(model):
    before, after = (model.get_elbo(refine=steps, return_mean=False) for steps in (0, 30))
    assert after.mean() > before.mean() - 5e-3
    assert model.get_posterior(indices=[0, 1], refine=2).mean.shape == (2, 2)
    new = new_cells()
    assert model.get_elbo(new, refine=30) > model.get_elbo(new) - 0.02
    if model.posterior == "meanfield":
        axes = model.module.rotation if model.module.approximation is None else model.module.approximation.frame
        turned = axes.numpy() @ model.get_posterior(refine=5).covariance @ axes.numpy().T
        np.testing.assert_allclose(turned[:, 0, 1] / np.sqrt(turned[:, 0, 0] * turned[:, 1, 1]), 0, atol=2e-3)


@pytest.mark.parametrize("name", SOME)
def test_the_seed_gives_the_numbers(models, name):
    first, again, other = models(name), make(name), make(name, seed=1)
    np.testing.assert_array_equal(first.get_latent_representation(), again.get_latent_representation())
    np.testing.assert_array_equal(first.get_elbo(return_mean=False), again.get_elbo(return_mean=False))
    np.testing.assert_array_equal(first.get_loadings(), again.get_loadings())
    assert (first.get_loadings() != other.get_loadings()).all(axis=None)
    assert other.get_elbo() == pytest.approx(first.get_elbo(), abs=0.05)


def test_draws_have_their_own_seed(model):
    values = [model.get_iw_bound(n_samples=5, return_mean=False, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).all()


class TestLadder:
    """Each rung is at least as good as the one below."""

    @pytest.mark.parametrize("name", FLOWS)
    def test_a_flow_is_not_below_the_gaussian(self, models, name):
        assert models(name).get_elbo() > models("fullrank").get_elbo() - 5e-3

    def test_flows_gain(self, models):
        gain = [models(name).get_elbo() - models("fullrank").get_elbo() for name in ("sylvester", "nsf")]
        assert min(gain) > 1e-3

    def test_full_rank_is_above_mean_field(self, models):
        assert models("fullrank").get_elbo() > models("meanfield").get_elbo()

    def test_an_encoder_is_close_to_every_cells_optimum(self, models):
        assert models("encoder, fullrank").get_elbo() > models("fullrank").get_elbo() - 0.15


@pytest.mark.parametrize("name", ["sylvester", "meanfield, importance-weighted", "encoder, fullrank"])
def test_a_model_that_is_not_reestimated_stays(models, name):
    fixed = make(name, reestimate=False)
    gaussian = models("meanfield" if "meanfield" in name else "fullrank")
    np.testing.assert_allclose(fixed.get_loadings(), gaussian.get_loadings(), atol=1e-6)
    np.testing.assert_allclose(fixed.get_coefficients(), gaussian.get_coefficients(), atol=1e-6)
    assert not np.allclose(models(name).get_loadings(), gaussian.get_loadings(), atol=1e-6)


def test_two_steps_keep_the_encoder(monkeypatch):
    """The encoder that the first step ends with is the one that the second ends with, and B and C have moved."""
    encoders = []
    distill_gaussians = _amortize.distill_gaussians
    from scpln.model.plnpca import _fit as _plnpca_fit

    def remember(data, approximation, *args, **options):
        result = distill_gaussians(data, approximation, *args, **options)
        encoders.append({name: value.clone() for name, value in approximation.source.state_dict().items()})
        return result

    monkeypatch.setattr(_plnpca_fit, "distill_gaussians", remember)
    model = make("encoder, fullrank", two_step=True)
    for name, value in model.module.approximation.source.state_dict().items():
        np.testing.assert_array_equal(value, encoders[0][name])
    only = make("encoder, fullrank", two_step=True, reestimate=False)
    assert "nothing was left for stochastic steps to train" in only.stop_reason
    assert not np.allclose(model.get_loadings(), only.get_loadings(), atol=1e-4)
    only.annotate(only.adata.copy())


class TestTrouble:
    """Interrupts, and what is not finite."""

    @pytest.fixture
    def backpropagate_until(self, monkeypatch):
        """Let the bound of two cells be NaN from some step on, or be interrupted there."""

        def install(step: int, *, interrupt: bool) -> None:
            backpropagate_bound, steps = _amortize.backpropagate_bound, iter(range(10**6))

            def counted_bound(*args, **options):
                bound = backpropagate_bound(*args, **options)
                if next(steps) >= step:
                    if interrupt:
                        raise KeyboardInterrupt
                    bound[[4, 9]] = np.nan
                return bound

            monkeypatch.setattr(_amortize, "backpropagate_bound", counted_bound)

        return install

    @pytest.mark.parametrize("name", ["sylvester", "encoder, fullrank"])
    def test_cells_that_are_not_finite_are_named(self, backpropagate_until, name, caplog):
        backpropagate_until(20, interrupt=False)
        model = make(name, train=False)
        with pytest.raises(
            NotFiniteError, match=r"the bound of cells \[4, 9\] was not finite.*lower learning_rate"
        ) as error:
            model.train(n_steps=50, progress=False)
        assert error.value.__notes__ == ["These cells are ['cell_4', 'cell_9']."]
        assert model.is_trained
        assert model.converged is False
        assert "failed after 25 stochastic steps (5 of them skipped" in model.stop_reason
        assert "the last good parameters are kept" in caplog.text
        assert np.isfinite(model.get_elbo(return_mean=False)).all()
        model.annotate()

    @pytest.mark.parametrize("name", ["sylvester", "encoder, flow"])
    def test_an_interrupt_keeps_what_was_reached(self, backpropagate_until, name):
        backpropagate_until(20, interrupt=True)
        model = make(name)
        assert model.converged is False
        assert "interrupted after 20 stochastic steps" in model.stop_reason
        assert len(model.history["stochastic_bound"]) == 2
        assert np.isfinite(model.get_elbo(return_mean=False)).all()

    def test_an_interrupt_while_the_encoder_starts_ends_it_all(self, monkeypatch):
        monkeypatch.setattr(_stages, "train_shared", None)
        monkeypatch.setattr(_amortize, "divergence", _raise_interrupt)
        model = make("encoder, fullrank")
        assert "interrupted after 0 stochastic steps" in model.stop_reason
        assert model.converged is False

    def test_an_interrupt_of_the_gaussians_leaves_out_the_flow(self, monkeypatch):
        fit = _stages.fit_gaussians

        def interrupted(*args, on_iteration, **settings):
            def stop(iteration, bound):
                if iteration == 3:
                    raise KeyboardInterrupt

            return fit(*args, on_iteration=stop, **settings)

        monkeypatch.setattr(_stages, "fit_gaussians", interrupted)
        model = make("sylvester")
        assert model.module.approximation is None
        assert "interrupted after 3 iterations" in model.stop_reason
        assert np.isfinite(model.get_iw_bound(n_samples=10))


def _raise_interrupt(*args):
    raise KeyboardInterrupt


class TestData:
    """Cells on disk, in minibatches, without counts and with very many."""

    @pytest.mark.parametrize("name", ["sylvester", "encoder, flow", "fullrank, importance-weighted"])
    def test_minibatches_from_disk(self, name, tmp_path):
        adata = make_adata(N, P)
        adata.X = adata.layers["counts"].copy()
        adata.write_h5ad(tmp_path / "counts.h5ad")
        backed = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")
        bounds = []
        for each in (backed, adata):
            setup_anndata(each, batch_key="batch")
            model = make(name, adata=each, batch_size=32)
            bounds.append(model.get_elbo())
            assert np.isfinite(model.get_elbo(return_mean=False)).all()
            assert np.isfinite(model.get_iw_bound(n_samples=5, indices=[70, 3]))
        assert bounds[0] == pytest.approx(bounds[1], abs=0.05)
        backed.file.close()

    @pytest.mark.filterwarnings("ignore:.* have no counts")
    @pytest.mark.parametrize("name", ["sylvester", "nsf", "encoder, fullrank", "fullrank, importance-weighted"])
    def test_cells_without_counts_and_with_very_many(self, name):
        adata = make_adata(N, P)
        counts = adata.layers["counts"].toarray()
        counts[:3], counts[3] = 0, counts[3] * 200_000
        adata.layers["counts"] = counts
        adata.obs["size"] = 1.0
        setup_anndata(adata, layer="counts", size_factor_key="size")
        model = make(name, adata=adata, n_steps=20)
        model.annotate(diagnostics=False)
        assert np.isfinite(adata.obs["plnpca_elbo"]).all()
        assert np.isfinite(adata.obsm["X_plnpca"]).all()

    @pytest.mark.parametrize("name", ["sylvester", "nsf", "radial", "encoder, flow", "fullrank, importance-weighted"])
    def test_one_dimension(self, name):
        model = make(name, n_latent=1, n_steps=10)
        assert model.get_latent_representation().shape == (N, 1)
        assert model.get_elbo() < model.get_iw_bound(n_samples=200) + 0.02

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(("n", "p"), [(1, 20), (40, 1), (1, 1)])
    @pytest.mark.parametrize("name", ["sylvester", "encoder, flow"])
    def test_the_smallest_data(self, name, n, p):
        adata = make_adata()[:n, :p].copy()
        setup_anndata(adata, layer="counts")
        model = make(name, adata=adata, n_latent=1, n_steps=5)
        assert np.isfinite(model.get_iw_bound(n_samples=5))


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson_lognormal", "bernoulli"])
@pytest.mark.parametrize("name", ["meanfield", "sylvester", "encoder, flow", "fullrank, importance-weighted"])
def test_other_likelihoods(name, likelihood):
    model = make(name, likelihood=likelihood, n_steps=10, max_epochs=8)
    elbo, iw_bound = model.get_elbo(return_mean=False), model.get_iw_bound(n_samples=500, return_mean=False)
    assert elbo.mean() < iw_bound.mean()
    assert model.get_elbo(model.adata.copy()) == pytest.approx(elbo.mean(), abs=2e-3)
    assert np.isfinite(model.posterior_predictive_sample(n_samples=1).todense()).all()
    assert model.sample_exact_posterior(indices=[0], n_samples=4, n_warmup=4).shape == (4, 1, 2)


class TestAnnotate:
    """When diagnostics are written."""

    @pytest.mark.parametrize("n_obs", [20, N])
    def test_the_columns_do_not_depend_on_the_number_of_cells(self, models, n_obs):
        adata = models("fullrank").adata[:n_obs].copy()
        models("fullrank").annotate(adata)
        assert [name for name in adata.obs if name.startswith("plnpca")] == ["plnpca_elbo"]

    def test_they_are_written_when_asked_for(self, models):
        model, adata = models("fullrank"), models("fullrank").adata
        model.annotate(adata, key_added="all", diagnostics=True)
        table = model.get_posterior_diagnostics()
        for name in ("iw_bound", "gap", "ess", "pareto_k"):
            np.testing.assert_array_equal(adata.obs[f"all_{name}"], table[name])

    def test_of_new_cells(self, models):
        new = new_cells()
        models("sylvester").annotate(new, diagnostics=True)
        np.testing.assert_array_equal(new.obs["plnpca_ess"], models("sylvester").get_posterior_diagnostics(new)["ess"])

    def test_the_summary_is_logged(self, caplog):
        with caplog.at_level(logging.INFO, logger="scpln"):
            model = make("fullrank")
        found = model.training_["reliability"]
        words = f"Pareto k̂ > 0.7 for {100 * found['unreliable']:.1f} % of 90 cells."
        assert f"Posteriors: {found['gap']:.3f} nats per cell below the log-likelihood, {words}" in caplog.text


class TestRefused:
    """What cannot be had, and what the user is told."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"posterior": "laplace"},
                r"posterior='laplace' is not available; choose from \['fullrank', 'meanfield', 'flow'\]",
            ),
            ({"likelihood": "tweedie"}, r"likelihood='tweedie' is not available; choose from \['poisson', 'nb'"),
            ({"posterior": "flow", "flow": "glow"}, r"flow='glow' is not available; choose from \['iaf', 'maf'"),
            ({"flow": "iaf"}, "flow='iaf' needs posterior='flow'"),
            ({"n_transforms": 3}, "n_transforms=3 needs posterior='flow'"),
            ({"flow_hidden": [8]}, r"flow_hidden=\[8\] needs posterior='flow'"),
            ({"encoder_hidden": [8]}, r"encoder_hidden=\[8\] needs amortized=True"),
            ({"posterior": "flow", "n_transforms": 0}, "n_transforms=0, but it must be a whole number of at least 1"),
            ({"amortized": True, "encoder_hidden": [8, 0]}, "encoder_hidden=0, but it must be a whole number"),
        ],
    )
    def test_models(self, adata, arguments, message):
        setup_anndata(adata, layer="counts")
        with pytest.raises(ValueError, match=message):
            PLNPCA(adata, n_latent=2, **arguments)

    @pytest.mark.parametrize("flow", ["iaf", "maf", "realnvp"])
    def test_flows_that_need_two_dimensions(self, adata, flow):
        setup_anndata(adata, layer="counts")
        with pytest.raises(ValueError, match=rf"flow '{flow}' needs n_latent ≥ 2.*work with n_latent=1: 'nsf'"):
            PLNPCA(adata, n_latent=1, posterior="flow", flow=flow)

    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            ("sylvester", {"two_step": True}, "two_step=True trains an encoder in two steps.*amortized=True"),
            ("sylvester", {"n_steps": 0}, "n_steps=0, but it must be"),
            ("sylvester", {"n_importance_samples": 0}, "n_importance_samples=0, but it must be"),
            ("sylvester", {"learning_rate": -1.0}, "learning_rate=-1.0, but it must be greater than 0"),
        ],
    )
    def test_training(self, name, arguments, message):
        model = make(name, train=False)
        with pytest.raises(ValueError, match=message):
            model.train(**arguments)
        assert not model.is_trained

    def test_questions(self, models):
        model = models("sylvester")
        for method in (model.get_iw_bound, model.get_posterior_diagnostics):
            with pytest.raises(ValueError, match="n_samples=0, but it must be"):
                method(n_samples=0)
        with pytest.raises(ValueError, match="refine=-1, but it must be"):
            model.get_posterior(refine=-1)


class TestExactPosterior:
    """`sample_exact_posterior`, whose mathematics is tested where it is made."""

    def test_draws_are_near_the_posterior(self, models):
        model = models("sylvester")
        z, table = model.sample_exact_posterior(indices=[7, 2], n_samples=300, n_warmup=150, return_diagnostics=True)
        posterior = model.get_posterior(indices=[7, 2])
        assert z.shape == (300, 2, 2)
        np.testing.assert_allclose((z.mean(0) - posterior.mean) / np.sqrt(posterior.variance), 0, atol=0.5)
        np.testing.assert_allclose(z.var(0) / posterior.variance, 1, atol=0.5)
        assert list(table.columns) == ["r_hat", "ess", "divergences"]
        assert list(table.index) == ["cell_7", "cell_2"]
        assert (table["r_hat"] < 1.1).all()

    def test_a_chain_is_its_seeds_and_its_cells(self, models):
        options = {"n_samples": 10, "n_warmup": 5}
        model = models("fullrank")
        first, again, other = (model.sample_exact_posterior(indices=[3, 4], seed=seed, **options) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        np.testing.assert_allclose(model.sample_exact_posterior(indices=[4], **options), first[:, 1:])
        new = model.adata[3:5].copy()
        assert model.sample_exact_posterior(new, **options).shape == (10, 2, 2)

    def test_the_old_name_takes_both_orders(self, models):
        options = {"n_samples": 4, "n_warmup": 4}
        model = models("fullrank")
        new = model.adata[3:6].copy()
        expected = model.sample_exact_posterior(new, [0, 2], **options)
        for positional, named in [
            (([0, 2], new), {}),
            ((new, [0, 2]), {}),
            (([0, 2],), {"adata": new}),
            ((new,), {"indices": np.array([0, 2])}),
            ((), {"adata": new, "indices": [0, 2]}),
        ]:
            with pytest.warns(
                FutureWarning, match=r"sample_posterior.* is deprecated.*sample_exact_posterior"
            ) as found:
                drawn = model.sample_posterior(*positional, **named, **options)
            assert {warning.filename for warning in found} == {__file__}
            np.testing.assert_array_equal(drawn, expected)
        with pytest.warns(FutureWarning):
            assert model.sample_posterior(None, new, **options).shape == (4, 3, 2)

    def test_progress_only_if_wanted(self, models, capsys):
        options = {"n_samples": 5, "n_warmup": 5}
        models("fullrank").sample_exact_posterior(indices=[0], **options)
        assert capsys.readouterr() == ("", "")
        models("fullrank").sample_exact_posterior(indices=[0], progress=True, **options)
        assert "Sampling cells" in "".join(capsys.readouterr())

    def test_chains_that_cannot_be_trusted_are_warned_of(self, models, caplog):
        models("fullrank").sample_exact_posterior(indices=[0, 1], n_samples=6, n_warmup=1)
        assert "of 2 cells have not converged (R̂ > 1.05) or diverged: 'cell_" in caplog.text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"method": "gibbs"}, r"method='gibbs' is not available; choose from \['nuts'\]"),
            ({"n_samples": 3}, "n_samples=3, but a chain must have at least 4 draws"),
            ({"n_samples": 0}, "n_samples=0, but it must be a whole number"),
            ({"n_warmup": 0}, "n_warmup=0, but it must be a whole number"),
            ({"seed": -1}, "seed=-1, but it must be a whole number of at least 0"),
        ],
    )
    def test_what_is_refused(self, models, arguments, message):
        with pytest.raises(ValueError, match=message):
            models("fullrank").sample_exact_posterior(indices=[0], **arguments)

    def test_a_model_that_is_not_trained(self):
        with pytest.raises(RuntimeError, match="is not trained"):
            make("fullrank", train=False).sample_exact_posterior(indices=[0])
