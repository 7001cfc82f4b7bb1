"""Estimates from other samples of the same cells: bootstrap and jackknife."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import numpy as np
from scipy.stats import t as student

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from scpln.core import Array

#: Estimates from the cells at given positions, sorted and perhaps repeated: B (p, d) and a root R (p, k) of Σ = R Rᵀ; None if there are none.
Refit: TypeAlias = "Callable[[NDArray[np.intp]], tuple[Array, Array] | None]"
ResamplingName: TypeAlias = Literal["bootstrap", "jackknife"]


@dataclass(frozen=True)
class Replicates:
    r"""Estimates from R samples of the same cells.

    Of a bootstrap [1]_ over G units, cells or clusters, each sample has G of them, drawn with replacement, and the spread of the estimates is that of
    their error. Of a jackknife each leaves one unit out, and

    .. math:: \mathrm{Var}(\hat\theta) = \frac{G - 1}{G} \sum_g (\hat\theta_{(g)} - \bar\theta)^2, \quad
        \mathrm{bias} = (G - 1) (\bar\theta - \hat\theta).

    Parameters
    ----------
    kind
        Which.
    coefficients
        B of each sample, (R, p, d).
    roots
        R of each, with Σ = R Rᵀ, (R, p, k).
    estimate
        B and R from all cells.
    n_units
        G.

    References
    ----------
    .. [1] B. Efron and R. J. Tibshirani (1993), An introduction to the bootstrap. Chapman and Hall.
    """

    kind: ResamplingName
    coefficients: Array
    roots: Array
    estimate: tuple[Array, Array]
    n_units: int

    def transformed(self, matrix: Array) -> Self:
        """With coefficients in other units, B Aᵀ with the given A (d, d)."""
        b, root = self.estimate
        return replace(self, coefficients=self.coefficients @ matrix.T, estimate=(b @ matrix.T, root))

    @property
    def degrees_of_freedom(self) -> float:
        """Of Student's t distribution."""
        return float(self.n_units - 1)

    def standard_errors(self, values: Array) -> Array:
        """Of anything that was made of each sample, (R, …)."""
        if self.kind == "bootstrap":
            return np.asarray(values.std(0, ddof=1))
        return np.asarray(np.sqrt((len(values) - 1) / len(values) * np.square(values - values.mean(0)).sum(0)))

    def bias(self, values: Array, estimate: Array) -> Array:
        """Of the estimate from all cells."""
        difference = values.mean(0) - estimate
        return difference if self.kind == "bootstrap" else (len(values) - 1) * difference

    def limits(self, values: Array, estimate: Array, level: float, *, percentile: bool) -> tuple[Array, Array]:
        """Lower and upper limits of an interval: percentiles of the samples, or the estimate and its standard errors."""
        if percentile:
            lower, upper = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2], axis=0)
            return lower, upper
        half = float(student.ppf(0.5 + level / 2, self.degrees_of_freedom)) * self.standard_errors(values)
        return estimate - half, estimate + half

    def covariances(self, genes: NDArray[np.intp], *, correlation: bool) -> tuple[Array, Array]:
        """Σ or correlations of some genes, of each sample (R, genes, genes) and from all cells."""
        parts = [self.roots[:, genes], self.estimate[1][None, genes]]
        if correlation:
            parts = [part / np.sqrt(np.maximum(np.square(part).sum(2, keepdims=True), 1e-300)) for part in parts]
        of_samples, of_all = (part @ part.transpose(0, 2, 1) for part in parts)
        return of_samples, of_all[0]


@dataclass(frozen=True)
class Resampling:
    """Which cells are in each sample.

    Parameters
    ----------
    n_cells
        Cells n.
    clusters
        Code of each cell's unit, (n,); each cell is one if None.
    """

    n_cells: int
    clusters: NDArray[np.intp] | None = None

    @property
    def n_units(self) -> int:
        """Units G."""
        return self.n_cells if self.clusters is None else int(self.clusters.max()) + 1

    def bootstrap(self, n_samples: int, seed: int) -> list[NDArray[np.intp]]:
        """Positions of cells, sorted. A sample is the same whatever the others are."""
        streams = np.random.SeedSequence(seed).spawn(n_samples)
        return [self._drawn(np.random.default_rng(stream)) for stream in streams]

    def _drawn(self, random: np.random.Generator) -> NDArray[np.intp]:
        times = np.bincount(random.integers(0, self.n_units, self.n_units), minlength=self.n_units)
        of_cells = times if self.clusters is None else times[self.clusters]
        return np.repeat(np.arange(self.n_cells), of_cells)

    def jackknife(self) -> list[NDArray[np.intp]]:
        """Positions of all cells but those of one unit, for each."""
        units = np.arange(self.n_cells) if self.clusters is None else self.clusters
        return [np.flatnonzero(units != unit) for unit in range(self.n_units)]


def refit_samples(
    refit: Refit, samples: Sequence[NDArray[np.intp]], n_workers: int, done: Callable[[int], None] | None = None
) -> tuple[list[tuple[Array, Array]], bool]:
    """Estimates from each sample that has them, in order, and whether Ctrl-C ended it; what was done by then is kept.

    Parameters
    ----------
    refit
        Makes the estimates, on one thread.
    samples
        Positions of cells.
    n_workers
        Samples at a time.
    done
        Called with the number of samples that are done.
    """
    found: dict[int, tuple[Array, Array]] = {}
    with ThreadPoolExecutor(n_workers) as pool:
        futures = {pool.submit(refit, sample): number for number, sample in enumerate(samples)}
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                estimates = future.result()
                if estimates is not None:
                    found[futures[future]] = estimates
                if done is not None:
                    done(count)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, KeyboardInterrupt):
                raise
            return [found[number] for number in sorted(found)], True
    return [found[number] for number in sorted(found)], False
