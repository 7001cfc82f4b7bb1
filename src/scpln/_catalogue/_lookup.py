"""Finding rows, and what they have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ._models import MODELS
from ._shared import OF_ALL, RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._entry import Entry, Option, Result


def register(entry: Entry) -> None:
    """Add a model, or replace the one of the same key.

    Examples
    --------
    >>> from scpln._catalogue import Entry
    >>> register(Entry("mine", "my_package.Mine", "a model of mine"))
    >>> of_class("Mine").key
    'mine'
    >>> del MODELS["mine"]
    """
    MODELS[entry.key] = entry


def default_key() -> str:
    """Key of the model that is fitted unless the user says otherwise."""
    return next(iter(MODELS))


def of_class(class_name: str) -> Entry | None:
    """The row of a class; None if there is none."""
    return next((entry for entry in MODELS.values() if entry.class_name == class_name), None)


def of_function(function: str) -> Entry:
    """The row of a function of ``scpln.tl``.

    Examples
    --------
    >>> of_function("count_vae").class_name
    'CountVAE'
    """
    return next(entry for entry in MODELS.values() if entry.function == function)


def keys_of(option: str) -> list[str]:
    """Keys of the models that have an option.

    Examples
    --------
    >>> keys_of("n_hidden")
    ['countvae', 'countgmvae', 'countvqvae']
    """
    return [key for key, entry in MODELS.items() if option in {each.name for each in entry.options}]


def keys_with(likelihood: str) -> list[str]:
    """Keys of the models that have a likelihood."""
    return [key for key, entry in MODELS.items() if likelihood in entry.likelihoods]


def joint_models() -> list[str]:
    """Classes that model several modalities of a MuData together."""
    return [entry.class_name for entry in MODELS.values() if entry.takes_mudata]


def keys_writing(place: str) -> list[str]:
    """Keys of the models that write into a place, such as ``obs["KEY_cluster"]``."""
    return [key for key, entry in MODELS.items() if any(place in each.places for each in results_of(entry))]


def options() -> dict[str, Option]:
    """Options that some models have only, by name, with the choices of all of these, and the words of the model with most."""
    found: dict[str, Option] = {}
    for entry in MODELS.values():
        for option in entry.options:
            other = found.get(option.name, option)
            widest = max(other, option, key=lambda each: len(each.choices))
            found[option.name] = replace(
                widest, choices=tuple(dict.fromkeys([*widest.choices, *other.choices, *option.choices]))
            )
    return found


def results_of(entry: Entry) -> list[Result]:
    """What a model writes."""
    return [*(RESULTS if entry.has_latent else (OF_ALL,)), *entry.results]


def results() -> list[Result]:
    """What any model writes, each once."""
    own = [result for entry in MODELS.values() for result in entry.results]
    return list(dict.fromkeys([RESULTS[0], *own, *RESULTS[1:]]))


def likelihoods() -> tuple[str, ...]:
    """Likelihoods of all models, and names that they once had."""
    names = [name for entry in MODELS.values() for name in entry.likelihoods]
    former = [name for entry in MODELS.values() for name in entry.former_likelihoods]
    return tuple(dict.fromkeys([*names, *former]))


def in_words(keys: Iterable[str], last: str = "and") -> str:
    """Names as a text.

    Examples
    --------
    >>> in_words(["a", "b", "c"]), in_words(["a"])
    ('a, b and c', 'a')
    """
    *first, final = keys
    return f"{', '.join(first)} {last} {final}" if first else final
