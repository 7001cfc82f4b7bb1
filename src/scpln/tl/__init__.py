"""Functions in scanpy's manner: an AnnData in, the same AnnData annotated; and what a fit is worth."""

from ._count_gmvae import count_gmvae
from ._count_vae import count_vae
from ._evaluate import Evaluation, evaluate
from ._plnpca import plnpca
from ._posterior_predictive import posterior_predictive

__all__ = ["Evaluation", "count_gmvae", "count_vae", "evaluate", "plnpca", "posterior_predictive"]
