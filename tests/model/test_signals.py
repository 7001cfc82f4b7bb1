"""Ctrl-C and SIGTERM: they end what they are to end, and nothing of a long fit is lost."""

import logging
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from scpln.core import hold_interrupts
from scpln.inference.newton.general import _fit as general
from scpln.inference.newton.poisson import _fit as poisson
from scpln.model import PLNPCA, CountVAE, setup_anndata
from scpln.model.abilities import _bounds
from scpln.model.plnpca import _fit, _query, _stages
from scpln.tl import plnpca
from scpln.train import _amortize
from scpln.train.epochs._plan import GradientPlan

from .conftest import make_adata

VAE = {"max_epochs": 3, "start": "random", "progress": False}


@pytest.fixture(autouse=True)
def keyboard_interrupts():
    """Let SIGINT raise KeyboardInterrupt, also where a shell started the tests in the background, ignoring it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def press(monkeypatch):
    """Send this process a signal, once, when a function is called."""

    def install(module, name, number=signal.SIGINT):
        function, left = getattr(module, name), [number]

        def pressed(*args, **options):
            if left:
                signal.raise_signal(left.pop())
            return function(*args, **options)

        monkeypatch.setattr(module, name, pressed)

    return install


def make(model_class, n_obs=61, **arguments):
    adata = make_adata(n_obs=n_obs, n_vars=12)
    adata = adata[adata.X.sum(1) > 0].copy()
    setup_anndata(adata, layer="counts", batch_key="batch")
    return model_class(adata, n_latent=2, **arguments)


# SIGTERM


def run(script):
    """Exit code and output of a process in which the fifth step of an autoencoder's training gets SIGTERM."""
    start = """
        import os, signal
        from scpln.train.epochs._plan import GradientPlan
        from tests.model.test_signals import VAE, CountVAE, make
        step = GradientPlan.training_step
        def training_step(self, *args):
            if self.n_done == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, *args)
        GradientPlan.training_step = training_step
    """
    code = textwrap.dedent(start) + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", code], check=False, env=os.environ, capture_output=True, text=True)


def test_sigterm_ends_a_program_that_trains():
    done = run('make(CountVAE, n_hidden=8).train(**{**VAE, "max_epochs": 10}); print("went on")')
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, ""), done.stderr


def test_sigterm_ends_the_command_line_with_its_code(tmp_path):
    make_adata(n_obs=60, n_vars=12).write_h5ad(tmp_path / "in.h5ad")
    arguments = ["fit", "in.h5ad", "--model", "countvae", "--n-hidden", "8", "--max-epochs", "10", "--out", "out.h5ad"]
    arguments = [str(tmp_path / each) if each.endswith(".h5ad") else each for each in arguments]
    done = run(f"import sys, scpln.cli; sys.exit(scpln.cli.main({arguments}))")
    assert done.returncode == 143, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]


@pytest.mark.parametrize("raises", [False, True])
def test_the_users_handler_decides(press, raises):
    """It runs, and training goes on, unless it raises."""
    seen = []

    def handler(number, frame):
        seen.append(number)
        if raises:
            sys.exit(7)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        press(GradientPlan, "training_step", signal.SIGTERM)
        model = make(CountVAE, n_hidden=8)
        if raises:
            with pytest.raises(SystemExit, match="7"):
                model.train(**VAE)
            assert not model.is_trained
        else:
            model.train(**VAE)
            assert (model.converged, model.training_["n_epochs"]) == (True, 3)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_exit_of_a_callback_is_no_ctrl_c(monkeypatch):
    monkeypatch.setattr(GradientPlan, "training_step", lambda *args: sys.exit(1))
    with pytest.raises(SystemExit):
        make(CountVAE, n_hidden=8).train(**VAE)


# Ctrl-C

FLOW = {"posterior": "flow", "n_transforms": 1, "flow_hidden": [8]}
ENCODER = {"amortized": True, "encoder_hidden": [8]}
AFTERWARDS = {
    "posteriors": (poisson, "optimize_posteriors", {}),
    "bounds": (poisson, "elbo", {}),
    "summary": (_bounds, "log_weights", {}),
    "axes": (poisson, "independent_axes", {"posterior": "meanfield"}),
    "start of a likelihood": (general, "expected_counts", {"likelihood": "nb"}),
    "posteriors of a likelihood": (general, "optimize_posteriors_likelihood", {"likelihood": "nb"}),
    "summary of a likelihood": (_bounds, "log_weights", {"likelihood": "nb"}),
    "axes of a likelihood": (general, "independent_axes", {"likelihood": "nb", "posterior": "meanfield"}),
    "context of a flow": (_fit, "standardize_context", FLOW),
    "start of a flow": (_amortize, "Minibatches", FLOW),
    "posteriors of a flow": (_fit, "encode", FLOW),
    "bounds of a flow": (_fit, "sampled_elbo", FLOW),
    "summary of a flow": (_bounds, "log_weights", FLOW),
    "posteriors of an encoder": (_fit, "encode", ENCODER),
}


@pytest.mark.parametrize("where", AFTERWARDS)
def test_ctrl_c_after_the_iterations_keeps_the_fit(press, where):
    module, name, arguments = AFTERWARDS[where]
    training = {"n_steps": 3} if {"amortized", "flow"} & {*arguments, arguments.get("posterior")} else {}
    model = make(PLNPCA, **arguments)
    press(module, name)
    model.train(max_epochs=60, progress=False, **training)
    assert model.is_trained
    assert "interrupted" in model.stop_reason
    bounds = model.get_elbo(return_mean=False)
    assert np.isfinite(bounds).all()
    assert np.abs(bounds - model.get_elbo(model.adata.copy(), return_mean=False)).max() < 1 or training or arguments
    model.annotate()


def test_ctrl_c_between_some_cells_and_all(press, monkeypatch):
    monkeypatch.setattr(poisson, "COARSE_CELLS", 45)
    model = make(PLNPCA, n_obs=150)
    totals = poisson.Totals.of
    calls = []

    def of(*args):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return totals(*args)

    monkeypatch.setattr(poisson.Totals, "of", of)
    model.train(progress=False)
    assert "interrupted between two stages" in model.stop_reason
    full = make(PLNPCA, n_obs=150)
    full.train(progress=False)
    assert model.get_elbo() == pytest.approx(full.get_elbo(), abs=2)


def test_ctrl_c_in_the_summary_of_an_autoencoder(press):
    model = make(CountVAE, n_hidden=8)
    press(_bounds, "log_weights")
    model.train(**VAE)
    assert (model.is_trained, model.training_["n_epochs"], model.training_["reliability"]) == (True, 3, None)
    assert model.stop_reason.endswith("; interrupted after that")


@pytest.mark.parametrize("arguments", [{}, ENCODER])
def test_ctrl_c_after_mapping_keeps_what_was_learned(press, arguments):
    reference = make(PLNPCA, **arguments)
    training = {"n_steps": 3} if arguments else {}
    reference.train(progress=False, **training)
    query = make_adata(n_obs=30, n_vars=12)
    query.obs["batch"] = "new"
    model = PLNPCA.load_query_data(query, reference)
    press(_query, "infer_posterior")
    model.train(progress=False, **training)
    assert "interrupted after that" in model.stop_reason
    assert np.isfinite(model.get_elbo(return_mean=False)).all()


@pytest.mark.parametrize("model_class", [PLNPCA, CountVAE])
def test_an_error_in_the_summary_does_not_cost_the_fit(monkeypatch, caplog, model_class):
    def fail(*args, **options):
        raise MemoryError

    monkeypatch.setattr(_bounds, "log_weights", fail)
    model = make(model_class)
    model.train(**(VAE if model_class is CountVAE else {"progress": False}))
    assert model.is_trained
    assert "The summary after training failed, and is left out: MemoryError: " in caplog.text
    assert "posteriors: not evaluated" in repr(model)


def test_ctrl_c_while_one_call_annotates(monkeypatch):
    adata, annotate = make_adata(n_obs=60, n_vars=12), PLNPCA.annotate

    def pressed(*args, **options):
        signal.raise_signal(signal.SIGINT)
        annotate(*args, **options)

    monkeypatch.setattr(PLNPCA, "annotate", pressed)
    plnpca(adata, layer="counts", n_latent=2, progress=False)
    assert adata.obsm["X_plnpca"].shape == (60, 2)


def test_a_second_ctrl_c_is_not_held(caplog):
    with caplog.at_level(logging.WARNING, logger="scpln"), pytest.raises(KeyboardInterrupt), hold_interrupts() as held:
        signal.raise_signal(signal.SIGINT)
        assert held.pressed
        signal.raise_signal(signal.SIGINT)
    assert "Ctrl-C again gives it up" in caplog.text


def test_the_users_own_ctrl_c_is_not_held():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *args: seen.append(1))
    with hold_interrupts() as held:
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert (seen, held.pressed) == ([1], False)


def test_stages_are_where_the_tests_look():
    """What is interrupted above is what training calls."""
    assert _stages.finish_shared is _fit.finish_shared
    assert _stages.store_posteriors is _query.store_posteriors
