"""The four steps that every one-call function and every command-line fit takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from scpln.model import ScplnModel

    Model = TypeVar("Model", bound=ScplnModel)


def fit(
    model_class: type[Model],
    adata: AnnData,
    *,
    registration: Mapping[str, Any],
    parameters: Mapping[str, Any],
    training: Mapping[str, Any],
    key_added: str,
) -> Model:
    """Set up `adata`, train a `model_class` on it, annotate, and return the model.

    Parameters
    ----------
    model_class
        A class of :mod:`scpln.model`.
    adata
        Annotated in place, after training has succeeded.
    registration, parameters, training
        Arguments of the set-up, of the constructor, and of ``train``.
    key_added
        Name under which results are stored.
    """
    model_class.setup_anndata(adata, **registration)
    model = model_class(adata, **parameters)
    model.train(**training)
    model.annotate(key_added=key_added)
    return model
