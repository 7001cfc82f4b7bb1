"""What a search found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scpln.utils import table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.model.abilities import Bounds


@dataclass(frozen=True)
class Trial:
    """One choice, and how it went.

    Parameters
    ----------
    parameters
        What was chosen.
    seconds
        How long training and evaluation took.
    bounds
        Bound of each held-out cell, nats; None if it failed.
    failure
        Why it failed.
    """

    parameters: dict[str, Any]
    seconds: float
    bounds: NDArray[np.float64] | None = None
    failure: str = ""

    @property
    def bound(self) -> float:
        """Mean bound; −∞ if it failed."""
        return -np.inf if self.bounds is None else float(self.bounds.mean())


@dataclass(frozen=True, repr=False)
class SearchResult:
    """Trials of a search, and the model of the best.

    Parameters
    ----------
    trials
        In the order in which they were made.
    model
        Trained model of the best trial; None if all failed.
    metric
        Bound that they are ranked by.
    held_out
        Positions of the held-out cells.
    conditions
        What bounds are conditional on, to put after their unit.
    interrupted
        Whether Ctrl-C ended the search.
    """

    trials: list[Trial]
    model: Bounds | None
    metric: str
    held_out: NDArray[np.intp]
    conditions: str = ""
    interrupted: bool = False

    @property
    def results(self) -> pd.DataFrame:
        """Table with a row for each trial, the best first, by its number.

        Besides a column for each choice: ``bound``, the mean over held-out cells in nats, and its ``standard_error``;
        ``behind``, what it lacks to the best, and the standard error of that, ``behind_error``, which is smaller, since
        the cells are the same; ``seconds``; and ``failure``, why a trial failed.
        """
        rows = [
            {
                **trial.parameters,
                **_compare(trial.bounds, self._best.bounds if self._best else None),
                "seconds": trial.seconds,
                "failure": trial.failure,
            }
            for trial in self.trials
        ]
        table = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="trial"))
        return table.sort_values("bound", ascending=False, kind="stable", na_position="last")

    @property
    def best(self) -> dict[str, Any]:
        """What the best trial chose."""
        return dict(self._require_best().parameters)

    @property
    def best_model(self) -> Bounds:
        """Trained model of the best trial; it has not seen the held-out cells."""
        self._require_best()
        assert self.model is not None
        return self.model

    @property
    def _best(self) -> Trial | None:
        done = [trial for trial in self.trials if trial.bounds is not None]
        return max(done, key=lambda trial: trial.bound) if done else None

    def _require_best(self) -> Trial:
        if self._best is None:
            failures = [trial.failure for trial in self.trials]
            msg = f"None of {len(failures)} trials succeeded. The first failed with: {failures[0] if failures else '-'}"
            raise RuntimeError(msg)
        return self._best

    @property
    def _title(self) -> str:
        n_failed = sum(bool(trial.failure) for trial in self.trials)
        failed = f", {n_failed} failed" if n_failed else ""
        stopped = ", interrupted" if self.interrupted else ""
        trials = f"{len(self.trials)} trials{failed}{stopped}, {self.metric} of {len(self.held_out):,} held-out cells"
        return f"{trials}, nats per cell{self.conditions}"

    @property
    def _shown(self) -> pd.DataFrame:
        """The table, as text."""
        shown = self.results if any(trial.failure for trial in self.trials) else self.results.drop(columns="failure")
        places = {**dict.fromkeys(("bound", "standard_error", "behind", "behind_error"), ".3f"), "seconds": ".1f"}
        return pd.DataFrame(
            {name: [_in_words(value, places.get(name, ".4g")) for value in shown[name]] for name in shown},
            index=shown.index,
        )

    def __repr__(self) -> str:
        return f"{self._title}\n{self._shown.to_string()}"

    def _repr_html_(self) -> str:
        shown = self._shown
        return table(
            self._title, ["trial", *map(str, shown.columns)], shown.reset_index().astype(str).to_numpy().tolist()
        )


def _in_words(value: Any, places: str) -> str:
    """A number to so many places, and anything else as it is."""
    return format(value, places) if isinstance(value, float | np.floating) else str(value)


def _compare(bounds: NDArray[np.float64] | None, best: NDArray[np.float64] | None) -> dict[str, float]:
    """Mean bound of a trial, what it lacks to the best, and their standard errors."""
    if bounds is None or best is None:
        return dict.fromkeys(("bound", "standard_error", "behind", "behind_error"), np.nan)
    lack = best - bounds
    return {
        "bound": float(bounds.mean()),
        "standard_error": _standard_error(bounds),
        "behind": float(lack.mean()),
        "behind_error": _standard_error(lack),
    }


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
