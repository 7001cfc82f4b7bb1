"""What every estimator shares: data, training, saving, annotation, cost."""

from ._annotation import Annotation
from ._cost import Cost, announce, network_weights, newton_cost, steps_cost
from ._defaults import FLOW, FLOW_HIDDEN, PosteriorName
from ._estimator import ScplnModel
from ._evaluated import Evaluated
from ._explained import explained
from ._likelihood_choice import check_kind, check_likelihood, genes_by_quadrature, likelihood_of_genes
from ._objective import Objective
from ._ownership import claim
from ._reliability import UNRELIABLE, reliability_in_words
from ._saving import model_file, read_model

__all__ = [
    "FLOW",
    "FLOW_HIDDEN",
    "UNRELIABLE",
    "Annotation",
    "Cost",
    "Evaluated",
    "Objective",
    "PosteriorName",
    "ScplnModel",
    "announce",
    "check_kind",
    "check_likelihood",
    "claim",
    "explained",
    "genes_by_quadrature",
    "likelihood_of_genes",
    "model_file",
    "network_weights",
    "newton_cost",
    "read_model",
    "reliability_in_words",
    "steps_cost",
]
