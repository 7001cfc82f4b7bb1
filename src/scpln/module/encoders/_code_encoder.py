"""The encoder of codes: from counts and covariates to the vectors that are compared with codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ._layers import Trunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from scpln.module._batch import Batch


class CodeEncoder(nn.Module):
    """Vectors h of cells from their counts.

    Parameters
    ----------
    n_genes, n_covariates, n_latent
        Genes p, columns d of the design (the first is the intercept), and numbers of a vector, M·D.
    hidden
        Widths of the hidden layers.
    **options
        ``covariates``, ``dropout``, ``real_values`` and ``by_entry``, as in `Trunk`.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> encoder = CodeEncoder(n_genes=4, n_covariates=1, n_latent=6, hidden=(16,))
    >>> encoder(Batch.from_arrays(np.ones((3, 4)), np.zeros(3), np.ones((3, 1)))).shape
    torch.Size([3, 6])
    """

    def __init__(
        self, n_genes: int, n_covariates: int, n_latent: int, *, hidden: Sequence[int] = (128,), **options: Any
    ) -> None:
        super().__init__()
        self.trunk = Trunk(n_genes, n_covariates, hidden, **options)
        self.vectors = nn.Linear(self.trunk.n_features, n_latent)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Vectors h, (n, M·D)."""
        return self.vectors(self.trunk(batch))
