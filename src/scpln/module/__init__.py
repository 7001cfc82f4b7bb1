"""Torch, without AnnData: likelihoods, decoders, posteriors, flows, encoders, and the modules that compose them."""

from ._approximation import Approximation
from ._batch import Batch
from ._conditional import Conditional
from ._counts import CountBatch
from ._decoder import LinearDecoder
from ._encoder import Encoder
from ._features import GaussianFeatures
from ._flow_posterior import FlowPosterior
from ._gaussian import GaussianPosterior
from ._generative import Generative
from ._objective import climb, importance_bound
from ._plnpca import PLNPCAModule
from ._posterior import Posterior
from .flows import FLOWS, Flow, check_flow, make_flow
from .likelihoods import LIKELIHOODS, Likelihood, make_likelihood

__all__ = [
    "FLOWS",
    "LIKELIHOODS",
    "Approximation",
    "Batch",
    "Conditional",
    "CountBatch",
    "Encoder",
    "Flow",
    "FlowPosterior",
    "GaussianFeatures",
    "GaussianPosterior",
    "Generative",
    "Likelihood",
    "LinearDecoder",
    "PLNPCAModule",
    "Posterior",
    "check_flow",
    "climb",
    "importance_bound",
    "make_flow",
    "make_likelihood",
]
