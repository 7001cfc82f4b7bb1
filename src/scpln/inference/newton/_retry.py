"""A second attempt for cells whose posteriors did not converge."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._states import CellStates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from scpln.core import Array, CountData

    from ._families import GaussianFamily

    OnStuck = Callable[[NDArray[np.intp], int], None]


#: Cells that a warning names.
MOST_NAMED = 5


@dataclass(frozen=True)
class Retry:
    """How cells whose every step was refused, or that took too many, are optimised again.

    Where a gene that nearly all cells have is absent from one, the log-likelihood at the start is −10¹¹ nats and more,
    derivatives overflow float32, or what a step gains is lost in rounding: each is refused, and the cell stays at the prior.

    Parameters
    ----------
    data
        All cells.
    family
        Of their posteriors.
    optimize
        Moves posteriors of some cells, in place; returns the positions of those that did not converge.
    bound
        Bound of some cells at posteriors N(m, V) as packed lower triangles, nats.
    start_variance
        Variance of the posteriors that it starts from.
    batch_size
        Cells read at a time.
    """

    data: CountData
    family: GaussianFamily
    optimize: Callable[[CountData, CellStates], NDArray[np.intp]]
    bound: Callable[[CountData, Array, Array], Array]
    start_variance: float
    batch_size: int | None

    def run(self, cells: CellStates, stuck: NDArray[np.intp]) -> NDArray[np.intp]:
        """Optimise `stuck` cells in float64, from near the prior, and keep what is better; which did not converge then."""
        if not len(stuck):
            return stuck
        stuck = np.sort(stuck)
        part, old = self.data.subset(stuck, self.batch_size), cells.take(stuck)
        new = CellStates.at(np.zeros(old.mean.shape), self.family, self.start_variance, np.float64)
        left = self.optimize(part, new)
        with np.errstate(over="ignore", invalid="ignore"):
            before, after = self._bound(part, old), self._bound(part, new)
        before, after = (np.where(np.isnan(bound), -np.inf, bound) for bound in (before, after))
        better = after > before
        chosen = stuck[better]
        cells.mean[chosen], cells.variance[chosen] = new.mean[better], new.variance[better]
        cells.log_det[chosen] = new.log_det[better]
        return stuck[np.sort(left)]

    def _bound(self, data: CountData, cells: CellStates) -> Array:
        return self.bound(data, cells.mean, self.family.covariance(cells.variance))


def describe_stuck(stuck: NDArray[np.intp], n_cells: int, names: Sequence[Any] | None = None) -> str:
    """Which cells did not converge, by position, or by name if `names` of all are given, and what that means."""
    shown = [str(cell) if names is None else repr(names[cell]) for cell in stuck[:MOST_NAMED].tolist()]
    more = ", …" if len(stuck) > MOST_NAMED else ""
    return (
        f"The posteriors of {len(stuck):,} of {n_cells:,} cells did not converge, in float64 either: {', '.join(shown)}{more}. "
        "Do not rely on their bounds and latent states. Their counts are next to impossible under the model, as none of a "
        "gene that all training cells have: look at these cells, or leave such genes out."
    )


def warn_stuck(stuck: NDArray[np.intp], n_cells: int) -> None:
    """Warn if any of the cells did not converge."""
    if len(stuck):
        warnings.warn(describe_stuck(stuck, n_cells), stacklevel=3)
