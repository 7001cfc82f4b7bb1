"""Torch, without AnnData: likelihoods, decoders, posteriors, flows, encoders, and the modules that compose them."""

from scpln.core import ABSENT
from scpln.module.decoders import Decoder, IdentityDecoder, LinearDecoder, MLPDecoder, TreeDecoder
from scpln.module.encoders import ComponentEncoder, Encoder, GaussianFeatures, TreeEncoder
from scpln.module.flows import FLOWS, Flow, check_flow, make_flow
from scpln.module.likelihoods import (
    LARGEST_LOG_RATE,
    LIKELIHOODS,
    JointLikelihood,
    Likelihood,
    make_likelihood,
    reaches_bound,
    soft_clamp,
)
from scpln.module.posteriors import (
    Conditional,
    FlowPosterior,
    GaussianPosterior,
    GeneSpacePosterior,
    MixturePosterior,
    Posterior,
    mixture_posterior,
    most_probable,
    normal_points,
)
from scpln.module.priors import GaussianMixture, Mixture, Normal, NormalMixture, Prior, StandardNormal

from ._approximation import Approximation
from ._autoencoder import AutoencoderModule
from ._batch import Batch, Known
from ._count_batch import CountBatch
from ._generative import Generative
from ._growth import GrownTraining, Growth
from ._latent_module import LatentModule
from ._loss import Loss
from ._mixture_vae import MixtureVAEModule
from ._objective import backpropagate_bound, importance_bound, path_loss
from ._vae import VAEModule
from .pln import LogDensityLikelihood, PLNARModule, PLNMixtureModule, PLNModule, PLNPCAModule, PLNTreeModule

__all__ = [
    "ABSENT",
    "FLOWS",
    "LARGEST_LOG_RATE",
    "LIKELIHOODS",
    "Approximation",
    "AutoencoderModule",
    "Batch",
    "ComponentEncoder",
    "Conditional",
    "CountBatch",
    "Decoder",
    "Encoder",
    "Flow",
    "FlowPosterior",
    "GaussianFeatures",
    "GaussianMixture",
    "GaussianPosterior",
    "GeneSpacePosterior",
    "Generative",
    "GrownTraining",
    "Growth",
    "IdentityDecoder",
    "JointLikelihood",
    "Known",
    "LatentModule",
    "Likelihood",
    "LinearDecoder",
    "LogDensityLikelihood",
    "Loss",
    "MLPDecoder",
    "Mixture",
    "MixturePosterior",
    "MixtureVAEModule",
    "Normal",
    "NormalMixture",
    "PLNARModule",
    "PLNMixtureModule",
    "PLNModule",
    "PLNPCAModule",
    "PLNTreeModule",
    "Posterior",
    "Prior",
    "StandardNormal",
    "TreeDecoder",
    "TreeEncoder",
    "VAEModule",
    "backpropagate_bound",
    "check_flow",
    "importance_bound",
    "make_flow",
    "make_likelihood",
    "mixture_posterior",
    "most_probable",
    "normal_points",
    "path_loss",
    "reaches_bound",
    "soft_clamp",
]
