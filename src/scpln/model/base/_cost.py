r"""What a fit will take: seconds and memory, from counts of operations and how fast this machine does some of them.

The constants are measured times divided by counts of operations, on one thread. Iterations until convergence are not
known beforehand, so that an estimate is right within a factor of two to three.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from scpln.core import available_threads
from scpln.inference.newton import COARSE_CELLS, COARSE_RATIO

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("scpln.cost")  # of its own, so that the command line can let it through

#: From how many seconds on, and from which share of the machine's memory, a fit is announced.
LONG, LARGE = 60.0, 0.5
#: Seconds that `_sample_work` took on the machine where the constants were measured.
_REFERENCE = 350e-6
#: Newton's method: iterations that it usually takes, and on all cells after a start on some of them, with first steps.
_ITERATIONS, _ITERATIONS_AFTER_START = 60, 20
#: Nanoseconds of an iteration: for each cell and gene, times the numbers that these multiply, and for each cell, times q².
_PAIR, _PRODUCT, _CELL = 3.0, 0.06, 35.0
#: The same by quadrature, and the iterations that it takes.
_QUADRATURE_PAIR, _QUADRATURE_ITERATIONS = 400.0, 30
#: Nanoseconds of a cell and gene in closed form beside others by quadrature.
_CLOSED_PAIR = 80.0
#: Nanoseconds of a draw: for each gene, with gradients and without; through a flow and back, by kind.
_DRAW, _DRAW_WITHOUT_GRADIENT = 14.0, 7.0
_FLOW = {"nsf": 50e3, "realnvp": 15e3, "iaf": 10e3, "maf": 10e3}
_OTHER_FLOW = 8e3
#: Nanoseconds of a multiplication in a network and its gradient, and seconds of a step besides.
_NETWORK, _STEP = 0.09, 3e-3
#: Copies of a cell's numbers in memory, and bytes that everything takes besides.
_COPIES, _BASE = 4, 30e6
_NANO = 1e-9


@dataclass(frozen=True)
class Cost:
    """What a fit is expected to take.

    Parameters
    ----------
    seconds
        Time.
    memory
        Bytes at its peak, besides the data and what the process has already.

    Examples
    --------
    >>> print(Cost(300.0, 3e9))
    about 5 min and 3 GB
    >>> print(Cost(4.2, 2.5e8) + Cost(3.0, 1e8))
    about 7 s and 250 MB
    """

    seconds: float
    memory: float

    def __add__(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(self.seconds + other.seconds, max(self.memory, other.memory))

    def __str__(self) -> str:
        return f"about {_duration(self.seconds)} and {_size(self.memory)}"


def newton_cost(
    n_cells: int,
    n_genes: int,
    n_latent: int,
    n_covariates: int = 1,
    *,
    max_iter: int,
    n_by_quadrature: int = 0,
    n_threads: int | None = None,
) -> Cost:
    """Cost of PLN-PCA with a Gaussian for each cell, and with so many genes whose likelihood takes quadrature.

    Examples
    --------
    >>> small, large = (newton_cost(n, 2000, 10, max_iter=500, n_threads=1) for n in (1_000, 20_000))
    >>> 15 < large.seconds / small.seconds < 25
    True
    """
    numbers = n_latent + n_latent * (n_latent + 1) // 2
    products = 2 * (n_covariates + numbers) + n_covariates + n_latent + 2 * (numbers - n_latent)
    cell = n_genes * (_PAIR + _PRODUCT * products) + _CELL * n_latent**2
    passes = _cell_passes(n_cells, min(_ITERATIONS, max_iter))
    nanoseconds = passes * cell
    if n_by_quadrature:
        genes = n_by_quadrature * _QUADRATURE_PAIR + (n_genes - n_by_quadrature) * _CLOSED_PAIR
        nanoseconds += _cell_passes(n_cells, min(_QUADRATURE_ITERATIONS, max_iter)) * genes
    threads = n_threads or available_threads()
    memory = _BASE + 4.0 * _COPIES * n_cells * numbers
    return Cost(nanoseconds * _NANO * slowness() / threads, memory)


def steps_cost(
    n_cells: int,
    n_genes: int,
    *,
    n_steps: int,
    batch_size: int,
    n_draws: int,
    weights: float = 0.0,
    flow: str | None = None,
    n_evaluated: int = 0,
    n_features: int = 0,
) -> Cost:
    """Cost of stochastic training.

    Parameters
    ----------
    n_cells, n_genes
        Of the data.
    n_steps, batch_size, n_draws
        Steps, cells in each, and draws of each cell.
    weights
        Multiplications that networks take for a cell or draw.
    flow
        Kind of flow that draws go through.
    n_evaluated
        Draws of all cells from which a bound is computed at the end.
    n_features
        Numbers that are kept of each cell.

    Examples
    --------
    >>> cost = steps_cost(1000, 500, n_steps=100, batch_size=512, n_draws=4, flow="sylvester")
    >>> cost.seconds > steps_cost(1000, 500, n_steps=100, batch_size=512, n_draws=4).seconds
    True
    """
    drawn, evaluated = n_steps * min(batch_size, n_cells) * n_draws, n_evaluated * n_cells
    through = 0.0 if flow is None else _FLOW.get(flow, _OTHER_FLOW)
    nanoseconds = drawn * (n_genes * _DRAW + weights * _NETWORK + through)
    nanoseconds += evaluated * (n_genes * _DRAW_WITHOUT_GRADIENT + weights * _NETWORK / 3 + through / 2)
    memory = (
        _BASE + 4.0 * n_cells * n_features + 8.0 * 4 * min(batch_size, n_cells) * n_draws * n_genes + 16.0 * weights
    )
    return Cost((nanoseconds * _NANO + n_steps * _STEP) * slowness(), memory)


def network_weights(*layers: Sequence[int]) -> float:
    """Weights of networks with the given widths of layers, which is how often each multiplies for one cell.

    Examples
    --------
    >>> network_weights([2000, 128, 10], [10, 128, 2000])
    514560.0
    """
    return float(sum(a * b for widths in layers for a, b in itertools.pairwise(widths)))


def announce(cost: Cost, n_cells: int, n_genes: int) -> None:
    """Say what a fit will take, if that is long, and warn if it is more memory than there should be."""
    what = f"{n_cells:,} cells × {n_genes:,} genes"
    total = total_memory()
    if total is not None and cost.memory > LARGE * total:
        logger.warning(
            "This fit takes %s: %s. The machine has %s of memory in all: train on fewer genes (highly variable ones) or "
            "with a smaller n_latent, if it runs out.",
            cost,
            what,
            _size(total),
        )
    elif cost.seconds > LONG:
        logger.info("This fit takes %s: %s; within a factor of two or three.", cost, what)


@functools.cache
def slowness() -> float:
    """How many times slower this machine is than that of the constants, from some milliseconds of typical work."""
    random = np.random.default_rng(0)
    left, right = (random.random(shape, dtype=np.float32) for shape in ((256, 64), (64, 1024)))
    times = []
    with threadpool_limits(1):  # several threads would wait for each other on a busy machine
        for _ in range(8):
            begin = time.perf_counter()
            np.exp(left @ right * 0.01)
            times.append(time.perf_counter() - begin)
    return min(times) / _REFERENCE


def total_memory() -> int | None:
    """Memory of the machine in bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _cell_passes(n_cells: int, iterations: int) -> float:
    """Cells times iterations: many cells are fitted on some of them first."""
    if n_cells <= COARSE_RATIO * COARSE_CELLS:
        return float(n_cells * iterations)
    return float(COARSE_CELLS * iterations + n_cells * min(_ITERATIONS_AFTER_START, iterations))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _size(size: float) -> str:
    return f"{round(size / 1e6)} MB" if size < 1e9 else f"{size / 1e9:.2g} GB"
