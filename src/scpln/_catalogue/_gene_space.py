"""Rows of models in gene space."""

from __future__ import annotations

from dataclasses import replace

from ._entry import Entry, Option, Result
from ._shared import AMORTIZED, N_SAMPLES, N_STEPS, OF_COUNTS, OF_GENES, TREE

PRIOR_PRECISION = Option(
    "prior_precision",
    "inverse variance of the normal prior of coefficients other than intercepts",
    "number",
    default=0.01,
)
COVARIANCE = Option(
    "covariance",
    "family of the covariance between genes",
    "choice",
    choices=("full", "diagonal", "spherical"),
    default="full",
)
N_FACTORS = Option("n_factors", "factors of the covariance factor", metavar="Q")
RESIDUALS = Result(('obsm["X_KEY"]',), "how log-rates of every cell differ from what its covariates say")
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

GENE_SPACE = (
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
            N_SAMPLES,
            Option(
                "zero_inflation",
                "of zip and zinb, what the probability of an excess zero depends on; one for each gene unless it is said",
                "choice",
                choices=("gene", "single", "covariates", "cell"),
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
            N_FACTORS,
            PRIOR_PRECISION,
        ),
        defaults={"max_epochs": 1000, "n_threads": "all"},
        has_latent=False,
        results=(
            RESIDUALS,
            *OF_GENE_SPACE,
            OF_GENES,
            Result(
                ('obs["KEY_zero_inflation"]',),
                "with zero inflation by cell: probability of an excess zero",
                always=False,
            ),
            Result(('varm["KEY_inflation_coefficients"]',), "those of zero inflation by covariates", always=False),
            Result(('varp["KEY_correlation"]',), "correlation of log-rates between genes"),
            Result(('varp["KEY_network"]',), "with a penalty: partial correlations of genes with edges", always=False),
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
            replace(COVARIANCE, choices=(*COVARIANCE.choices, "factor")),
            N_FACTORS,
            PRIOR_PRECISION,
        ),
        defaults={"max_epochs": 1000, "n_threads": "all"},
        has_latent=False,
        results=(
            RESIDUALS,
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
            Option("unlabeled_category", "category of the labels whose cells have no label, such as Unknown", "text"),
            Option(
                "priors",
                "probabilities of the labels: their shares of the cells, or all the same",
                "choice",
                choices=("empirical", "uniform"),
                default="empirical",
            ),
            COVARIANCE,
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
    Entry(
        "plnar",
        "scpln.model.PLNAR",
        "the same for series, with autoregression",
        "The Poisson log-normal model of series of counts in gene space, with autoregression of order 1.",
        likelihoods=("poisson", "nb", "bernoulli"),
        function="pln_ar",
        page="models/plnar",
        options=(
            Option("order_key", "obs column with the time or position of each sample in its series", "column"),
            Option("group_key", "obs column that says which series each sample is of", "column", default="one series"),
            Option(
                "autoregression",
                "one number for all genes, or one for each",
                "choice",
                choices=("scalar", "diagonal"),
                default="scalar",
            ),
            COVARIANCE,
            PRIOR_PRECISION,
        ),
        defaults={"max_epochs": 1000, "n_threads": "all"},
        has_latent=False,
        results=(
            RESIDUALS,
            Result(('obs["KEY_elbo"]',), "each cell's contribution to the bound, nats"),
            Result(('varm["KEY_coefficients"]',), "coefficients of every gene"),
            Result(('var["KEY_autoregression"]',), "autoregression of every gene over a time step"),
            Result(('var["KEY_inverse_dispersion"]',), "parameters that the likelihood has by gene", always=False),
            Result(('varp["KEY_correlation"]',), "correlation of log-rates between genes"),
        ),
    ),
    Entry(
        "plntree",
        "scpln.model.PLNTree",
        "the same for counts on a tree, such as taxa by sample",
        "The Poisson log-normal model of counts on a tree: multinomial splits of every node's count between its children.",
        function="pln_tree",
        page="models/plntree",
        options=(
            TREE,
            Option("shrinkage", "samples that the prior of the covariance counts for", "number", default=20),
            PRIOR_PRECISION,
            AMORTIZED,
            N_STEPS,
        ),
        defaults={"max_epochs": 1000, "learning_rate": 0.004, "n_threads": "all"},
        stochastic=("n_steps", "learning_rate"),
        closed_form={"amortized": (None, False)},
        has_latent=False,
        figures=("tree",),
        results=(
            Result(
                ('obsm["X_KEY"]',), "how log-rates and log-ratios of every sample differ from what its covariates say"
            ),
            *OF_GENE_SPACE[:2],
            Result(('obsm["KEY_proportions"]',), "centred log-ratios of every node among its siblings"),
            Result(('varm["KEY_log_rates"]',), "log-rate of every leaf's ancestor on each level, of an average sample"),
        ),
    ),
)
