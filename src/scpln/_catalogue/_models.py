"""The rows: a model is one of them."""

from __future__ import annotations

from ._autoencoders import AUTOENCODERS
from ._entry import Entry, Option, Result
from ._gene_space import GENE_SPACE
from ._labels import LABELS
from ._shared import AMORTIZED, LIKELIHOODS, N_SAMPLES, N_STEPS, POSTERIORS
from ._tree_walk import TREE_WALK

MODELS = {
    entry.key: entry
    for entry in (
        Entry(
            "plnpca",
            "scpln.model.PLNPCA",
            "Poisson log-normal PCA",
            "Poisson log-normal principal component analysis: a linear latent variable model of counts.",
            likelihoods=LIKELIHOODS,
            posteriors=POSTERIORS,
            function="plnpca",
            page="models/plnpca",
            options=(
                Option(
                    "prior",
                    "prior of loadings, under which dimensions that explain nothing vanish; none is maximum likelihood",
                    "choice",
                    choices=("learned", "none"),
                    default="learned",
                ),
                Option(
                    "inference",
                    "how coefficients and loadings are estimated: by the bound, or by the importance-weighted one, with --prior none",
                    "choice",
                    choices=("variational", "importance"),
                    default="variational",
                ),
                N_SAMPLES,
                Option(
                    "n_components",
                    "components of a mixture prior, which clusters cells; 1 is one normal prior",
                    metavar="K",
                    default=1,
                ),
                AMORTIZED,
                N_STEPS,
                Option(
                    "n_importance_samples",
                    "train on the importance-weighted bound with so many draws, if above 1",
                    metavar="K",
                    default=1,
                ),
                Option(
                    "block_size",
                    "cells in memory at a time, for data on disk",
                    metavar="N",
                    default="as many as suit the processor's cache",
                ),
            ),
            defaults={"max_epochs": 500, "batch_size": 512, "learning_rate": 0.004, "n_threads": "all"},
            notes={"max_epochs": "of the Gaussians"},
            results=(
                Result(('varm["KEY_loadings"]',), "loadings of every gene"),
                Result(
                    ('varm["KEY_expression_loadings"]',),
                    "the same on the scale of expression, by which figures rank genes",
                ),
                Result(
                    ('obsm["KEY_state"]',), "posterior mean of the latent state, in the coordinates of the loadings"
                ),
                Result(
                    ('obs["KEY_cluster"]', 'obsm["KEY_cluster_probs"]'),
                    "with a mixture prior: cluster of every cell, and probabilities of all clusters",
                    always=False,
                ),
            ),
            figures=("loadings", "correlation_circle", "variance_explained", "gene_correlation"),
            takes_mudata=True,
            stochastic=("n_steps", "learning_rate"),
            closed_form={
                "posterior": ("fullrank", "meanfield"),
                "amortized": (None, False),
                "n_importance_samples": (None, 1),
            },
        ),
        *GENE_SPACE,
        TREE_WALK,
        *AUTOENCODERS,
        *LABELS,
    )
}
"""Rows by key; the first is what is fitted unless the user says otherwise."""
