"""Posteriors of every cell under every component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace.terms import PoissonTerms

if TYPE_CHECKING:
    from scpln.core import Array, Threads
    from scpln.inference.genespace._observations import Observations
    from scpln.inference.genespace._posteriors import Posteriors, Sums

    from ._parameters import MixtureParameters


@dataclass
class MixtureSums:
    """What parameters need to know of the cells.

    Attributes
    ----------
    bound
        Sum of the cells' bounds.
    sizes
        Σ_i τ_ik, (K,).
    components
        Sums over cells for each component, each cell by its responsibility τ_ik.
    """

    bound: float
    sizes: Array
    components: list[Sums]

    def __add__(self, other: MixtureSums) -> MixtureSums:
        components = [one + two for one, two in zip(self.components, other.components, strict=True)]
        return MixtureSums(self.bound + other.bound, self.sizes + other.sizes, components)


class ComponentPosteriors:
    r"""A Gaussian for each cell and component, and responsibilities.

    With :math:`L_{ik} \le \log p(y_i \mid k)`, the bound of cell i as one of component k, Jensen's inequality for a posterior
    :math:`q(k) q(z \mid k)` with probabilities τ of the components gives

    .. math:: \log p(y_i) \ge \sum_k \tau_{ik} (\log \pi_k + L_{ik} - \log \tau_{ik}),

    which is greatest at :math:`\tau_{ik} \propto \pi_k e^{L_{ik}}`, where it is :math:`\log \sum_k \pi_k e^{L_{ik}}`. That it is a bound is seen of
    this form too: the logarithm and the exponential rise.

    Parameters
    ----------
    family
        Posteriors of one component, `FullRank` or `MeanField`.
    observations
        The cells.
    n_components
        Components K.
    """

    def __init__(self, family: type[Posteriors], observations: Observations, n_components: int) -> None:
        self.observations = observations
        self.components = [family(observations, PoissonTerms(observations)) for _ in range(n_components)]
        n = observations.shape[0]
        self.responsibilities, self.bound = np.full((n, n_components), 1 / n_components), np.full(n, np.nan)

    def settle(self, parameters: MixtureParameters, pool: Threads, *, max_steps: int, tol: float) -> MixtureSums:
        """Move all posteriors towards their optimum, as those of one component, and responsibilities to theirs."""
        for part, covariance in zip(self.components, parameters.covariances, strict=True):
            part.prepare(covariance)
        coefficients = [parameters.coefficients_of(k) for k in range(parameters.n_components)]
        log_weights = np.log(parameters.weights)

        def process_chunk(start: int, stop: int) -> list[MixtureSums]:
            size, parts = self.components[0].block_size(), []
            workers = [part.worker() for part in self.components]
            for first in range(start, stop, size):
                cells = slice(first, min(first + size, stop))
                for worker, own in zip(workers, coefficients, strict=True):
                    worker.settle_block(cells, own, max_steps, tol)
                self.share(cells, log_weights)
                shares = self.responsibilities[cells]
                sums = [worker.sums(cells, shares[:, k]) for k, worker in enumerate(workers)]
                parts.append(MixtureSums(float(self.bound[cells].sum()), shares.sum(0), sums))
            return parts

        chunks = pool.map_chunks(process_chunk, self.observations.shape[0], self.components[0].block_size())
        first, *others = [part for chunk in chunks for part in chunk]
        for other in others:
            first += other
        for part in self.components:
            part.started = True
        return first

    def share(self, cells: slice, log_weights: Array) -> None:
        """Responsibilities and bounds of some cells, of the bounds under each component."""
        joint = np.stack([part.bound[cells] for part in self.components], 1) + log_weights
        highest = joint.max(1, keepdims=True)
        relative = np.exp(joint - highest)
        total = relative.sum(1, keepdims=True)
        self.responsibilities[cells], self.bound[cells] = relative / total, (highest + np.log(total))[:, 0]

    def snapshot(self) -> list[tuple[Array, ...]]:
        """Copies of what posteriors start from."""
        return [part.snapshot() for part in self.components]

    def restore(self, snapshot: list[tuple[Array, ...]]) -> None:
        """Take over a snapshot."""
        for part, values in zip(self.components, snapshot, strict=True):
            part.restore(values)
