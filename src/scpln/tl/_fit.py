"""The four steps that every one-call function and every command-line fit takes, and which argument is for which of them."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mudata import MuData

from scpln._catalogue import SCVI_NAMES
from scpln.core import hold_interrupts
from scpln.utils import keywords, storable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scpln.data import Data
    from scpln.model import ScplnModel

    Model = TypeVar("Model", bound=ScplnModel)

#: Arguments of the steps that are not choices of a user.
_NOT_CHOICES = ("self", "adata", "mdata", "registry", "source_registry")


class Steps(NamedTuple):
    """Arguments of the set-up, of the constructor, and of ``train``."""

    registration: dict[str, Any]
    parameters: dict[str, Any]
    training: dict[str, Any]


def split(model_class: type[Any], data: Data, arguments: Mapping[str, Any]) -> Steps:
    """Give each argument to the step that has it, by its name.

    Parameters
    ----------
    model_class
        A model.
    data
        What it is fitted to: of a MuData, the set-up is ``setup_mudata``.
    arguments
        Arguments by name. One that no step has is for the one that takes any (``**more``), or else refused. So is one of
        ``setup_anndata`` where the data are a MuData, unless it is what it would be anyway, and the other way round.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=20, n_vars=10)
    >>> split(scpln.model.PLNPCA, adata, {"layer": None, "n_latent": 3, "flow_hidden": [8], "seed": 1})
    Steps(registration={'layer': None}, parameters={'n_latent': 3, 'flow_hidden': [8]}, training={'seed': 1})
    >>> split(scpln.model.PLNPCA, adata, {"n_latents": 3})
    Traceback (most recent call last):
        ...
    TypeError: no step of PLNPCA takes 'n_latents'. Did you mean 'n_latent'?
    """
    setup = choices(getattr(model_class, _setup(model_class, data)))
    parameters, training = choices(model_class), choices(model_class.train)
    others = {name: default for each in _setups(model_class) for name, default in choices(each).items()}
    steps = Steps({}, {}, {})
    takers = ((setup, steps.registration), (parameters, steps.parameters), (training, steps.training))
    rest = [steps.parameters] * _takes_any(model_class) + [steps.training] * _takes_any(model_class.train)
    for name, value in arguments.items():
        taking = [step for taken, step in takers if name in taken] or ([] if name in others else rest)
        if taking:
            taking[0][name] = value
        else:
            if name not in others:
                raise TypeError(_taken_by_none(name, model_class, [*setup, *parameters, *training]))
            if value is not None and value != others[name]:
                raise ValueError(_not_for(name, data))
    return steps


def fit(
    model_class: type[Model], data: Data, steps: Steps, *, key_added: str | None = None, diagnostics: bool = False
) -> Model:
    """Set up the data, train a model on them, annotate them, and return the model.

    Parameters
    ----------
    model_class
        A class of :mod:`scpln.model`.
    data
        Annotated in place, after training has succeeded.
    steps
        Arguments of the set-up, of the constructor, and of ``train``.
    key_added
        Name under which results are stored; by default the model's.
    diagnostics
        As in ``annotate``, whose errors have the fitted model as their attribute ``model``.
    """
    if key_added is not None:
        storable_name("key_added", key_added)  # before the training, whose result has this name
    getattr(model_class, _setup(model_class, data))(data, **steps.registration)
    model = model_class(data, **steps.parameters)
    model.train(**steps.training)
    try:
        with hold_interrupts():  # a fit is not lost to Ctrl-C in what is done with it
            model.annotate(key_added=key_added, diagnostics=diagnostics)
    except Exception as error:  # nor to an error
        error.model = model  # type: ignore[attr-defined]
        error.add_note(
            "The model is fitted all the same: it is the attribute `model` of this error (in a console or notebook, "
            "`sys.last_value.model`)."
        )
        raise
    return model


def choices(step: Callable[..., Any]) -> dict[str, Any]:
    """Arguments that a user chooses, with their defaults.

    Examples
    --------
    >>> choices(lambda self, adata, n_latent=10, *, likelihood="nb": None)
    {'n_latent': 10, 'likelihood': 'nb'}
    """
    return {name: default for name, default in keywords(step).items() if name not in _NOT_CHOICES}


def _takes_any(step: Callable[..., Any]) -> bool:
    """Whether a step takes arguments that it does not name."""
    parameters = inspect.signature(step).parameters.values()
    return not hasattr(step, "more_keywords") and any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _setups(model_class: type[Any]) -> list[Callable[..., Any]]:
    """The set-ups that a model has."""
    return [getattr(model_class, name) for name in ("setup_anndata", "setup_mudata") if hasattr(model_class, name)]


def _setup(model_class: type[Any], data: Data) -> str:
    """Name of the set-up of such data; that of an AnnData says so if a model does not take a MuData."""
    return "setup_mudata" if isinstance(data, MuData) and hasattr(model_class, "setup_mudata") else "setup_anndata"


def _taken_by_none(name: str, model_class: type[Any], known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if name in SCVI_NAMES:
        hint = f" {SCVI_NAMES[name].remedy}"
    return f"no step of {model_class.__name__} takes {name!r}.{hint}"


def _not_for(name: str, data: Data) -> str:
    if isinstance(data, MuData):
        return (
            f"{name} is for one AnnData, and this is a MuData. Leave it out; where counts and size factors are is said of each "
            "modality, modalities={'rna': {'layer': 'counts', 'size_factor_key': 'total_counts'}}."
        )
    return f"{name} is for a MuData, and this is an AnnData. Leave it out, or pass the MuData."
