"""Models go through pickle and its relatives, and copies, and come out with all that they know."""

import copy
import gc
import pickle

import cloudpickle
import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

from scpln.data import _manager
from scpln.model import PLNPCA, CountVAE, setup_anndata

from .every_model import KINDS, make_adata, trained

WAYS = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "cloudpickle": lambda model: pickle.loads(cloudpickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def results(model):
    """Results of every sort: stored, inferred for data that count as new, and drawn."""
    return [
        model.get_latent_representation(),
        model.get_elbo(return_mean=False),
        model.get_elbo(model.adata.copy(), indices=[0, 3], return_mean=False, seed=1),
        model.posterior_predictive_sample(indices=[0, 3], n_samples=2, seed=3).todense(),
        model.prior_predictive_sample(3, seed=4),
    ]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind):
    """By pickle and as a copy, which share how they take a model apart."""
    model = trained(kind)
    for way in ("pickle", "deepcopy"):
        again = WAYS[way](model)
        assert_same(results(again), results(model))
        assert again._is_training_data(None)
        assert repr(again) == repr(model)
        assert again.history.keys() == model.history.keys()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model_class", [PLNPCA, CountVAE])
def test_untrained_models_can_be_trained(way, model_class):
    adata = make_adata()
    setup_anndata(adata, batch_key="batch")
    options, start = ({"n_hidden": 8}, {"start": "random"}) if model_class is CountVAE else ({}, {})
    model = model_class(adata, n_latent=1, **options)
    again = WAYS[way](model)
    assert not again.is_trained
    for each in (model, again):
        each.train(max_epochs=3, progress=False, **start)
    assert_same([again.get_latent_representation()], [model.get_latent_representation()])


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_stands_by_itself(way):
    """Its end is not that of the original, and its data are set up for other models."""
    model = WAYS["deepcopy"](trained("PLNPCA, nb"))
    again = WAYS[way](model)
    assert again.id != model.id
    assert (again.adata is model.adata) == (way == "copy")
    PLNPCA(again.adata, n_latent=1)
    expected = model.get_elbo()
    del model
    gc.collect()
    assert again.get_elbo() == expected
    again.annotate(diagnostics=False)
    assert _manager.find(again.adata) is not None


def test_without_data(tmp_path):
    model = trained("CountGMVAE")
    model.save(tmp_path)
    loaded = type(model).load(tmp_path, False)
    for way in WAYS.values():
        assert way(loaded).adata is None
        np.testing.assert_array_equal(
            way(loaded).get_latent_representation(model.adata), model.get_latent_representation()
        )


def elbo(model):
    return model.get_elbo(return_mean=False)


def test_joblib_and_another_process(tmp_path):
    models = [trained(kind) for kind in ("PLNPCA, nb", "CountVAE")]
    joblib.dump(models, tmp_path / "models.joblib")
    expected = [elbo(model) for model in models]
    assert_same([elbo(model) for model in joblib.load(tmp_path / "models.joblib")], expected)
    with get_reusable_executor(max_workers=1) as worker:
        assert_same(worker.map(elbo, models), expected)
