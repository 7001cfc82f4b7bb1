"""One small trained model of every kind: each class, with each of its likelihoods, posteriors and priors."""

from functools import cache

import numpy as np
import scanpy as sc

from scpln.datasets import simulate
from scpln.model import PLN, PLNAR, PLNLDA, PLNPCA, CountGMVAE, CountVAE, PLNMixture, PLNTree, TreeWalk, setup_anndata

FLOW = {"posterior": "flow", "n_transforms": 1, "flow_hidden": [8]}
SMALL = {"n_hidden": 8}
IN_GENE_SPACE = (PLN, PLNMixture, PLNLDA, PLNAR, PLNTree)
#: Have no latent state of a cell, and no expression: totals are given, and what is hidden are orders. So they are no KINDS, whose laws are of both.
WITHOUT_STATES = (TreeWalk,)
#: Whose cells depend on each other, so that what looks at each by itself (diagnostics, exact sampling, comparisons of groups) is not there.
DEPENDENT = (PLNAR,)
KINDS = {
    **{f"PLNPCA, {name}": (PLNPCA, {"likelihood": name}) for name in ("poisson", "nb", "zip", "zinb", "bernoulli")},
    "PLNPCA, poisson_lognormal": (PLNPCA, {"likelihood": "poisson_lognormal"}),
    "PLNPCA, gaussian": (PLNPCA, {"likelihood": "gaussian"}),
    "PLNPCA, meanfield": (PLNPCA, {"posterior": "meanfield"}),
    "PLNPCA, mixture": (PLNPCA, {"n_components": 2}),
    "PLNPCA, flow": (PLNPCA, FLOW),
    "PLNPCA, encoder": (PLNPCA, {"amortized": True, "encoder_hidden": [8]}),
    "PLNPCA, importance": (PLNPCA, {"prior": "none", "inference": "importance"}),
    "PLN": (PLN, {}),
    **{f"PLN, {name}": (PLN, {"likelihood": name}) for name in ("nb", "zip")},
    "PLN, meanfield": (PLN, {"posterior": "meanfield"}),
    "PLN, network": (PLN, {"penalty": 0.05}),
    "PLN, factor": (PLN, {"covariance": "factor", "n_factors": 2}),
    "PLNMixture": (PLNMixture, {"n_components": 2}),
    "PLNMixture, spherical": (PLNMixture, {"n_components": 2, "covariance": "spherical"}),
    "PLNMixture, factor": (PLNMixture, {"n_components": 2, "covariance": "factor", "n_factors": 2}),
    "PLNLDA": (PLNLDA, {}),
    "PLNAR": (PLNAR, {"order_key": "place", "group_key": "group"}),
    "PLNTree": (PLNTree, {"tree": ["clade"]}),
    "PLNTree, encoder": (PLNTree, {"tree": ["clade"], "amortized": True, "encoder_hidden": [8]}),
    "PLN, quadrature": (PLN, {"covariance": "diagonal", "inference": "quadrature"}),
    "PLN, importance": (PLN, {"inference": "importance"}),
    "CountVAE": (CountVAE, SMALL),
    "CountVAE, bernoulli": (CountVAE, {**SMALL, "likelihood": "bernoulli"}),
    "CountVAE, gaussian": (CountVAE, {**SMALL, "likelihood": "gaussian"}),
    "CountVAE, shares": (CountVAE, {**SMALL, "scale_activation": "softmax"}),
    "CountVAE, categories": (CountVAE, {**SMALL, "likelihood": "poisson", "k_max": 3}),
    "CountVAE, zinb by cell": (CountVAE, {**SMALL, "likelihood": "zinb", "dispersion": "gene-cell"}),
    "CountVAE, poisson_lognormal by batch": (
        CountVAE,
        {**SMALL, "likelihood": "poisson_lognormal", "dispersion": "gene-batch"},
    ),
    "CountVAE, flow": (CountVAE, {**SMALL, **FLOW}),
    "CountGMVAE": (CountGMVAE, {**SMALL, "n_components": 2}),
    "CountGMVAE by component": (CountGMVAE, {**SMALL, "n_components": 2, "component_posteriors": True}),
}
#: What is without states, for the laws that are of every model.
WALKS = {
    f"TreeWalk, {walk}": (TreeWalk, {"tree": ["clade"], "walk": walk, "max_children": 3, "n_state": 2})
    for walk in ("local", "exchangeable", "global")
}
#: With comparisons of groups, and with offsets and masks of entries, which counts on a tree lack, and entries PLN-PCA by importance weights.
COMPARED = [kind for kind, (model_class, _) in KINDS.items() if hasattr(model_class, "test_groups")]
OF_ENTRIES = [
    kind for kind, (model_class, _) in KINDS.items() if model_class is not PLNTree and kind != "PLNPCA, importance"
]
INDEPENDENT = [kind for kind, (model_class, _) in KINDS.items() if model_class not in DEPENDENT]


def make_adata(n_obs=90, n_vars=14):
    adata = simulate(n_obs=n_obs, n_vars=n_vars, n_latent=2, n_batches=2, density=0.5, seed=0)
    adata.obs["group"] = np.resize(["a", "b", "b"], n_obs)
    adata.obs["place"] = np.random.default_rng(0).permutation(n_obs)
    adata.var["clade"] = np.resize(["a", "a", "b"], n_vars)
    adata.layers["log"] = adata.X.toarray().astype(np.float64)
    sc.pp.log1p(adata, layer="log")
    return adata


@cache
def trained(kind):
    """The model of a kind; do not change it."""
    return train(kind, make_adata())


def train(kind, adata, **keys):
    """A model of a kind, trained for a few iterations on these cells."""
    model_class, arguments = (KINDS | WALKS)[kind]
    real = arguments.get("likelihood") == "gaussian"
    if model_class is PLNLDA:
        adata.obs["label"] = np.resize(["x", "y", "y", "x"], adata.n_obs)
        keys = {"labels_key": "label", **keys}
    setup_anndata(adata, layer="log" if real else None, batch_key="batch", is_count_data=not real, **keys)
    sizes = {} if model_class in (*IN_GENE_SPACE, *WITHOUT_STATES) else {"n_latent": 2}
    model = model_class(adata, **sizes, **arguments)
    epochs = (
        {"max_epochs": 10}
        if model_class in (*IN_GENE_SPACE, *WITHOUT_STATES, PLNPCA)
        else {"max_epochs": 2, "start": "random"}
    )
    if {"posterior": "flow"}.items() <= arguments.items() or "amortized" in arguments:
        epochs |= {"n_steps": 5} if model_class in (PLNPCA, PLNTree) else {}
    model.train(**epochs, progress=False)
    return model
