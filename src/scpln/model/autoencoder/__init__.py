"""Count autoencoders."""

from ._autoencoder import Autoencoder
from ._count_gmvae import CountGMVAE
from ._count_vae import CountVAE

__all__ = ["Autoencoder", "CountGMVAE", "CountVAE"]
