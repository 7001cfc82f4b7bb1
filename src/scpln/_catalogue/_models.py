"""The rows: a model is one of them."""

from __future__ import annotations

from functools import partial

from ._entry import Entry, Option, Result

#: Latent dimensions unless the user says otherwise.
N_LATENT = 10
POSTERIORS = ("fullrank", "meanfield", "flow")
FLOWS = ("iaf", "maf", "realnvp", "nsf", "planar", "radial", "sylvester")
LIKELIHOODS = ("poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli", "gaussian")
#: Those of counts.
OF_COUNTS = LIKELIHOODS[:-1]
#: Those with parameters besides the rate.
WITH_PARAMETERS = ("nb", "zip", "zinb", "poisson_lognormal", "gaussian")
#: The one of values that are not counts.
OF_VALUES = "gaussian"

OF_ALL = Result(('uns["KEY"]',), "what was fitted and how")
"""What every model writes."""
OF_GENES = Result(
    ('var["KEY_inverse_dispersion"]', 'var["KEY_zero_inflation"]'),
    "parameters that the likelihood has by gene",
    always=False,
)
"""What likelihoods with parameters write."""
RESULTS = (
    Result(('obsm["X_KEY"]',), 'every cell in latent space: sc.pp.neighbors(adata, use_rep="X_KEY")'),
    Result(('obs["KEY_elbo"]',), "each cell's contribution to the bound, nats"),
    Result(
        ('obs["KEY_iw_bound"]', 'obs["KEY_gap"]', 'obs["KEY_ess"]', 'obs["KEY_pareto_k"]'),
        "how close its posterior is to the exact one, with diagnostics",
        always=False,
    ),
    OF_GENES,
    OF_ALL,
)
"""What every model with a latent state writes."""

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

PRIOR_PRECISION = Option(
    "prior_precision",
    "inverse variance of the normal prior of coefficients other than intercepts",
    "number",
    default=0.01,
)
OF_GENE_SPACE = (
    Result(('obs["KEY_elbo"]',), "each cell's contribution to the bound, nats"),
    Result(
        ('obs["KEY_iw_bound"]', 'obs["KEY_gap"]', 'obs["KEY_ess"]', 'obs["KEY_pareto_k"]'),
        "how close its posterior is to the exact one, with diagnostics",
        always=False,
    ),
    Result(('varm["KEY_coefficients"]',), "coefficients of every gene"),
)
"""What models in gene space write."""

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
                    "n_components",
                    "components of a mixture prior, which clusters cells; 1 is one normal prior",
                    metavar="K",
                    default=1,
                ),
                Option(
                    "amortized",
                    "let an encoder give the posteriors, shared by all cells, from the counts; autoencoders always do",
                    "switch",
                ),
                Option(
                    "n_steps",
                    "steps of stochastic training, of a flow, an encoder or the importance-weighted bound",
                    metavar="N",
                    default="1,000, or as many as make ten passes over the data",
                ),
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
        Entry(
            "pln",
            "scpln.model.PLN",
            "Poisson log-normal model in gene space",
            "The Poisson log-normal model of counts, with a covariance between all genes.",
            likelihoods=OF_COUNTS,
            posteriors=("fullrank", "meanfield"),
            function="pln",
            page="models/pln",
            options=(
                Option(
                    "covariance",
                    "family of the covariance between genes; fixed and kernel take the matrix of --given, basis the directions of --basis, factor --n-factors of them",
                    "choice",
                    choices=("full", "diagonal", "spherical", "fixed", "kernel", "basis", "factor"),
                    default="full",
                ),
                Option(
                    "inference",
                    "how coefficients and covariance are estimated: by the bound, by the importance-weighted one, by the exact log-likelihood "
                    "(diagonal and spherical covariances), or by Monte-Carlo expectation maximisation (few genes)",
                    "choice",
                    choices=("variational", "importance", "quadrature", "nuts"),
                    default="variational",
                ),
                Option(
                    "n_samples",
                    "draws of each cell, of importance and nuts",
                    metavar="K",
                    default="200,000 of all cells together, but 100 to 5,000 of each; 400 for nuts",
                ),
                Option(
                    "zero_inflation",
                    "of zip and zinb, what the probability of an excess zero depends on; one for each gene unless it is said",
                    "choice",
                    choices=("gene", "single", "covariates"),
                ),
                Option("given", "entry of varp with the matrix of genes that fixed and kernel take", "text"),
                Option("basis", "entry of varm with the orthonormal directions that basis takes", "text"),
                Option(
                    "penalty",
                    "make the inverse of the covariance sparse, a network of genes: penalty of its entries, or the rule by which one is chosen "
                    "(bic, ebic or stars)",
                    "number_or_name",
                    default="none",
                ),
                Option("n_factors", "factors of the covariance factor", metavar="Q"),
                PRIOR_PRECISION,
            ),
            defaults={"max_epochs": 1000, "n_threads": "all"},
            has_latent=False,
            results=(
                Result(('obsm["X_KEY"]',), "how log-rates of every cell differ from what its covariates say"),
                *OF_GENE_SPACE,
                OF_GENES,
                Result(
                    ('varm["KEY_inflation_coefficients"]',),
                    "those of the logit of zero inflation, where it depends on covariates",
                    always=False,
                ),
                Result(('varp["KEY_correlation"]',), "correlation of log-rates between genes"),
                Result(
                    ('varp["KEY_network"]',), "with a penalty: partial correlations of genes with edges", always=False
                ),
                Result(('varm["KEY_loadings"]',), "with factors: loadings of every gene", always=False),
            ),
            figures=("network",),
        ),
        Entry(
            "plnmixture",
            "scpln.model.PLNMixture",
            "a mixture of these, which clusters samples",
            "A mixture of Poisson log-normal models in gene space, for clusters of samples.",
            posteriors=("fullrank", "meanfield"),
            function="pln_mixture",
            page="models/plnmixture",
            options=(
                Option("n_components", "components of the mixture", metavar="K", default="ICL chooses, up to 10"),
                Option(
                    "covariance",
                    "family of the covariance between genes",
                    "choice",
                    choices=("full", "diagonal", "spherical"),
                    default="full",
                ),
                PRIOR_PRECISION,
            ),
            defaults={"max_epochs": 1000, "n_threads": "all"},
            has_latent=False,
            results=(
                Result(('obsm["X_KEY"]',), "how log-rates of every cell differ from what its covariates say"),
                *OF_GENE_SPACE,
                Result(
                    ('obs["KEY_cluster"]', 'obsm["KEY_cluster_probs"]'),
                    "cluster of every cell, and probabilities of all clusters",
                ),
                Result(('varm["KEY_means"]',), "mean log-rates of every component"),
            ),
            figures=("cluster_probabilities",),
        ),
        Entry(
            "plnlda",
            "scpln.model.PLNLDA",
            "discriminant analysis by these, which predicts labels",
            "Linear discriminant analysis of counts by a Poisson log-normal model, which predicts labels.",
            posteriors=("fullrank", "meanfield"),
            function="pln_lda",
            page="models/plnlda",
            options=(
                Option("labels_key", "obs column of labels, missing for cells to be labelled", "column"),
                Option(
                    "unlabeled_category", "category of the labels whose cells have no label, such as Unknown", "text"
                ),
                Option(
                    "priors",
                    "probabilities of the labels: their shares of the cells, or all the same",
                    "choice",
                    choices=("empirical", "uniform"),
                    default="empirical",
                ),
                Option(
                    "covariance",
                    "family of the covariance between genes",
                    "choice",
                    choices=("full", "diagonal", "spherical"),
                    default="full",
                ),
                PRIOR_PRECISION,
            ),
            defaults={"max_epochs": 1000, "n_threads": "all"},
            has_latent=False,
            results=(
                Result(('obsm["X_KEY"]',), "every cell along the axes that tell labels apart"),
                *OF_GENE_SPACE,
                Result(
                    ('obs["KEY_cluster"]', 'obsm["KEY_cluster_probs"]'),
                    "predicted label of every cell, and probabilities of all labels",
                ),
                Result(('varm["KEY_means"]', 'varm["KEY_axes"]'), "mean log-rates of every label, and those axes"),
                Result(('varp["KEY_correlation"]',), "correlation of log-rates between genes"),
            ),
            figures=("cluster_probabilities",),
        ),
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
    )
}
"""Rows by key; the first is what is fitted unless the user says otherwise."""
