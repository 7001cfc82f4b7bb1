"""Which samples follow each other, and after how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from scpln.core import Array

#: Steps are whole multiples of a unit within this fraction of it.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Order:
    """Samples as members of series. Series are numbered by length, the longest first.

    Attributes
    ----------
    series
        Number of the series of each sample, (n,).
    lags
        Time since the sample before it, in units, (n,); ∞ of the first of a series, which depends on none.
    before
        Position of that sample, (n,); −1 of the first.
    places
        Samples that are the first, second, … of their series, in the order of the series' numbers.
    unit
        The time that is a lag of 1.
    """

    series: NDArray[np.intp]
    lags: Array
    before: NDArray[np.intp]
    places: tuple[NDArray[np.intp], ...]
    unit: float

    @classmethod
    def of(
        cls, groups: ArrayLike, times: ArrayLike, unit: float | None = None, names: Sequence[str] | None = None
    ) -> Order:
        """Sort samples by time within groups.

        Parameters
        ----------
        groups
            What series each sample is of, (n,), in any coding.
        times
            Time or position of each sample, (n,), finite.
        unit
            Time that is a lag of 1: if None, the shortest step if all others are whole multiples of it, and the median step otherwise.
        names
            Of the samples, for messages.

        Raises
        ------
        ValueError
            A series has two samples of the same time, or times are not finite.

        Examples
        --------
        >>> order = Order.of(["a", "b", "a", "a"], [4, 0, 0, 2])
        >>> order.lags.tolist(), order.unit
        ([1.0, inf, inf, 1.0], 2.0)
        >>> [place.tolist() for place in order.places]
        [[2, 1], [3], [0]]
        """
        time = np.asarray(times, np.float64)
        _, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        longest_first = np.argsort(-sizes, kind="stable")
        number = np.empty(len(sizes), np.intp)
        number[longest_first] = np.arange(len(sizes))
        series, sizes = number[codes], sizes[longest_first]
        rows = np.lexsort((time, series))
        steps = np.diff(time[rows], prepend=np.nan)
        starts = np.cumsum(sizes) - sizes
        steps[starts] = np.inf
        _check(time, rows, steps, names)
        within = steps[np.isfinite(steps)]
        unit = _unit(within) if unit is None else float(unit)
        lags = np.empty(len(time))
        lags[rows] = steps / unit
        if _are_whole(lags):
            lags = np.rint(lags)
        before = np.empty(len(time), np.intp)
        before[rows] = np.where(np.isfinite(steps), np.roll(rows, 1), -1)
        places = tuple(rows[starts[: (sizes > place).sum()] + place] for place in range(sizes.max(initial=0)))
        return cls(series, lags, before, places, unit)

    @property
    def n_series(self) -> int:
        """Number of series."""
        return len(self.places[0]) if self.places else 0

    @property
    def n_steps(self) -> int:
        """Samples that follow another."""
        return int(np.isfinite(self.lags).sum())

    @property
    def is_whole(self) -> bool:
        """Whether all lags are whole numbers."""
        return _are_whole(self.lags)

    def of_series(self, chosen: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """The places, of chosen series alone, whose numbers ascend."""
        kept = (place[chosen[chosen < len(place)]] for place in self.places)
        return [rows for rows in kept if len(rows)]

    def total(self, values: Array) -> Array:
        """Sums of numbers of samples (n,) over each series."""
        return np.bincount(self.series, values, minlength=self.n_series)


def _unit(steps: Array) -> float:
    """The shortest step if the others are whole multiples of it, otherwise the median; 1 if there are none."""
    if not len(steps):
        return 1.0
    shortest = float(steps.min())
    return shortest if _are_whole(steps / shortest) else float(np.median(steps))


def _are_whole(lags: Array) -> bool:
    finite = lags[np.isfinite(lags)]
    return bool((np.abs(finite - np.rint(finite)) <= ROUNDING).all())


def _check(time: Array, rows: NDArray[np.intp], steps: Array, names: Sequence[str] | None) -> None:
    def name(row: int) -> str:
        return repr(str(row if names is None else names[row]))

    if not np.isfinite(time).all():
        wrong = int(np.flatnonzero(~np.isfinite(time))[0])
        msg = f"sample {name(wrong)} has no finite time: give it one, or leave the sample out."
        raise ValueError(msg)
    if not (steps > 0).all():
        wrong = int(np.flatnonzero(~(steps > 0))[0])
        msg = (
            f"samples {name(rows[wrong - 1])} and {name(rows[wrong])} are of one series and have the same time, {time[rows[wrong]]:g}: "
            "give replicates series of their own, or add up their counts."
        )
        raise ValueError(msg)
