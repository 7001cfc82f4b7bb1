"""What every module with latent states has: a generative model, and a way to look at what it decodes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import nn

from scpln.module.posteriors import as_double

from ._batch import Known

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.module.posteriors import Posterior

    from ._generative import Generative


class LatentModule(nn.Module):
    """A generative model p(y, z), and what belongs to it.

    Parameters
    ----------
    generative
        Prior, decoder and likelihood.
    """

    #: Names of the tensors that have a row for each training cell.
    by_cell: ClassVar[tuple[str, ...]] = ()

    def __init__(self, generative: Generative) -> None:
        super().__init__()
        self.generative = generative

    @property
    def n_genes(self) -> int:
        """Number of genes p."""
        return self.generative.decoder.n_genes

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._parameter.device

    @property
    def _parameter(self) -> torch.Tensor:
        return next(self.generative.decoder.parameters())

    def has_exact_bound(self, posterior: Posterior) -> bool:
        """Whether the bound under these posteriors is computed without draws; by default it is not."""
        return False

    def expected_rates(
        self, design: ArrayLike, posterior: Posterior, genes: ArrayLike | None = None, offsets: ArrayLike = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """Means of the rates under posteriors (n, genes), and whether each is beyond the bound of log-rates.

        With `offsets` added to log-rates, (n, 1) or (n, genes). None where the means have no closed form.
        """
        return None

    @torch.no_grad()
    def decode(
        self,
        z: ArrayLike,
        design: ArrayLike,
        batches: ArrayLike | None = None,
        genes: ArrayLike | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Log-rates without size factors (..., n, genes) at latent states z (..., n, q), float64, on the CPU.

        And the deviations of the likelihood's parameters at these states, by name.
        """
        parameter = self._parameter
        known = Known(
            offsets=torch.zeros(len(np.asarray(design)), dtype=parameter.dtype, device=parameter.device),
            design=torch.as_tensor(design).to(parameter),
            batches=None if batches is None else torch.as_tensor(batches).to(parameter.device),
        )
        eta, deviations = self.generative.decoder.decode(torch.as_tensor(z).to(parameter), known)
        select = slice(None) if genes is None else torch.as_tensor(genes)
        return as_double(eta)[..., select], {name: as_double(value)[..., select] for name, value in deviations.items()}

    @torch.no_grad()
    def draw(
        self,
        eta: torch.Tensor,
        seed: int,
        genes: ArrayLike | None = None,
        deviations: dict[str, torch.Tensor] | None = None,
    ) -> NDArray:
        """Counts (n, p) or (n, genes) of the model with these log-rates, size factors included, and deviations."""
        likelihood = copy.deepcopy(self.generative.likelihood).cpu()
        if genes is not None:
            likelihood = likelihood.subset(genes)
        return likelihood.sample(
            eta, torch.Generator().manual_seed(seed), *([deviations] if deviations else [])
        ).numpy()
