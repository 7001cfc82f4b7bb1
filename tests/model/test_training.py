"""Training: history, progress, stopping, interruption."""

import logging
import re

import numpy as np
import pytest
import scvi

from scpln.inference import _gaussians
from scpln.model import PLNPCA, setup_anndata
from scpln.utils import _progress

from .conftest import train


@pytest.fixture
def model(adata) -> PLNPCA:
    setup_anndata(adata, layer="counts", batch_key="batch")
    return PLNPCA(adata, n_latent=2)


def test_history_and_reason(model, caplog):
    assert (model.is_trained, model.converged, model.stop_reason, model.history) == (False, None, "not trained", None)
    with caplog.at_level(logging.INFO, logger="scpln"):
        model.train(progress=False)
    assert (model.is_trained, model.converged) == (True, True)
    assert "converged" in model.stop_reason
    assert model.stop_reason in caplog.text
    assert list(model.history) == ["elbo", "objective", "seconds"]
    bounds = model.history["elbo"]
    assert (bounds.index.name, bounds.index[0], list(bounds.columns)) == ("epoch", 1, ["elbo"])
    objective = model.history["objective"]["objective"].iloc[-1]
    assert objective < bounds["elbo"].iloc[-1] < model.get_elbo()  # of counts and loadings; over, and at, the loadings
    assert (np.diff(model.history["seconds"]["seconds"]) >= 0).all()


def test_too_few_epochs_are_a_warning(model, caplog):
    model.train(max_epochs=2, progress=False)
    assert model.is_trained
    assert model.converged is False
    assert len(model.history["elbo"]) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert re.search("PLNPCA stopped after 2 iterations, the maximum", caplog.text)


def test_repr_tells_the_state(model):
    untrained = (
        "PLNPCA(n_latent=2, n_components=1, posterior='fullrank', prior='learned', inference='variational', likelihood='poisson', amortized=False)\n"
        "  data: 150 cells × 30 genes, adata.layers['counts'], batch_key='batch'\n"
        "  design: (Intercept), batch[T.1]\n"
        "  status: not trained"
    )
    assert repr(model) == untrained
    model.train(progress=False)
    assert re.search(r"status: trained, -\d+\.\d{3} nats per cell; converged", repr(model))


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_progress_bar_follows_scvis_style(model, style, monkeypatch, capsys):
    monkeypatch.setattr(scvi.settings, "progress_bar_style", style)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(_progress, "_is_watched", lambda: True)
    model.train()
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{model.history['elbo']['elbo'].iloc[-1]:.3f} nats per cell; {model.stop_reason}" in err
    n = len(model.history["elbo"])
    assert (f" {n}/{n} " in err) if style == "tqdm" else ("100%" in err)
    model.train(progress=False)
    assert capsys.readouterr() == ("", "")


def test_progress_in_a_file_is_a_line_now_and_then(model, monkeypatch, capsys):
    model.train()
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"PLNPCA, fullrank Gaussians: converged: .* \(\d+ s\)\n", err)
    monkeypatch.setattr(_progress, "_BETWEEN_LINES", 0.0)
    model.train()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(model.history["elbo"]) + 1
    assert re.fullmatch(r"PLNPCA, fullrank Gaussians: 2/500 iterations, -\d+\.\d+ nats per cell \(\d+ s\)", lines[1])


def test_what_takes_long_gets_a_bar_by_itself(model, monkeypatch, capsys):
    model.train(progress=False)
    model.get_iw_bound(n_samples=5)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(_progress, "_is_watched", lambda: True)
    model.get_iw_bound(n_samples=5)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(_progress, "_SLOW", -1.0)
    model.get_iw_bound(n_samples=5)
    assert "PLNPCA, importance weights" in capsys.readouterr().err


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_seed_repeats_and_seeds_agree(adata, posterior):
    setup_anndata(adata, layer="counts", batch_key="batch")
    latents = []
    for seed in (0, 0, 1):
        model = PLNPCA(adata, n_latent=2, posterior=posterior)
        model.train(progress=False, seed=seed, n_threads=1, tol=1e-6)
        latents.append(model.get_latent_representation())
    np.testing.assert_array_equal(latents[0], latents[1])
    np.testing.assert_allclose(latents[0], latents[2], atol=0.05)


def test_default_seed_is_scvis(model, monkeypatch):
    seeds = []
    fit = _gaussians.fit
    monkeypatch.setattr(
        _gaussians, "fit", lambda *args, seed, **kwargs: seeds.append(seed) or fit(*args, seed=seed, **kwargs)
    )
    model.train(progress=False)
    monkeypatch.setattr(scvi.settings, "_seed", 5)
    model.train(progress=False)
    model.train(progress=False, seed=np.int64(3))
    assert seeds == [0, 5, 3]
    assert model.training_["seed"] == 3


def test_blocks_do_not_matter(adata, fullrank):
    setup_anndata(adata, layer="counts", batch_key="batch")
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False, block_size=7)
    np.testing.assert_allclose(model.get_elbo(), fullrank.get_elbo(), atol=1e-3)
    np.testing.assert_allclose(fullrank.get_elbo(adata, batch_size=11), fullrank.get_elbo(adata), atol=1e-5)


def test_batch_size_of_gaussians_is_block_size(adata, fullrank):
    """As it once was; with stochastic steps it is the cells in each."""
    setup_anndata(adata, layer="counts", batch_key="batch")
    model = PLNPCA(adata, n_latent=2)
    with pytest.warns(FutureWarning, match="block_size=... in its place"):
        model.train(progress=False, batch_size=7)
    assert model.training_["block_size"] == 7
    np.testing.assert_allclose(model.get_elbo(), fullrank.get_elbo(), atol=1e-3)
    flow = PLNPCA(adata, n_latent=2, posterior="flow")
    flow.train(progress=False, batch_size=7, n_steps=5)
    assert (flow.training_["batch_size"], flow.training_["block_size"]) == (7, None)


def test_interrupt_keeps_what_was_reached(model, monkeypatch, caplog):
    def interrupt(iteration: int, bound: float) -> None:
        if iteration == 3:
            raise KeyboardInterrupt

    fit = _gaussians.fit
    monkeypatch.setattr(
        _gaussians, "fit", lambda *args, on_iteration, **kwargs: fit(*args, on_iteration=interrupt, **kwargs)
    )
    model.train(progress=False)
    assert model.is_trained
    assert model.converged is False
    assert "interrupted after 3 iterations" in model.stop_reason
    assert "interrupted after 3 iterations" in caplog.text
    assert "interrupted" in repr(model)
    model.annotate()
    assert model.get_elbo() == pytest.approx(model.history["elbo"]["elbo"].iloc[-1], abs=2)


def test_interrupt_before_the_first_iteration_leaves_the_model_as_it_was(adata, monkeypatch):
    model = train(adata, layer="counts", batch_key="batch")
    before = model.get_elbo()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_gaussians, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.train(progress=False)
    assert model.get_elbo() == before


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("max_epochs", 0, ValueError),
        ("max_epochs", 2.5, TypeError),
        ("tol", -1.0, ValueError),
        ("tol", float("nan"), ValueError),
        ("batch_size", 0, ValueError),
        ("block_size", 0, ValueError),
        ("n_threads", 0, ValueError),
        ("seed", -1, ValueError),
    ],
)
def test_options_must_make_sense(model, argument, value, error):
    with pytest.raises(error, match=f"{argument}={value!r}, but it must be"):
        model.train(**{argument: value})
    assert not model.is_trained
