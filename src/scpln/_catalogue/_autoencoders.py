"""Rows of autoencoders."""

from __future__ import annotations

from functools import partial

from ._entry import Entry, Option, Result
from ._shared import OF_GENES, POSTERIORS

AUTOENCODER = partial(
    Entry,
    likelihoods=("nb", "poisson", "zip", "zinb", "poisson_lognormal", "bernoulli", "gaussian"),
    former_likelihoods={"constrained_poisson": {"likelihood": "poisson", "scale_activation": "softmax"}},
    posteriors=POSTERIORS,
    defaults={
        "max_epochs": "as many as suit the number of cells",
        "batch_size": 128,
        "learning_rate": 0.002,
        "n_threads": "as many as pay",
    },
)
"""A row of an autoencoder, and the options that autoencoders have."""
AUTOENCODER_OPTIONS = (
    Option("n_hidden", "width of hidden layers", metavar="N", default=128),
    Option(
        "n_layers",
        "hidden layers of encoder and decoder; 0 makes the decoder linear",
        "not_negative",
        metavar="N",
        default=1,
    ),
    Option(
        "dispersion",
        "whose the likelihood's parameters besides the rate are",
        "choice",
        choices=("gene", "gene-batch", "gene-cell"),
        default="gene",
    ),
    Option(
        "scale_activation",
        "whether each gene has a rate of its own, or rates are shares of the size factor's total",
        "choice",
        choices=("exp", "softmax"),
        default="exp",
    ),
    Option("k_max", "give counts below K probabilities of their own", metavar="K", default="none"),
    Option(
        "early_stopping",
        "whether to stop when held-out cells no longer gain, and keep the weights that were best for them, or to go "
        "through all epochs and keep the last",
        "switch",
        default="stop",
    ),
    Option(
        "accelerator",
        "where to compute",
        "choice",
        choices=("auto", "cpu", "gpu", "mps"),
        default="a GPU if there is one",
    ),
    Option("checkpoint_dir", "directory to keep the state of training in, epoch by epoch", "directory"),
    Option("resume", "go on from the checkpoint in --checkpoint-dir, if there is one", "switch"),
)

AUTOENCODERS = (
    AUTOENCODER(
        "countvae",
        "scpln.model.CountVAE",
        "variational autoencoder",
        "A variational autoencoder of counts.",
        function="count_vae",
        page="models/count_vae",
        options=AUTOENCODER_OPTIONS,
    ),
    AUTOENCODER(
        "countgmvae",
        "scpln.model.CountGMVAE",
        "the same with a mixture prior, which clusters cells",
        "A variational autoencoder of counts with a Gaussian mixture as prior, for clusters.",
        function="count_gmvae",
        page="models/count_gmvae",
        options=(
            *AUTOENCODER_OPTIONS,
            Option(
                "n_components",
                "components of the mixture",
                metavar="K",
                default="as many as labels, or else a held-out bound chooses",
            ),
            Option(
                "labels_key",
                "obs column of labels of some cells, each of which gets a component; missing for the others",
                "column",
            ),
            Option(
                "unlabeled_category",
                "category of the labels whose cells have no label, such as Unknown",
                "text",
            ),
        ),
        results=(
            Result(
                ('obs["KEY_cluster"]', 'obsm["KEY_cluster_probs"]'),
                "cluster of every cell, and probabilities of all clusters",
            ),
        ),
        figures=("cluster_probabilities", "mixture_components"),
    ),
    AUTOENCODER(
        "countvqvae",
        "scpln.model.CountVQVAE",
        "the same with a few discrete codes for each cell",
        "A vector-quantized variational autoencoder of counts, which describes each cell by a few discrete codes.",
        function="count_vqvae",
        page="models/count_vqvae",
        posteriors=(),
        has_latent=False,
        options=(
            *AUTOENCODER_OPTIONS,
            Option("n_codes", "codes of each cell", metavar="M", default=4),
            Option("codebook_size", "values that each of them can have", metavar="K", default=16),
            Option(
                "quantizer",
                "how codes are found: in codebooks that follow averages, or on a fixed grid",
                "choice",
                choices=("ema", "fsq"),
                default="ema",
            ),
        ),
        results=(
            Result(('obsm["X_KEY"]',), "vectors of the codes of every cell"),
            Result(('obsm["KEY_codes"]',), "codes of every cell"),
            Result(('obs["KEY_elbo"]',), "each cell's contribution to the bound, nats"),
            OF_GENES,
        ),
        figures=("code_usage", "code_labels"),
    ),
)
