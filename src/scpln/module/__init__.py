"""Torch, without AnnData: likelihoods, decoders, posteriors, flows, encoders, and the modules that compose them."""

from ._approximation import Approximation
from ._autoencoder import AutoencoderModule, MixtureVAEModule, VAEModule
from ._batch import ABSENT, Batch, Known
from ._conditional import Conditional
from ._counts import CountBatch
from ._decoder import LinearDecoder, MLPDecoder
from ._encoder import ComponentEncoder, Encoder
from ._features import GaussianFeatures
from ._flow_posterior import FlowPosterior
from ._gaussian import GaussianPosterior
from ._generative import Generative
from ._growth import GrownTraining, Growth
from ._latent_module import LatentModule
from ._mixture_posterior import MixturePosterior
from ._normal_points import normal_points
from ._objective import climb, importance_bound, path_loss
from ._plnpca import PLNPCAModule
from ._posterior import Posterior
from ._prior import GaussianMixture, Prior, StandardNormal
from .flows import FLOWS, Flow, check_flow, make_flow
from .likelihoods import LIKELIHOODS, JointLikelihood, Likelihood, make_likelihood

__all__ = [
    "ABSENT",
    "FLOWS",
    "LIKELIHOODS",
    "Approximation",
    "AutoencoderModule",
    "Batch",
    "ComponentEncoder",
    "Conditional",
    "CountBatch",
    "Encoder",
    "Flow",
    "FlowPosterior",
    "GaussianFeatures",
    "GaussianMixture",
    "GaussianPosterior",
    "Generative",
    "GrownTraining",
    "Growth",
    "JointLikelihood",
    "Known",
    "LatentModule",
    "Likelihood",
    "LinearDecoder",
    "MLPDecoder",
    "MixturePosterior",
    "MixtureVAEModule",
    "PLNPCAModule",
    "Posterior",
    "Prior",
    "StandardNormal",
    "VAEModule",
    "check_flow",
    "climb",
    "importance_bound",
    "make_flow",
    "make_likelihood",
    "normal_points",
    "path_loss",
]
