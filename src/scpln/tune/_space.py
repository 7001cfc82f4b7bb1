"""The choices of a search: which there are, whether they can be compared, and the trials that they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import ParameterSampler

from scpln.utils import keywords

if TYPE_CHECKING:
    from scpln.model.abilities import Bounds

#: Arguments of constructors and of `train` that are the search's own business.
_OURS = ("self", "adata", "registry", "progress")


@dataclass(frozen=True)
class Space:
    """Choices for arguments of a model's constructor and of its ``train``.

    Parameters
    ----------
    choices
        By name, in the user's order: the values to choose from, or a distribution with ``rvs``.
    model_names, train_names
        Names that the constructor and ``train`` have.
    """

    choices: dict[str, Any]
    model_names: frozenset[str]
    train_names: frozenset[str]

    @classmethod
    def of(cls, model_class: type[Bounds], space: Mapping[str, Any], train: Mapping[str, Any]) -> Space:
        """Check the names and values that a user gave.

        Parameters
        ----------
        model_class
            What is searched over.
        space
            Choices by name; a text, number, None or truth value is the only choice.
        train
            Arguments of ``train`` that all trials have.
        """
        names = [_names(function) for function in (model_class.__init__, model_class.train)]
        for name in space:
            _check_name(name, "space", model_class, names[0] | names[1])
        for name in train:
            _check_name(name, "train", model_class, names[1] | {"progress"})
            if name in space:
                msg = f"{name!r} is in space and in train. Leave it in one of them."
                raise ValueError(msg)
        choices = {name: _as_choices(name, values) for name, values in space.items()}
        _check_comparable(choices)
        return cls(choices, *names)

    def trials(self, n_trials: int | None, seed: int) -> list[dict[str, Any]]:
        """All combinations in order, or so many of them at random, without repetition where there are only lists.

        Examples
        --------
        >>> space = Space({"n_latent": [2, 5], "likelihood": ["poisson", "nb"]}, frozenset(), frozenset())
        >>> space.trials(None, seed=0)[1]
        {'n_latent': 2, 'likelihood': 'nb'}
        >>> len(space.trials(3, seed=0))
        3
        """
        drawn = [name for name, values in self.choices.items() if not isinstance(values, list)]
        if n_trials is None and drawn:
            msg = f"{drawn} are distributions, so there is no grid of all choices. Say how many to try: n_trials=..."
            raise ValueError(msg)
        size = math.prod(len(values) for values in self.choices.values() if isinstance(values, list))
        if n_trials is None or (not drawn and n_trials >= size):
            return [dict(zip(self.choices, values, strict=True)) for values in product(*self.choices.values())]
        sampled = ParameterSampler(self.choices, n_trials, random_state=seed)
        return [{name: _plain(trial[name]) for name in self.choices} for trial in sampled]

    def split(self, trial: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments of the constructor, and of ``train``."""
        ours = {name: value for name, value in trial.items() if name in self.model_names}
        return ours, {name: value for name, value in trial.items() if name not in self.model_names}


def _names(function: Any) -> frozenset[str]:
    return frozenset(keywords(function)) - {*_OURS}


def _check_name(name: str, where: str, model_class: type[Bounds], known: frozenset[str] | set[str]) -> None:
    if name not in known:
        near = get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        what = "train" if where == "train" else "the constructor or train"
        msg = f"{where} has {name!r}, which {what} of {model_class.__name__} does not take.{hint}"
        raise ValueError(msg)


def _as_choices(name: str, values: Any) -> Any:
    """Values as a list; a distribution as it is."""
    if hasattr(values, "rvs"):
        return values
    if values is None or isinstance(values, str | int | float) or not isinstance(values, Sequence | np.ndarray):
        values = [values]
    choices = [_plain(value) for value in values]
    if not choices:
        msg = f"space has no values for {name!r}. Give at least one, or leave it out."
        raise ValueError(msg)
    return choices


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _check_comparable(choices: dict[str, Any]) -> None:
    """Refuse choices whose bounds are not of the same thing."""
    size_factors = choices.get("size_factors", [True])
    if len(set(map(bool, size_factors))) > 1:
        msg = (
            "space has size_factors True and False, but bounds are conditional on the size factors in the one case only "
            "and cannot be compared. Run a search for each."
        )
        raise ValueError(msg)
    likelihoods = choices.get("likelihood", [])
    others = [name for name in likelihoods if name != "bernoulli"]
    if others and "bernoulli" in likelihoods:
        msg = (
            f"space has likelihood 'bernoulli', of whether counts are zero, and {others[0]!r}, of the counts themselves. "
            "Their bounds cannot be compared. Run a search for each."
        )
        raise ValueError(msg)
