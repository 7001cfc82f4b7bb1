"""Rows of models that predict labels and values of cells."""

from __future__ import annotations

from ._entry import Entry, Option, Result

USE_REP = Option(
    "use_rep", "entry of obsm to predict from, such as X_plnpca", "text", default="logarithms of counts of all genes"
)
PRIOR_SCALE = Option(
    "prior_scale",
    "standard deviation of weights before data are seen, for the feature that varies most",
    "number",
    default="learned",
)
CV_KEY = Option("cv_key", "obs column of batches or donors, each held out as a whole", "column")
CALIBRATE = Option("calibrate", "whether to hold out cells in turn", "switch", default="calibrate")

LABELS = (
    Entry(
        "labelclassifier",
        "scpln.model.LabelClassifier",
        "labels from an embedding or counts, with calibrated probabilities",
        "A classifier of cells with a distribution over its weights and calibrated probabilities.",
        options=(
            Option("labels_key", "obs column of labels, missing for cells to be labelled", "column"),
            Option("unlabeled_category", "category of the labels whose cells have no label, such as Unknown", "text"),
            USE_REP,
            Option(
                "covariance",
                "family of the covariance of the weights",
                "choice",
                choices=("auto", "full", "diagonal"),
                default="auto",
            ),
            PRIOR_SCALE,
            CALIBRATE,
            CV_KEY,
            Option(
                "target_error",
                "share of errors among cells that get a label; others get none",
                "number",
                metavar="SHARE",
            ),
        ),
        defaults={"max_epochs": 100, "n_threads": "all"},
        has_latent=False,
        results=(
            Result(('obs["KEY_prediction"]',), "label of every cell, missing where it is not sure enough"),
            Result(('obs["KEY_probability"]', 'obsm["KEY_probs"]'), "probability of it, and of all labels"),
            Result(
                ('obs["KEY_entropy"]', 'obs["KEY_expected_entropy"]', 'obs["KEY_mutual_information"]'),
                "uncertainty of the label, nats, and its parts: of cells, and of what is not learned yet",
            ),
            Result(('obs["KEY_novelty"]',), "share of training cells that are nearer to the mean of a label"),
        ),
    ),
    Entry(
        "labelregressor",
        "scpln.model.LabelRegressor",
        "values such as ages from an embedding or counts, with intervals",
        "A linear regression of values of cells with a distribution over its weights.",
        options=(
            Option("target_key", "obs column of numbers, missing for cells to be predicted", "column"),
            USE_REP,
            Option(
                "covariance",
                "family of the covariance of the weights",
                "choice",
                choices=("full", "diagonal"),
                default="full",
            ),
            PRIOR_SCALE,
            CALIBRATE,
            CV_KEY,
        ),
        defaults={"max_epochs": 1000, "n_threads": "all"},
        has_latent=False,
        results=(
            Result(('obs["KEY_mean"]', 'obs["KEY_sd"]'), "predicted value of every cell, and its standard deviation"),
            Result(('obs["KEY_epistemic_sd"]',), "that of the mean, which more training cells would make smaller"),
        ),
    ),
)
