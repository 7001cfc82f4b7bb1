"""What a fit is expected to take, and what is said of it."""

import logging
import time
from types import SimpleNamespace

import pytest

import scpln
from scpln.model.base import _cost
from scpln.model.base._cost import Cost, announce, newton_cost, steps_cost
from scpln.utils import _progress


@pytest.fixture
def adata():
    adata = scpln.datasets.simulate(80, 30, n_latent=2, density=0.5)
    scpln.model.setup_anndata(adata)
    return adata


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (Cost(0.2, 3e7), "about 1 s and 30 MB"),
        (Cost(75.0, 1.26e9), "about 75 s and 1.3 GB"),
        (Cost(3000.0, 3e9), "about 50 min and 3 GB"),
        (Cost(9000.0, 1.2e10), "about 2.5 h and 12 GB"),
    ],
)
def test_in_words(cost, text):
    assert str(cost) == text


def test_costs_follow_the_sizes():
    def newton(n=5000, p=1000, q=10, **more):
        return newton_cost(n, p, q, **{"max_iter": 500, "n_threads": 1, **more})

    assert newton(n=10_000).seconds == pytest.approx(2 * newton().seconds)
    assert 1.5 < newton(p=2000).seconds / newton().seconds < 2
    assert 2 < newton(q=20).seconds / newton().seconds < 5
    assert newton(max_iter=6).seconds == pytest.approx(newton().seconds / 10)
    assert newton(n_threads=4).seconds == pytest.approx(newton().seconds / 4)
    assert newton(n_by_quadrature=1000).seconds > 5 * newton().seconds
    assert newton(n_by_quadrature=10).seconds < newton(n_by_quadrature=1000).seconds / 3
    assert newton(n=100_000).memory > 3 * newton(n=10_000).memory
    assert newton(n=31_000).seconds < newton(n=30_000).seconds  # which starts on some of the cells
    steps = {"n_steps": 100, "batch_size": 100, "n_draws": 4}
    assert steps_cost(1000, 500, **{**steps, "n_steps": 200}).seconds == pytest.approx(
        2 * steps_cost(1000, 500, **steps).seconds
    )
    assert steps_cost(1000, 500, **steps, flow="nsf").seconds > steps_cost(1000, 500, **steps, flow="planar").seconds


def test_quadrature_is_for_the_modalities_that_need_it():
    """Poisson RNA with a few negative binomial proteins takes a fraction of what all of them by quadrature do."""
    mdata = scpln.datasets.simulate_multimodal(500, {"rna": 400, "prot": 4}, n_latent=2, density={"prot": 0.9})
    scpln.model.setup_mudata(mdata, modalities=["rna", "prot"])

    def seconds(rna, prot):
        return scpln.model.PLNPCA(mdata, 2, likelihood={"rna": rna, "prot": prot}).get_cost_estimate().seconds

    assert seconds("poisson", "poisson") == scpln.model.PLNPCA(mdata, 2).get_cost_estimate().seconds
    assert seconds("poisson", "poisson") < seconds("poisson", "nb") < seconds("nb", "nb") / 3


def test_a_large_fit_as_documented(monkeypatch):
    """200,000 cells × 2,000 genes took 33 seconds of two threads and below 1 GB, where the constants were measured."""
    monkeypatch.setattr(_cost, "slowness", lambda: 0.7)
    cost = newton_cost(200_000, 2000, 10, max_iter=500, n_threads=2)
    assert 33 / 3 < cost.seconds < 33 * 3
    assert cost.memory < 1e9


@pytest.mark.parametrize(
    ("name", "choices", "less", "more"),
    [
        ("PLNPCA", {}, {"max_epochs": 5}, {}),
        ("PLNPCA", {"posterior": "flow"}, {"n_steps": 10}, {"n_steps": 500}),
        ("PLNPCA", {"amortized": True}, {"n_samples": 1}, {"n_samples": 8}),
        ("PLNPCA", {}, {}, {"n_importance_samples": 5}),
        ("CountVAE", {}, {"max_epochs": 2}, {"max_epochs": 200}),
        ("CountVAE", {}, {"start": "random"}, {"start": "plnpca"}),
        ("CountGMVAE", {"component_posteriors": True, "n_components": 5}, {"n_samples": 1}, {"n_samples": 3}),
    ],
)
def test_more_work_costs_more(adata, name, choices, less, more):
    model = getattr(scpln.model, name)(adata, n_latent=2, **choices)
    assert 0 < model.get_cost_estimate(**less).seconds < model.get_cost_estimate(**more).seconds


def test_the_order_of_magnitude_is_right():
    adata = scpln.datasets.simulate(2000, 400, n_latent=5, density=0.3)
    scpln.model.setup_anndata(adata)
    model = scpln.model.PLNPCA(adata, n_latent=10)
    expected = model.get_cost_estimate(max_epochs=30).seconds
    model.train(max_epochs=1, progress=False)  # imports what is needed
    begin = time.process_time()
    model.train(max_epochs=30, tol=1e-12, progress=False)
    assert 0.1 < (time.process_time() - begin) / expected < 10


def test_only_long_and_large_fits_are_announced(caplog, monkeypatch):
    monkeypatch.setattr(_cost, "total_memory", lambda: 8_000_000_000)
    with caplog.at_level(logging.INFO, "scpln"):
        announce(Cost(50.0, 1e9), 1000, 200)
        assert not caplog.records
        announce(Cost(300.0, 3e9), 200_000, 2000)
        announce(Cost(300.0, 5e9), 200_000, 2000)
    long, large = caplog.records
    assert long.levelname == "INFO"
    assert "about 5 min and 3 GB: 200,000 cells × 2,000 genes" in long.getMessage()
    assert large.levelname == "WARNING"
    assert "The machine has 8 GB" in large.getMessage()


@pytest.mark.parametrize(
    ("name", "training"), [("PLNPCA", {"max_epochs": 2}), ("CountVAE", {"max_epochs": 1, "start": "random"})]
)
def test_training_says_it(adata, caplog, monkeypatch, name, training):
    monkeypatch.setattr(_cost, "LONG", 0.0)
    model = getattr(scpln.model, name)(adata, n_latent=2)
    with caplog.at_level(logging.INFO, "scpln"):
        model.train(progress=False, **({"accelerator": "cpu"} if name == "CountVAE" else {}), **training)
    assert "This fit takes about" in caplog.text
    assert "80 cells × 30 genes" in caplog.text


def test_an_estimate_takes_no_time(adata):
    model = scpln.model.PLNPCA(adata, n_latent=2)
    model.get_cost_estimate()
    begin = time.process_time()
    for _ in range(20):
        model.get_cost_estimate()
    assert time.process_time() - begin < 1


def test_a_pace_that_leads_to_long_is_announced(monkeypatch, caplog):
    """While training, from iterations on these very data, whether there is a bar or not; once."""
    now = iter(float(10 * k) for k in range(100))
    monkeypatch.setattr(_progress, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    with caplog.at_level(logging.INFO, logger="scpln.cost"), _progress.progress_bar("Fit", 50, show=False) as bar:
        for iteration in range(1, 5):
            bar.update(iteration, -1.0)
    assert [record.message for record in caplog.records] == [
        "Fit: iteration 2 of at most 50 after 10 s; at this pace it takes at most 8 min more."
    ]
    caplog.clear()
    now = iter(0.01 * k for k in range(1000))
    with _progress.progress_bar("Fit", 50, show=False) as bar:
        for iteration in range(1, 51):
            bar.update(iteration, -1.0)
    assert not caplog.records
