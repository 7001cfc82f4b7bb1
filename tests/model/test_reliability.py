"""How far posteriors can be trusted is kept as numbers, and said in words where it is shown."""

import logging

import pytest

from scpln.datasets import simulate
from scpln.model import PLNPCA, CountVAE, setup_anndata
from scpln.model.base import reliability_in_words
from scpln.model.base._reliability import say_reliability

from .every_model import INDEPENDENT, trained

FOUND = {"gap": 0.25, "unreliable": 0.1, "n_cells": 50}
WORDS = "0.250 nats per cell below the log-likelihood, Pareto k̂ > 0.7 for 10.0 % of 50 cells"


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"reliability": FOUND}, WORDS),
        ({"reliability": FOUND, "posterior": "what version 0.1.0 said"}, WORDS),
        ({"posterior": "what version 0.1.0 said"}, "what version 0.1.0 said"),
        ({"reliability": None}, "not evaluated"),
        ({}, None),
    ],
)
def test_words(training, expected):
    assert reliability_in_words(training) == expected


@pytest.mark.parametrize("model_class", [PLNPCA, CountVAE])
def test_numbers_are_kept_and_words_are_shown(model_class, tmp_path):
    adata = simulate(n_obs=60, n_vars=12, n_latent=2, seed=0)
    setup_anndata(adata)
    model = model_class(adata, n_latent=2)
    model.train(max_epochs=2, progress=False)
    model.annotate(diagnostics=False)
    words = reliability_in_words(model.training_)
    assert words is not None
    assert f"posteriors: {words}" in repr(model)
    uns = adata.uns[model_class.__name__.lower()]["training"]
    assert "posterior" not in model.training_.keys() | uns.keys()
    assert set(uns["reliability"]) == set(FOUND)
    model.training_ = {**model.training_, "posterior": "what version 0.1.0 said"}
    del model.training_["reliability"]
    model.save(tmp_path / "old")
    assert "posteriors: what version 0.1.0 said" in repr(model_class.load(tmp_path / "old", adata))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"gap": 2.0, "unreliable": 0.05}, None),
        ({"gap": 0.05, "unreliable": 0.3}, "tails that are too thin"),
        ({"gap": 2.0, "unreliable": 0.3}, "To come closer, do this."),
    ],
)
def test_a_share_that_alarms_is_explained(found, said, caplog):
    with caplog.at_level(logging.INFO, logger="scpln"):
        say_reliability({"reliability": {**found, "n_cells": 50}}, "do this")
    assert (len(caplog.records) == 1) if said is None else (said in caplog.records[1].message)


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_what_is_advised_can_be_done(kind):
    model = trained(kind)
    if "refine=50" in model._closer_posteriors:
        assert len(model.get_posterior(refine=1, indices=[0, 1])) == 2
    else:
        assert model._closer_posteriors
