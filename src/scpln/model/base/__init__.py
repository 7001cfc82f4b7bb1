"""What every estimator shares: data, training, saving, annotation, cost."""

from ._annotation import Annotation
from ._cost import Cost, announce, network_weights, newton_cost, steps_cost
from ._defaults import DEEPEST, ENCODER_HIDDEN, FLOW, FLOW_HIDDEN, LARGEST_K_MAX, MOST_LATENT, WIDEST, PosteriorName
from ._estimator import ScplnModel
from ._evaluated import Evaluated
from ._explained import explained
from ._leiden import leiden_groups
from ._likelihood_choice import check_kind, check_likelihood, genes_by_quadrature, likelihood_of_genes
from ._objective import Objective
from ._ownership import claim, forget
from ._reliability import REFINE, UNRELIABLE, reliability_in_words, warn_stuck
from .saving import check_save, model_file, read_metadata, read_model

__all__ = [
    "DEEPEST",
    "ENCODER_HIDDEN",
    "FLOW",
    "FLOW_HIDDEN",
    "LARGEST_K_MAX",
    "MOST_LATENT",
    "REFINE",
    "UNRELIABLE",
    "WIDEST",
    "Annotation",
    "Cost",
    "Evaluated",
    "Objective",
    "PosteriorName",
    "ScplnModel",
    "announce",
    "check_kind",
    "check_likelihood",
    "check_save",
    "claim",
    "explained",
    "forget",
    "genes_by_quadrature",
    "leiden_groups",
    "likelihood_of_genes",
    "model_file",
    "network_weights",
    "newton_cost",
    "read_metadata",
    "read_model",
    "reliability_in_words",
    "steps_cost",
    "warn_stuck",
]
