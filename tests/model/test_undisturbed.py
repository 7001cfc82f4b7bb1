"""What is one for the whole process is left as it was: random numbers, threads, loggers, filters of warnings."""

import inspect
import logging
import random
import threading
import warnings
from contextlib import suppress

import matplotlib.pyplot as plt
import numpy as np
import pytest
import threadpoolctl
import torch

import scpln
from scpln.core import threads
from scpln.model import PLNPCA, CountGMVAE, CountVAE, setup_anndata
from scpln.train import torch_random, torch_threads

from .every_model import FLOW, KINDS, SMALL, make_adata, trained

ARGUMENTS = {
    "convert_legacy_save": None,  # has nothing to convert
    "differential_expression": {"groupby": "group", "n_samples_overall": 40},
    "get_elbo": {"refine": 1},
    "bootstrap": {"n_samples": 2, "progress": False},
    "jackknife": {"n_blocks": 2, "progress": False},
    "get_iw_bound": {"n_samples": 3},
    "get_posterior": {"refine": 1},
    "get_posterior_diagnostics": {"n_samples": 30},
    "test_groups": {"groupby": "group"},
    "sample_exact_posterior": {"indices": [0], "n_samples": 2, "n_warmup": 2},
    "setup_mudata": None,  # of data that these are not
    "sample_posterior": None,  # the former name of sample_exact_posterior
    "view_setup_args": None,
    "load_registry": None,
    "train": None,  # these need other arguments, and are called below
    "save": None,
    "load": None,
    "load_query_data": None,
    "prepare_query_anndata": None,
    "setup_anndata": None,
}
"""Arguments of methods that cannot do without, or are quicker with them; None for those that are not called like others."""

TOOLS = {
    "Evaluation": None,
    "RankSelection": None,
    "composition": {"sample_key": "batch", "label_key": "group"},
    "count_gmvae": {"n_components": 2, **SMALL, "n_latent": 2, "max_epochs": 1, "start": "random", "progress": False},
    "count_vae": {**SMALL, "n_latent": 2, "max_epochs": 1, "start": "random", "progress": False},
    "count_vqvae": {**SMALL, "n_codes": 2, "codebook_size": 4, "max_epochs": 1, "start": "random", "progress": False},
    "evaluate": {"n_samples": 30},
    "label_transfer": None,  # of two sets of cells
    "mixture_classifier": {"labels_key": "batch", "n_components": 1, "cv_key": "group"},
    "pln": {"max_epochs": 3, "progress": False},
    "pln_ar": {"order_key": "place", "group_key": "group", "max_epochs": 3, "progress": False},
    "pln_lda": {"labels_key": "group", "max_epochs": 3, "progress": False},
    "pln_mixture": {"n_components": 2, "max_epochs": 3, "progress": False},
    "pln_tree": {"tree": ["clade"], "max_epochs": 3, "progress": False},
    "plnpca": {"n_latent": 2, "max_epochs": 3, "progress": False},
    "posterior_predictive": {"n_samples": 2},
    "test_covariates": None,
    "tree_walk": {"tree": "clade", "max_epochs": 3, "progress": False},
    "rank_genes": {"groupby": "group"},
    "select_rank": {"ranks": [1, 2], "progress": False},
}
SOME = ["PLNPCA, nb", "PLNPCA, flow", "PLNPCA, encoder", "CountVAE, flow", "CountGMVAE by component"]
#: And those without latent states.
WALKED = ["TreeWalk, local", "TreeWalk, global"]


def states():
    """The global random numbers of Python, NumPy and torch."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (kind, keys.tobytes(), *rest), bytes(torch.get_rng_state().numpy())


class Watch:
    """Calls, and the names of those that moved random numbers."""

    def __init__(self):
        self.moved = []

    def __call__(self, name, function, *args, **options):
        before, result = states(), None
        with suppress(
            ValueError, NotImplementedError, AttributeError, TypeError, KeyError
        ):  # what a model does not have
            result = function(*args, **options)
        if states() != before:
            self.moved.append(name)
        return result


@pytest.fixture
def watch():
    watch = Watch()
    yield watch
    assert not watch.moved


def methods(model_class):
    """Names of the public methods that are the package's own."""
    for name, method in inspect.getmembers(model_class, callable):
        if not name.startswith("_"):
            own = inspect.unwrap(getattr(method, "__func__", method)).__module__
            if own.startswith("scpln"):
                yield name


@pytest.mark.parametrize("kind", [*SOME, *WALKED])
def test_random_numbers_of_methods(watch, kind):
    model = trained(kind)
    for name in methods(type(model)):
        if (arguments := ARGUMENTS.get(name, {})) is not None:
            watch(name, getattr(model, name), **arguments)
    new = model.adata[:20].copy()
    for name in ("get_latent_representation", "get_elbo", "get_normalized_expression", "get_bound_terms"):
        if kind in WALKED and name != "get_elbo":
            continue
        watch(f"{name} of new cells", getattr(model, name), new)


@pytest.mark.parametrize("kind", SOME)
def test_random_numbers_from_set_up_to_a_query(watch, kind, tmp_path):
    model_class, arguments = KINDS[kind]
    adata, path = make_adata(), tmp_path / "model"
    watch("set-up", setup_anndata, adata, batch_key="batch")
    model = watch("constructor", model_class, adata, n_latent=2, **arguments)
    steps = {"n_steps": 2} if model_class is PLNPCA and kind != "PLNPCA, nb" else {}
    epochs = {"max_epochs": 3} if model_class is PLNPCA else {"max_epochs": 1}
    watch("train", model.train, **epochs, **steps, progress=False)
    assert model.is_trained
    watch("annotate", model.annotate, diagnostics=True)
    watch("save", model.save, path)
    assert watch("load", model_class.load, path, adata) is not None
    assert watch("load without data", model_class.load, path, adata=False) is not None
    query = adata[:30].copy()
    query.obs["batch"] = "new"
    query = watch("prepare", model_class.prepare_query_anndata, query, path, inplace=False)
    mapped = watch("query", model_class.load_query_data, query, path)
    watch("training of a query", mapped.train, **epochs, **steps, progress=False)
    assert mapped.is_trained
    watch("card", scpln.hub.write, model, tmp_path / "hub")
    watch("hub", scpln.hub.load, tmp_path / "hub")


def test_random_numbers_of_tools_and_figures(watch):
    adata = make_adata()
    adata.var["clade"] = np.resize(["x", "y", "y"], adata.n_vars)
    assert set(TOOLS) == set(scpln.tl.__all__)
    for name, arguments in TOOLS.items():
        if arguments is not None and name not in ("evaluate", "posterior_predictive"):
            watch(name, getattr(scpln.tl, name), adata, **arguments)
    model = trained("CountGMVAE")
    adata = model.adata.copy()
    model.annotate(adata, diagnostics=True)
    assert watch("evaluate", scpln.tl.evaluate, model, **TOOLS["evaluate"]) is not None
    watch("posterior_predictive", scpln.tl.posterior_predictive, adata, model, **TOOLS["posterior_predictive"])
    for name in scpln.pl.__all__:
        watch(name, getattr(scpln.pl, name), adata)
        watch(name, getattr(scpln.pl, name), adata, "countgmvae")
    plt.close("all")


def test_the_law_can_fail():
    watch = Watch()
    watch("torch", torch.randn, 1)
    watch("numpy", np.random.rand)
    watch("python", random.random)
    watch("none", int, 3)
    assert watch.moved == ["torch", "numpy", "python"]


# Threads


def in_threads(*functions):
    """Results of functions that run at the same time."""
    results, start = {}, threading.Barrier(len(functions))

    def run(number, function):
        start.wait()
        results[number] = function()

    workers = [threading.Thread(target=run, args=each) for each in enumerate(functions)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [results[number] for number in range(len(functions))]


def fit(model_class, seed, **arguments):
    adata = make_adata()
    setup_anndata(adata, batch_key="batch")
    model = model_class(adata, n_latent=2, **arguments)
    epochs = {"max_epochs": 8} if model_class is PLNPCA else {"max_epochs": 4, "start": "random"}
    model.train(seed=seed, progress=False, **epochs, **({"n_steps": 20} if "posterior" in arguments else {}))
    return model.get_latent_representation()


@pytest.mark.parametrize("which", ["autoencoders", "flow beside autoencoder"])
def test_trainings_in_threads_are_those_one_after_the_other(which):
    jobs = [
        (lambda: fit(CountVAE, 1, n_hidden=8, dropout_rate=0.2))
        if which == "autoencoders"
        else (lambda: fit(PLNPCA, 1, **FLOW)),
        lambda: fit(CountGMVAE, 2, n_hidden=8, n_components=2, dropout_rate=0.2),
    ]
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    alone = [job() for job in jobs]
    before = states(), [each.level for each in loggers], list(warnings.filters), torch.get_num_threads()
    together = in_threads(*jobs)
    assert before == (states(), [each.level for each in loggers], list(warnings.filters), torch.get_num_threads())
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def overlapping(make):
    """Enter in two threads, so that the one that entered first leaves first."""
    entered, left = threading.Event(), threading.Event()

    def first():
        with make():
            entered.wait()
        left.set()

    def second():
        with make():
            entered.set()
            left.wait()

    in_threads(first, second)


def test_threads_of_torch_are_left_as_they_were():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        overlapping(lambda: torch_threads(1))
        seen = in_threads(torch.get_num_threads)
        assert (torch.get_num_threads(), seen) == (2, [2])
    finally:
        torch.set_num_threads(before)


def test_threads_of_blas_are_left_as_they_were():
    def numbers():
        return {each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"}

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        overlapping(lambda: threads(1))
        assert numbers() == {2}
        with threads(1):
            assert numbers() == {1}


def test_random_numbers_take_turns():
    inside = []

    def draw(seed):
        with torch_random(seed):
            inside.append(seed)
            values = [torch.randn(1).item() for _ in range(200)]
            assert inside[-1] == seed
        return values

    alone = [draw(0), draw(1)]
    assert in_threads(lambda: draw(0), lambda: draw(1)) == alone
