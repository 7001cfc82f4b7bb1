"""What a row of the catalogue says of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What the text of an option is turned into.
Kind = Literal[
    "positive", "not_negative", "number", "number_or_name", "switch", "directory", "column", "text", "choice"
]


@dataclass(frozen=True)
class Option:
    """An option that some models have only: an argument of the set-up, the constructor or ``train`` of these.

    Parameters
    ----------
    name
        The argument; the option has dashes in place of underscores.
    help
        What it is, in a few words.
    kind
        What it takes: a whole number of at least 1 or 0, a number above 0, such a number or a name, nothing (with ``--no-…``), a directory, a column
        of ``obs``, any text, or one of `choices`.
    default
        What it is if it is not given, for the help.
    metavar
        What the help calls the value.
    choices
        Values of a choice.
    """

    name: str
    help: str
    kind: Kind = "positive"
    default: object = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """Something that a model writes into the annotated data.

    Parameters
    ----------
    places
        Where, with ``KEY`` for the name of the results.
    description
        What it is, in one line.
    always
        Whether it is there after every fit.
    """

    places: tuple[str, ...]
    description: str
    always: bool = True


@dataclass(frozen=True)
class Entry:
    """A model, with ``seed`` among the arguments of ``train``.

    Parameters
    ----------
    key
        Name on the command line, and of results in ``uns``.
    class_path
        Module and name of the class.
    summary
        What it is, in a few words.
    sentence
        The same as a sentence, for a model card.
    likelihoods, posteriors
        Choices of these, the default first; none if the constructor does not take them.
    former_likelihoods
        Names that likelihoods once had, and the options that say the same now.
    function
        Name in ``scpln.tl`` of the function that does all in one call, if there is one.
    page
        Page of the documentation, from ``docs`` on, if there is one.
    options
        Those beyond the options that all models have.
    defaults
        What options of all models are if they are not given, as the help says it.
    notes
        What options of all models mean for this one besides what they mean for all.
    has_latent
        Whether cells have a latent state, whose dimensions ``n_latent`` in its constructor says, and a bound.
    results
        What it writes beyond what all models do, or all with a latent state.
    figures
        Functions of ``scpln.pl`` that draw what not every model writes.
    takes_mudata
        Whether it models several modalities of a MuData together.
    stochastic, closed_form
        Options of stochastic training, and the values of options with all of which there is no such training.
    """

    key: str
    class_path: str
    summary: str
    sentence: str = "A model of counts."
    likelihoods: tuple[str, ...] = ()
    posteriors: tuple[str, ...] = ()
    former_likelihoods: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    function: str | None = None
    page: str | None = None
    options: tuple[Option, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    has_latent: bool = True
    results: tuple[Result, ...] = ()
    figures: tuple[str, ...] = ()
    takes_mudata: bool = False
    stochastic: tuple[str, ...] = ()
    closed_form: Mapping[str, tuple[object, ...]] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return self.class_path.rpartition(".")[2]

    def load_class(self) -> Any:
        """The class, imported only now."""
        module, _, name = self.class_path.rpartition(".")
        return getattr(import_module(module), name)
