"""Modules for a design with new columns: what was learned stays as it is, and the new entries alone are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy.special import logsumexp
from torch import nn
from torch.func import functional_call

from ._autoencoder import GENE_LR_FACTOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ._autoencoder import AutoencoderModule
    from ._batch import Batch
    from ._latent_module import LatentModule
    from ._loss import Loss
    from .priors import Prior

#: Names of the coefficients B of the design, and of tables with a row for each batch, in a module's state.
COEFFICIENTS, BY_BATCH = "coefficients", "by_batch"


@dataclass(frozen=True)
class Growth:
    """How a design grew by categories that were not known before.

    Parameters
    ----------
    is_new
        Which columns of the design are new, (d,).
    siblings
        For each new column, the columns of the known categories of its key; the first category has none.
    n_known_batches, n_batches
        Batches before and after.
    dims
        Which dimension of a tensor grew, by its name in the state of a module (`grow`).

    Examples
    --------
    >>> growth = Growth(np.array([False, False, True, False]), [[1]], n_known_batches=2, n_batches=3)
    >>> coefficients = np.array([[0.0, 2.0, 0.0, 0.5], [0.0, -1.0, 0.0, 0.5]])
    >>> growth.average(coefficients, is_count=False)
    array([[ 1. ],
           [-0.5]])
    """

    is_new: NDArray[np.bool]
    siblings: list[list[int]]
    n_known_batches: int
    n_batches: int
    dims: dict[str, int] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether there is a new column, or a new batch."""
        return bool(self.is_new.any()) or self.n_batches > self.n_known_batches

    def average(self, coefficients: NDArray[np.float64], *, is_count: bool) -> NDArray[np.float64]:
        r"""What new categories start as, (p, k): the average of the known ones, of rates if these are counts.

        That is :math:`\log \frac1K \sum_k e^{B_{jk}}`, with 0 for the first category. A mean of log-rates would follow a
        category in which the gene happened to have no counts, whose log-rate can be anything below.
        """
        means = []
        for columns in self.siblings:
            known = np.hstack([np.zeros((len(coefficients), 1)), coefficients[:, columns]])
            means.append(logsumexp(known, axis=1) - np.log(known.shape[1]) if is_count else known.mean(1))
        return np.column_stack(means) if means else np.zeros((len(coefficients), 0))

    def positions(self, name: str, size: int) -> tuple[NDArray[np.intp], list[list[int]]]:
        """New entries of a dimension that grew to `size`, and the known ones that each of them is like.

        A table of batches has new rows last. Everywhere else the columns of the design, or all but the intercept, are
        the last ones.
        """
        if BY_BATCH in name:
            new = np.arange(self.n_known_batches, self.n_batches)
            return new, [list(range(self.n_known_batches))] * len(new)
        before = size - len(self.is_new)
        return before + np.flatnonzero(self.is_new), [[before + column for column in like] for like in self.siblings]

    def grow(self, old: Mapping[str, torch.Tensor], new: LatentModule) -> Self:
        """Fill a module for the grown design with what one for the known design had learned; say where it grew.

        Parameters of new categories become the average of those of the known ones.
        """
        state, dims = new.state_dict(), {}
        parameters = dict(new.named_parameters())
        for name, value in state.items():
            before = old.get(name)
            if before is None:
                continue
            if before.shape == value.shape:
                value.copy_(before)
                continue
            differs = [
                dim for dim, sizes in enumerate(zip(before.shape, value.shape, strict=True)) if len({*sizes}) > 1
            ]
            (dims[name],) = differs
            positions, _ = self.positions(name, value.shape[differs[0]])
            kept = np.setdiff1d(np.arange(value.shape[differs[0]]), positions)
            value.index_copy_(differs[0], torch.from_numpy(kept), before.to(value))
        result = type(self)(self.is_new, self.siblings, self.n_known_batches, self.n_batches, dims)
        result.restart(new, [name for name in dims if name in parameters])
        return result

    @torch.no_grad()
    def restart(self, module: LatentModule, names: Sequence[str] | None = None) -> None:
        """Set the new entries of parameters to where they start from: the average of the known categories."""
        parameters = dict(module.named_parameters())
        is_count = module.generative.likelihood.is_count
        for name in names if names is not None else [name for name in self.dims if name in parameters]:
            value, dim = parameters[name], self.dims[name]
            positions, siblings = self.positions(name, value.shape[dim])
            if name.endswith(COEFFICIENTS):
                start = torch.from_numpy(self.average(value.double().cpu().numpy(), is_count=is_count))
            else:
                n_first = 0 if BY_BATCH in name else 1
                means = [
                    value.index_select(dim, torch.tensor(like, dtype=torch.long)).sum(dim) / (len(like) + n_first)
                    for like in siblings
                ]
                start = torch.stack(means, dim)
            value.index_copy_(dim, torch.from_numpy(positions), start.to(value))


class GrownTraining(nn.Module):
    r"""The loss of an autoencoder as a function of the entries of new categories alone.

    Everything else is as it was, and not among the parameters that an optimiser sees. New coefficients B have a normal
    prior, :math:`b_{ja} \sim N(\mu_{ja}, \tau_a^2)`, as in `scpln.inference.fit_columns`.

    Parameters
    ----------
    module
        Module for the grown design.
    growth
        Where it grew.
    mean, spread
        μ and τ, (p, k).
    prior
        Of the states, while the new entries are trained; by default, the module's.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        module: AutoencoderModule,
        growth: Growth,
        mean: NDArray[np.float64],
        spread: NDArray[np.float64],
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.module = module.requires_grad_(False)
        self._own_prior = (module.generative.prior,)  # in a tuple, so that it is no part of this module
        if prior is not None:
            module.generative.prior = prior
        parameters = dict(module.named_parameters())
        self._names = [name for name in growth.dims if name in parameters]
        self._places = [
            (growth.dims[name], torch.from_numpy(growth.positions(name, parameters[name].shape[growth.dims[name]])[0]))
            for name in self._names
        ]
        self.entries = nn.ParameterList(
            parameters[name].detach().index_select(*place).clone()
            for name, place in zip(self._names, self._places, strict=True)
        )
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("spread", torch.from_numpy(spread).float())

    def _assembled(self) -> dict[str, torch.Tensor]:
        """Parameters of which some entries are new, by name."""
        parameters = dict(self.module.named_parameters())
        return {
            f"module.{name}": parameters[name].index_copy(dim, index.to(entries.device), entries)
            for name, (dim, index), entries in zip(self._names, self._places, self.entries, strict=True)
        }

    def forward(self, batch: Batch, **options: Any) -> Loss:
        """The module's loss, with its parameters as they are."""
        return self.module.loss(batch, **options)

    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> Loss:
        """Minus the mean bound of a batch, and the share of the prior of the coefficients that is due to it."""
        options = {"kl_weight": kl_weight, "free_bits": free_bits}
        output: Loss = functional_call(self, self._assembled(), (batch,), options)
        output.value = output.value + self._penalty() / self.module.n_cells
        return output

    def _penalty(self) -> torch.Tensor:
        coefficients = next(
            entries for name, entries in zip(self._names, self.entries, strict=True) if name.endswith(COEFFICIENTS)
        )
        return 0.5 * ((coefficients - self.mean) / self.spread).square().sum()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Entries by how they are trained: those of single genes learn faster than those of networks (`GENE_LR_FACTOR`)."""
        of_genes = [name.endswith(COEFFICIENTS) or BY_BATCH in name for name in self._names]
        return [
            {
                "params": [
                    entries for entries, of_gene in zip(self.entries, of_genes, strict=True) if of_gene == group
                ],
                "lr_factor": GENE_LR_FACTOR if group else 1.0,
                "decays": False,
            }
            for group in (True, False)
        ]

    @torch.no_grad()
    def write_to_module(self) -> None:
        """Write the trained entries into the module, whose prior is its own again."""
        (self.module.generative.prior,) = self._own_prior
        parameters = dict(self.module.named_parameters())
        for name, (dim, index), entries in zip(self._names, self._places, self.entries, strict=True):
            parameters[name].index_copy_(dim, index, entries.detach())
