"""scvi-tools' own machinery takes every model: posterior predictive checks, Lightning's callbacks, autotune."""

import sys

import numpy as np
import pytest
import sparse  # noqa: F401 (its code must be there to be interpreted)
from anndata import concat
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from numba.core.dispatcher import Dispatcher
from scvi.criticism import PosteriorPredictiveCheck

import scpln
from scpln.model import PLNPCA, CountGMVAE, CountVAE, setup_anndata, setup_mudata

from .every_model import KINDS, SMALL, make_adata, trained

AUTOENCODERS = [(CountVAE, {}), (CountGMVAE, {"n_components": 2})]
N_SAMPLES = 4


@pytest.fixture(autouse=True, scope="module")
def interpreted():
    """`sparse` interprets its own code: for data this small, to compile it takes many times as long as to run it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("sparse.numba_backend"):
                for key, value in list(vars(module).items()):
                    if isinstance(value, Dispatcher):
                        patch.setattr(module, key, value.py_func)
        yield


@pytest.fixture(scope="module", params=KINDS)
def check(request):
    model = trained(request.param)
    layer = "log" if not model.is_count_data else None
    # scvi-tools' calibration_error looks for a model of this name only.
    return PosteriorPredictiveCheck(model.adata, {"model1": model}, count_layer_key=layer, n_samples=N_SAMPLES), model


def draws_of(model):
    return model.posterior_predictive_sample(n_samples=N_SAMPLES).todense().astype(float)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero", "ignore:Mean of empty slice")
def test_posterior_predictive_check_measures_the_draws(check):
    ppc, model = check
    draws = draws_of(model)
    raw = model.adata.X.toarray() if model.is_count_data else model.adata.layers["log"]
    assert set(ppc.samples_dataset.data_vars) == {"model1", "Raw"}
    ppc.zero_fraction()  # which is the share of what is not zero
    shares = ppc.metrics["zero_fraction"].loc[model.genes]
    np.testing.assert_allclose(shares["model1"], (draws != 0).mean((0, 2)), rtol=1e-6)
    np.testing.assert_allclose(shares["Raw"], (raw != 0).mean(0), rtol=1e-6)
    for dim, axis, name in [("cells", 0, "cv_gene"), ("features", 1, "cv_cell")]:
        ppc.coefficient_of_variation(dim)
        expected = np.nanmean(draws.std(axis) / draws.mean(axis), axis=-1)
        np.testing.assert_allclose(ppc.metrics[name]["model1"], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(ppc.metrics[name]["Raw"], raw.std(axis) / raw.mean(axis), rtol=1e-3)
    ppc.calibration_error([0.05, 0.95])
    low, high = np.quantile(draws, [0.05, 0.95], axis=2)
    error = (((raw >= low) & (raw <= high)).mean() - 0.9) ** 2
    assert ppc.metrics["calibration"].loc["features", "model1"] == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("kind", ["PLNPCA, poisson", "CountGMVAE"])
def test_posterior_predictive_check_compares_genes(kind):
    model = trained(kind)
    ppc = PosteriorPredictiveCheck(model.adata, {kind: model}, n_samples=2)
    ppc.differential_expression(de_groupby="group", n_samples=2, n_top_genes_fallback=1)
    summary = ppc.metrics["diff_exp"]["summary"]
    assert set(summary["group"]) == {"a", "b"}
    assert np.isfinite(summary[["lfc_mae", "roc_auc"]].astype(float)).all(axis=None)


def test_posterior_predictive_check_takes_some_cells():
    model = trained("PLNPCA, poisson")
    ppc = PosteriorPredictiveCheck(model.adata, {"some": model}, n_samples=2, indices=[5, 1, 7])
    expected = model.posterior_predictive_sample(indices=[5, 1, 7], n_samples=2).todense()
    np.testing.assert_array_equal(ppc.samples_dataset["some"].data.todense(), expected)


def test_modalities_side_by_side():
    """scvi-tools' check takes one modality; all of a joint model are the genes of one AnnData."""
    mdata = scpln.datasets.simulate_multimodal(60, {"rna": 12, "prot": 5})
    mdata.obs["group"] = np.resize(["a", "b"], 60)
    setup_mudata(mdata, modalities=["rna", "prot"])
    model = PLNPCA(mdata, n_latent=1, likelihood={"rna": "poisson", "prot": "nb"})
    model.train(progress=False, max_epochs=5)
    side_by_side = concat([mdata["rna"], mdata["prot"]], axis=1, merge="same")
    ppc = PosteriorPredictiveCheck(side_by_side, {"joint": model}, n_samples=2)
    drawn = model.posterior_predictive_sample(n_samples=2).todense()
    np.testing.assert_array_equal(ppc.samples_dataset["joint"].data.todense(), drawn)
    before = list(mdata.obs)
    table = model.differential_expression(groupby="group", group1="a", silent=True, n_samples_overall=100)
    assert set(table.index) == set(model.genes)
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert list(mdata.obs) == before


class Recorder(Callback):
    """What Ray's callback would report."""

    def __init__(self):
        self.reported = []

    def on_validation_end(self, trainer, pl_module):
        self.reported.append({name: value.item() for name, value in trainer.callback_metrics.items()})

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            trainer.should_stop = True


@pytest.mark.parametrize(("model_class", "arguments"), AUTOENCODERS)
def test_callbacks_and_loggers_of_lightning_get_the_history(model_class, arguments, tmp_path):
    adata = make_adata()
    setup_anndata(adata)
    model, recorder = model_class(adata, n_latent=1, **SMALL, **arguments), Recorder()
    logger = CSVLogger(tmp_path, name="log")
    model.train(max_epochs=9, start="random", callbacks=[recorder], logger=logger, enable_progress_bar=False)
    history = model.history["elbo_validation"]["elbo_validation"].to_list()
    assert len(history) == 3, "the callback has stopped it"
    # Lightning's callbacks and loggers, and with them scvi.autotune, get the loss, as from scvi-tools.
    np.testing.assert_allclose([-each["elbo_validation"] for each in recorder.reported], history, rtol=1e-6)
    logged = np.genfromtxt(next(tmp_path.rglob("metrics.csv")), delimiter=",", names=True)
    values = logged["elbo_validation"][np.isfinite(logged["elbo_validation"])]
    np.testing.assert_allclose(-values, history, rtol=1e-5)
    assert np.isfinite(logged["elbo_train"]).sum() == 3
    alone = model_class(adata, n_latent=1, **SMALL, **arguments)
    alone.train(max_epochs=9, start="random", progress=False)
    np.testing.assert_allclose(alone.history["elbo_validation"]["elbo_validation"][:3], history, rtol=1e-6)


def test_cells_validate_in_every_epoch():
    adata = make_adata()
    setup_anndata(adata)
    with pytest.raises(ValueError, match="check_val_every_n_epoch=2, but cells validate in every epoch"):
        CountVAE(adata, n_latent=1, **SMALL).train(check_val_every_n_epoch=2)


@pytest.mark.parametrize(("model_class", "arguments"), AUTOENCODERS)
def test_autotune_runs_the_autoencoders(model_class, arguments, tmp_path):
    """For real, where Ray is installed; it starts processes, and takes half a minute."""
    ray = pytest.importorskip("ray")
    for package in ("hyperopt", "scib_metrics"):
        pytest.importorskip(package)
    from scvi.autotune import run_autotune

    adata = make_adata()
    adata.layers["counts"] = adata.X.copy()
    setup_anndata(adata, layer="counts", batch_key="batch")
    model_class.setup_anndata(adata, layer="counts", batch_key="batch")
    try:
        experiment = run_autotune(
            model_class,
            adata,
            metrics="elbo_validation",
            mode="min",
            search_space={
                "model_params": {"n_latent": ray.tune.grid_search([1, 2]), **SMALL, **arguments},
                "train_params": {"max_epochs": 2, "start": "random"},
            },
            num_samples=1,
            searcher="random",
            scheduler="fifo",
            seed=0,
            resources={"cpu": 1},
            logging_dir=str(tmp_path),
            ignore_reinit_error=True,
        )
    finally:
        ray.shutdown()
    assert not experiment.result_grid.errors
    table = experiment.result_grid.get_dataframe()
    assert set(table["config/model_params/n_latent"]) == {1, 2}
    for _, row in table.iterrows():
        model = model_class(adata, n_latent=row["config/model_params/n_latent"], **SMALL, **arguments)
        model.train(max_epochs=2, start="random", seed=0, progress=False)
        last = model.history["elbo_validation"]["elbo_validation"].iloc[-1]
        assert row["elbo_validation"] == pytest.approx(last, rel=1e-4)
