"""A mixture from several starts, and the number of its components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._criteria import criteria_of
from ._moves import LEAST_GAIN, merge, merges, split_and_merge, splits, states_of
from ._starts import groupings, of_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._parameters import MixtureParameters
    from ._run import Run, Runner

#: Most components where ICL says how many, and so many more than the best that are tried before that ends.
MOST_COMPONENTS, BEYOND = 10, 2
#: Splits of components of the mixture with one less that a mixture starts from, at most, and merges of that with one more.
SPLITS, MERGES = 3, 2


class Interrupted(Exception):
    """Ctrl-C was pressed, and what was reached is kept."""


class Search:
    """Mixtures by their number of components, the best that was reached of each."""

    def __init__(self, runner: Runner, one: MixtureParameters, seed: int, *, interrupted: bool) -> None:
        self.runner, self.seed = runner, seed
        self.reason = ""
        self.one = runner.start_of(one) if interrupted else runner.run_of(one)
        self.runs: dict[int, Run] = {1: self.one}

    def fit(self, n_components: int | Iterable[int] | None) -> Run:
        """So many components; or those of them, or of any, with the best ICL. Ctrl-C ends it, and keeps what there is."""
        wanted = [n_components] if isinstance(n_components, int) else n_components
        try:
            self._stop_if_interrupted(self.one)
            for number in self._path() if wanted is None else sorted(wanted):
                self._add(number)
            if not isinstance(n_components, int):
                self._go_back()
        except (Interrupted, KeyboardInterrupt):
            self.reason = "interrupted; the best that was reached is kept"
        known = [number for number in wanted or self.runs if number in self.runs]
        if not known:  # it was interrupted before there was one
            number = min(wanted or [1])
            self.runs[number] = self.runner.start_of(self._of_groups(number))
            known = [number]
        return max((self.runs[number] for number in known), key=lambda run: criteria_of(run).icl)

    def _path(self) -> Iterator[int]:
        """Numbers of components, upwards until ICL falls."""
        for number in range(1, min(MOST_COMPONENTS, len(self.one.groups)) + 1):
            yield number
            best = max(self.runs, key=lambda k: criteria_of(self.runs[k]).icl)
            if number >= best + BEYOND:
                return

    def _add(self, number: int) -> None:
        """The mixture of so many components, from the best of several starts."""
        if number in self.runs:
            return
        best: Run | None = None
        for start in self._starts(number):
            run = self.runner.short(start)
            if best is None or run.objective > best.objective:
                best = self.runs[number] = run
            self._stop_if_interrupted(run)
        assert best is not None
        best = self.runs[number] = self.runner.finish(best)
        self._stop_if_interrupted(best)
        best = self.runs[number] = split_and_merge(self.runner, best, self.seed)
        self._stop_if_interrupted(best)

    def _starts(self, number: int) -> Iterator[MixtureParameters]:
        states, variances = states_of(self.one)
        known = self.one.profile.parameters
        for groups in groupings(states, number, self.seed):
            yield of_groups(states, variances, groups, number, known.slopes, known.covariances[0])
        if number - 1 in self.runs:
            for start, _ in zip(splits(self.runs[number - 1], self.seed), range(SPLITS), strict=False):
                yield start

    def _of_groups(self, number: int) -> MixtureParameters:
        return next(self._starts(number))

    def _go_back(self) -> None:
        """Mixtures of one component less from those of one more, by merging those that overlap most, where that is better."""
        for number in sorted(self.runs, reverse=True)[1:]:
            if number == 1 or number + 1 not in self.runs:
                continue
            larger = self.runs[number + 1]
            for pair, _ in zip(merges(larger), range(MERGES), strict=False):
                trial = self.runner.short(merge(larger.profile.parameters, *pair))
                self._stop_if_interrupted(trial)
                if trial.objective > self.runs[number].objective + LEAST_GAIN:
                    self.runs[number] = self.runner.finish(trial)
                    self._stop_if_interrupted(self.runs[number])

    @staticmethod
    def _stop_if_interrupted(run: Run) -> None:
        if run.interrupted:
            raise Interrupted


def in_order(given: MixtureParameters) -> MixtureParameters:
    """Components by their weights, the largest first, so that their order says nothing of how they were found."""
    return given.select(np.argsort(-given.weights, kind="stable"))
