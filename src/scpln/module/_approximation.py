"""The part of a posterior that cells share: a flow on their Gaussians, or an encoder, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from scpln.module.encoders import Encoder, GaussianFeatures
from scpln.module.flows import Affine, Flow, make_flow
from scpln.module.posteriors import Conditional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._batch import Batch

Gaussian = tuple[torch.Tensor, torch.Tensor]


class Approximation(nn.Module):
    """Posteriors of batches of cells, whose Gaussians are given or come from an encoder.

    Parameters
    ----------
    n_latent
        Dimensions q.
    source
        What gives the flow its context: an encoder, which gives the Gaussians too, or their features.
    flow
        Flow on the Gaussians; None for none.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> approximation = Approximation(2, Encoder(n_genes=4, n_covariates=1, n_latent=2), flow=None)
    >>> batch = Batch.from_arrays(np.ones((3, 4)), np.zeros(3), np.ones((3, 1)))
    >>> approximation(batch).loc.shape
    torch.Size([3, 2])
    """

    frame: torch.Tensor
    source: Encoder | GaussianFeatures
    flow: Flow | None

    def __init__(self, n_latent: int, source: Encoder | GaussianFeatures, flow: Flow | None) -> None:
        super().__init__()
        self.source = source
        self.flow = flow
        self.register_buffer("frame", torch.eye(n_latent, dtype=torch.float64))

    @classmethod
    def build(
        cls,
        n_genes: int,
        n_covariates: int,
        n_latent: int,
        *,
        amortized: bool,
        diagonal: bool,
        flow: str | None,
        n_transforms: int | None,
        flow_hidden: Sequence[int],
        encoder_hidden: Sequence[int],
        n_groups: int = 0,
        by_entry: bool = False,
    ) -> Approximation:
        """Encoder or features, and a flow with the context that these give; `n_groups` and `by_entry` as in `Encoder`."""
        source: Encoder | GaussianFeatures
        if amortized:
            source = Encoder(
                n_genes,
                n_covariates,
                n_latent,
                hidden=encoder_hidden,
                diagonal=diagonal,
                n_groups=n_groups,
                by_entry=by_entry,
            )
            n_context = source.n_features
        else:
            source = GaussianFeatures(n_latent, n_covariates, n_groups)
            n_context = source.size
        if flow is None:
            return cls(n_latent, source, None)
        if flow == "affine":
            return cls(n_latent, source, Affine(n_latent, n_context, hidden=flow_hidden, diagonal=diagonal))
        transform = make_flow(flow, n_latent, n_context, n_transforms=n_transforms, hidden=flow_hidden)
        return cls(n_latent, source, transform)

    @property
    def encodes(self) -> bool:
        """Whether an encoder gives the Gaussians."""
        return isinstance(self.source, Encoder)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of what is trained."""
        return next((each.dtype for each in self.parameters()), torch.float32)

    def forward(self, batch: Batch, gaussian: Gaussian | None = None) -> Conditional:
        """Posteriors of the cells of a batch, from their Gaussians (loc, scale) unless an encoder gives these.

        A Gaussian that is given to an encoding model replaces the encoder's; the flow's context stays the encoder's.
        """
        if isinstance(self.source, Encoder):
            loc, scale, context = self.source(batch)
            if gaussian is not None:
                loc, scale = gaussian
        else:
            assert gaussian is not None
            loc, scale = gaussian
            context = self.source(loc, scale, batch)
        return Conditional(loc, scale, self.flow, None if self.flow is None else context)
