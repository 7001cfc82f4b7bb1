"""Every argument of every public method refuses what is not its kind, by its name, and before anything is computed."""

import inspect
import math
import warnings
from pathlib import Path

import pytest

import scpln
from scpln.model import PLN, PLNAR, PLNLDA, PLNPCA, CountGMVAE, CountVAE, PLNMixture, PLNTree, TreeWalk, setup_anndata
from scpln.utils import keywords

from .every_model import IN_GENE_SPACE, KINDS, WALKS, WITHOUT_STATES, make_adata, trained

WRONG = [object(), "no", math.nan, math.inf, -1, 10**30, []]
KIND = {
    PLN: "PLN",
    PLNMixture: "PLNMixture",
    PLNLDA: "PLNLDA",
    PLNAR: "PLNAR",
    PLNTree: "PLNTree",
    TreeWalk: "TreeWalk, global",
    PLNPCA: "PLNPCA, nb",
    CountVAE: "CountVAE",
    CountGMVAE: "CountGMVAE",
}
METHODS = [
    "annotate",
    "differential_expression",
    "get_cluster_probabilities",
    "get_cluster_summary",
    "get_component_parameters",
    "get_component_selection",
    "get_correlation",
    "get_discriminant_axes",
    "get_discriminant_scores",
    "get_means",
    "get_precision",
    "get_bound_terms",
    "get_autoregression",
    "get_innovation_covariance",
    "get_coefficients",
    "get_cost_estimate",
    "get_covariance",
    "get_elbo",
    "get_expression_interval",
    "get_gene_parameters",
    "get_iw_bound",
    "get_latent_dimensions",
    "get_latent_representation",
    "get_loadings",
    "get_node_log_likelihoods",
    "get_normalized_expression",
    "get_posterior",
    "get_posterior_diagnostics",
    "get_proportions",
    "get_variance_explained",
    "get_visit_ranks",
    "posterior_predictive_sample",
    "predict",
    "prior_predictive_sample",
    "sample",
    "sample_exact_posterior",
    "train",
    "vamp_sample",
]
DATA = {"self", "adata", "registry"}
#: Batches and groups may be named by numbers; devices are Lightning's to check.
ELSEWHERE = {"transform_batch", "batchid1", "batchid2", "group1", "group2", "devices", "accelerator"}
#: What a method needs beside the argument that is wrong.
NEEDED = {"differential_expression": {"groupby": "batch", "group1": "0", "silent": True}}
#: Values of these lists that are of the right kind.
RIGHT = {
    "key_added": ["no"],
    "checkpoint_dir": ["no"],
    "train": [[]],
    "categorical_covariate_keys": [[]],
    "continuous_covariate_keys": [[]],
    "indices": [-1],
    "idx1": [-1],
    "idx2": [-1],
    "delta": [-1, 10**30],
    "batch_sd": [10**30],  # there is one batch
    "callbacks": [[]],
    "decoder_hidden": [[]],
    **{name: [10**30] for name in ("library_size", "tol", "gradient_clip", "free_bits", "weight_decay", "penalty")},
}
#: What a message says in place of a name.
SAID = {
    "modality": "no modality|leave modality out",
    "indices": "indices",
    "gene_list": "genes are not in the model",
    "genes": "genes are not in the model",
    "given": "genes are not in the model",
}


def wrong_for(name):
    return [value for value in WRONG if not any(type(value) is type(ok) and value == ok for ok in RIGHT.get(name, ()))]


def refused(call, name, value):
    """Whether a call ends in the package's own words about this argument."""
    try:
        call(**{name: value})
    except (TypeError, ValueError, IndexError) as error:
        said = str(error)
    else:
        pytest.fail(f"{name}={value!r} is taken")
    words = [name, *SAID.get(name, "").split("|")]
    assert any(word and word in said for word in words), f"{name}={value!r}: {said}"


@pytest.mark.parametrize("model_class", KIND)
@pytest.mark.filterwarnings("ignore")
def test_constructors(model_class):
    adata = make_adata(n_obs=20, n_vars=6)
    setup_anndata(adata, batch_key="batch", labels_key="group")
    needed = {
        "flow": {"posterior": "flow"},
        "n_transforms": {"posterior": "flow"},
        "flow_hidden": {"posterior": "flow"},
    }
    needed |= {"given": {"covariance": "fixed"}, "basis": {"covariance": "basis"}}
    needed["encoder_hidden"] = {"amortized": True} if model_class in (PLNPCA, PLNTree) else {}
    for name in keywords(model_class.__init__):
        if name in DATA:
            continue
        for value in wrong_for(name):
            more = {
                **({} if model_class in (*IN_GENE_SPACE, *WITHOUT_STATES) else {"n_latent": 2}),
                **needed.get(name, {}),
            }
            more.pop(name, None)
            refused(lambda **given: model_class(adata, **more, **given), name, value)  # noqa: B023


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_class", KIND)
@pytest.mark.filterwarnings("ignore")
def test_methods(model_class, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = getattr(trained(KIND[model_class]), method, None)
    linear = ("get_loadings", "get_coefficients", "get_covariance", "get_variance_explained")
    of_mixtures = ("get_cluster_probabilities", "get_cluster_summary", "get_component_parameters", "predict")
    if (
        function is None
        or (method in (linear if model_class is not PLNPCA else of_mixtures) and model_class is not CountGMVAE)
        or (method in linear and model_class is not PLNPCA)
    ):
        pytest.skip("it has none")
    for name in keywords(getattr(model_class, method)):
        if name in DATA | ELSEWHERE:
            continue
        for value in wrong_for(name):
            needed = {key: each for key, each in NEEDED.get(method, {}).items() if key != name}
            refused(lambda **given: function(**needed, **given), name, value)  # noqa: B023
    assert not list(Path().iterdir())


FUNCTIONS = {
    "evaluate": (lambda **given: scpln.tl.evaluate(trained("PLNPCA, nb"), **given), scpln.tl.evaluate),
    "posterior_predictive": (
        lambda **given: scpln.tl.posterior_predictive(trained("PLNPCA, nb"), **given),
        scpln.tl.posterior_predictive,
    ),
    "simulate": (
        lambda **given: scpln.datasets.simulate(**{"n_obs": 20, "n_vars": 5, **given}),
        scpln.datasets.simulate,
    ),
    "search": (
        lambda **given: scpln.tune.search(PLNPCA, trained("PLNPCA, nb").adata, **{"space": {"n_latent": [1]}, **given}),
        scpln.tune.search,
    ),
    "plnpca": (
        lambda **given: scpln.tl.plnpca(make_adata(n_obs=20, n_vars=6), **{"n_latent": 2, **given}),
        scpln.tl.plnpca,
    ),
    "setup_anndata": (lambda **given: setup_anndata(make_adata(n_obs=20, n_vars=6), **given), setup_anndata),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore")
def test_functions(name):
    call, signature = FUNCTIONS[name]
    for argument in keywords(signature):
        if argument in DATA | {"model", "model_class"}:
            continue
        for value in wrong_for(argument):
            refused(call, argument, value)


def test_each_model_has_its_kind():
    every = KINDS | WALKS
    assert {every[kind][0] for kind in KIND.values()} == {made for made, _ in every.values()}


@pytest.mark.parametrize("model_class", [CountVAE, CountGMVAE])
def test_checkpoints_are_in_a_directory(model_class, tmp_path):
    (tmp_path / "file").write_text("something")
    with pytest.raises(ValueError, match=r"checkpoint_dir=.* is no directory"):
        trained(KIND[model_class]).train(checkpoint_dir=tmp_path / "file")


def test_limits():
    adata = make_adata(n_obs=20, n_vars=6)
    setup_anndata(adata)
    with pytest.raises(ValueError, match="n_components=1,000,000,000, but it can be at most 1,000"):
        CountGMVAE(adata, n_components=10**9)
    with pytest.raises(ValueError, match="k_max=10000000, but it must be at most 500"):
        CountVAE(adata, k_max=10**7)
    with pytest.raises(ValueError, match="n_latent=100000, but it must be at most 500"):
        CountVAE(adata, n_latent=100_000)
    with pytest.raises(ValueError, match="n_layers=1000, but it must be at most 100"):
        CountVAE(adata, n_layers=1000)
    with pytest.raises(ValueError, match=r"seed=\d+, but it must be at most 4,294,967,295"):
        trained("CountVAE").train(seed=2**70)
    with pytest.raises(TypeError, match="gene_list=5, but it must be a name or a list of names"):
        trained("CountVAE").get_normalized_expression(gene_list=5)


def test_right_values_are_accepted():
    """Numbers and truth values of NumPy, and one callback in place of a list."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = trained("PLNPCA, nb")
        model.get_normalized_expression(library_size=np.float32(3), n_samples=np.int64(2), return_numpy=np.True_)
        assert inspect.signature(model.get_elbo).parameters["return_mean"].default is True
