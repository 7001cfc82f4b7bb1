"""The vector-quantized variational autoencoder of counts."""

from ._count_vqvae import CountVQVAE

__all__ = ["CountVQVAE"]
