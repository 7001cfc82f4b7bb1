"""Arguments by their names in scvi-tools are answered with what there is here."""

import inspect
import re
from pathlib import Path

import pytest
import scvi.model as theirs

import scpln
from scpln import model as ours
from scpln._catalogue import SCVI_NAMES
from scpln.utils import keywords

FAQ = Path(__file__).parents[2] / "docs" / "faq.md"
MODELS = (ours.PLNPCA, ours.CountVAE, ours.CountGMVAE)
SHARED = (
    "__init__",
    "setup_anndata",
    "setup_mudata",
    "train",
    "get_elbo",
    "get_latent_representation",
    "get_normalized_expression",
    "posterior_predictive_sample",
    "predict",
    "load_query_data",
)
#: Of proteins, of minified data, of explanations by gradients, and of loading.
WITHOUT = {
    ("load_query_data", "accelerator"),
    "device",
    "empirical_protein_background_prior",
    "ig_args",
    "ig_interpretability",
    "override_missing_proteins",
    "panel_key",
    "protein_dispersion",
    "registry",
    "use_minified",
    "weights",
}


def arguments():
    """Of each shared method, what scvi-tools' has and ours has not."""
    for model in MODELS:
        for name in SHARED:
            for other in (theirs.SCVI, theirs.SCANVI, theirs.LinearSCVI, theirs.TOTALVI):
                if hasattr(model, name) and hasattr(other, name):
                    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
                    parameters = inspect.signature(getattr(other, name)).parameters.values()
                    known = keywords(getattr(model, name))
                    yield from (
                        (model, name, each.name)
                        for each in parameters
                        if each.kind not in kinds and each.name not in known
                    )


@pytest.mark.parametrize(
    ("model", "name", "argument"),
    sorted({each for each in arguments() if each[1:] not in WITHOUT and each[2] not in WITHOUT}, key=str),
)
def test_every_argument_of_scvi_tools_has_a_hint(model, name, argument):
    call = model if name == "__init__" else getattr(model, name)
    with pytest.raises(TypeError, match="which is one of scvi-tools") as raised:
        call(None, **{argument: 1})
    assert SCVI_NAMES[argument].remedy in str(raised.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ours.CountVAE.train(None, lr=0.1), "Pass learning_rate="),
        (lambda: ours.CountVAE.train(None, plan_kwargs={"lr": 0.1}), "pass learning_rate="),
        (lambda: ours.PLNPCA.train(None, accelerator="gpu"), "PLN-PCA is fitted on the processor"),
        (lambda: ours.CountVAE(None, gene_likelihood="nb"), "Pass likelihood="),
        (lambda: scpln.tl.plnpca(scpln.datasets.simulate(20, 5), lr=0.1), "Pass learning_rate="),
        (lambda: ours.PLNPCA(None, n_latents=3), "Did you mean 'n_latent'?"),
    ],
)
def test_hints(call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_remedies_name_arguments_that_there_are():
    known = {
        name
        for model in MODELS
        for method in dir(model)
        if callable(each := getattr(model, method))
        for name in safe(each)
    }
    for name, (counterpart, _) in SCVI_NAMES.items():
        assert counterpart is None or counterpart in known, name


def safe(function):
    try:
        return keywords(function)
    except (TypeError, ValueError):
        return {}


def test_the_page_of_questions_says_the_same():
    rows = [line.split(" | ") for line in FAQ.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    found = set()
    for theirs_, *here in rows:
        for code in re.findall(r"`([^`]*)`", theirs_):
            for name in re.findall(r"\b(\w+)\b", code):
                counterpart = SCVI_NAMES.get(name)
                if counterpart is not None and counterpart.name not in (None, name):
                    assert counterpart.name in " ".join(here), name
                    found.add(name)
    assert {
        "gene_likelihood",
        "use_observed_lib_size",
        "n_epochs_kl_warmup",
        "train_size",
        "lr",
    } <= found
