"""`save` and `load` with scvi-tools' arguments, without its pickles."""

from __future__ import annotations

import logging
import weakref
from abc import abstractmethod
from dataclasses import asdict
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import uuid4

import pandas as pd
import rich.pretty
from scvi.model.base import BaseModelClass

from scpln import __version__
from scpln._settings import quiet
from scpln.data import _manager
from scpln.utils import warn

from ._explained import Explained
from .saving import read_model, write_model

if TYPE_CHECKING:
    import os

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from scpln.data import Data

    from ._objective import Objective
    from .saving import SavedModel

logger = logging.getLogger("scpln")

#: Of what is saved: 2 since bounds in ``history`` are the better the higher for every model.
FORMAT = 2


class Persistent(Explained, BaseModelClass):
    """Saving and loading of scpln models."""

    module: torch.nn.Module
    init_params_: dict[str, Any]
    #: What models of earlier versions were made with, of arguments that were added since.
    _former_defaults: ClassVar[dict[str, Any]] = {}
    training_: dict[str, Any]
    history_: dict[str, pd.DataFrame] | None
    #: Of a model of cells that were mapped onto a reference: its design, and where the module grew.
    query_: dict[str, Any] | None = None
    #: Where the states of the cells are that the model, or its reference, was trained on: ``density`` (`StateDensity`), and, of a
    #: mixture, ``distances`` from their components (`Clusters`). Earlier versions kept nothing.
    states_: dict[str, Any] = {}  # noqa: RUF012  # replaced, never changed
    _fingerprint: str
    #: The data that the model was trained on, and the signature of each of its cells then.
    _trained_cells: tuple[weakref.ref[Data], NDArray[np.uint64]] | None

    def save(
        self,
        dir_path: str | os.PathLike,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: dict[str, Any] | None = None,
        legacy_mudata_format: bool = False,
        datamodule: object | None = None,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Save the model as a directory of safetensors and JSON.

        If saving is interrupted, the previous model in this directory stays whole, and the next save removes what was left
        behind. Processes that save to one place wait for each other; the last one's model stays.

        Parameters
        ----------
        dir_path
            Directory, made if necessary. Files in it that are not of the saved model stay as they are.
        prefix
            Start of the names of its files, for several models in one directory.
        overwrite
            Whether to replace a model that is there, and the AnnData or MuData that was saved with it if there is a new one.
        save_anndata
            Whether to save the AnnData or MuData too, so that loading needs no other.
        save_kwargs, legacy_mudata_format, datamodule
            Arguments of scvi-tools that have no meaning here; leave them out.
        **anndata_write_kwargs
            Arguments of `anndata.io.write_h5ad`, or of `mudata.write_h5mu`, such as ``compression="gzip"``.

        Raises
        ------
        ValueError
            There is a model and `overwrite` is not set, other files have the names of those that would be written, or the
            data are backed by a file that would be replaced. Nothing is changed then.

        Examples
        --------
        >>> import tempfile, scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=1)
        >>> scpln.model.setup_anndata(adata)
        >>> directory = tempfile.mkdtemp()
        >>> scpln.model.PLNPCA(adata, n_latent=1).save(directory, save_anndata=True)
        >>> scpln.model.PLNPCA.load(directory).adata.shape
        (100, 30)
        """
        if save_kwargs or legacy_mudata_format or datamodule is not None:
            msg = "save_kwargs, legacy_mudata_format and datamodule belong to scvi-tools' own format. Leave them out."
            raise ValueError(msg)
        if save_anndata and self.adata is None:
            msg = "save_anndata=True, but this model was loaded without its AnnData. Leave it out."
            raise ValueError(msg)
        functions = [name for name, value in self.init_params_["non_kwargs"].items() if callable(value)]
        if functions:
            msg = (
                f"{functions[0]}= is a function, which cannot be saved: what is loaded would not be this model. Keep its results with annotate(), "
                "and train it again where the function is at hand."
            )
            raise ValueError(msg)
        metadata = {
            "class": type(self).__name__,
            "scpln_version": __version__,
            "init_params": self.init_params_["non_kwargs"],
            "registry": self.registry,
            "is_trained": self.is_trained_,
            "training": self.training_,
            "history": history_lists(self.history_),
            "objective": asdict(self.objective),
            "format": FORMAT,
            "fingerprint": self._fingerprint,
        }
        if self.query_ is not None:
            metadata["query"] = self.query_
        if self.states_:
            metadata["states"] = self.states_
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.module.state_dict().items()}
        if not_finite := [name for name, value in tensors.items() if not value.isfinite().all()]:
            metadata["not_finite"] = not_finite  # so that these are no damage
        adata = self.adata if save_anndata else None
        where = write_model(
            dir_path,
            prefix,
            metadata=metadata,
            tensors=tensors,
            adata=adata,
            overwrite=overwrite,
            **anndata_write_kwargs,
        )
        logger.info("Saved the model in %s.", where)

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike,
        adata: Data | bool | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: str | None = None,
        datamodule: object | None = None,
        allowed_classes_names_list: list[str] | None = None,
    ) -> Self:
        """Load a model from the directory that it was saved in. No code in it is run.

        Parameters
        ----------
        dir_path
            Directory.
        adata
            Annotated data with the model's genes, in any order; it need not be set up. By default the data saved
            with the model; False loads the model without any. The stored posteriors are used if these are the cells
            that the model was trained on; others are inferred.
        accelerator, device
            Device for the parameters; ``"auto"`` is the CPU, where the closed-form models compute.
        prefix
            Start of the names of the files.
        backup_url, datamodule
            Arguments of scvi-tools that have no meaning here; leave them out.
        allowed_classes_names_list
            Names of other model classes whose files may be loaded into this one.
        """
        if backup_url is not None or datamodule is not None:
            msg = "backup_url and datamodule are not supported: download the directory first, and pass adata=."
            raise ValueError(msg)
        saved = read_model(dir_path, prefix, with_adata=adata is None)
        name = saved.metadata["class"]
        if name != cls.__name__ and name not in (allowed_classes_names_list or []):
            msg = f"{str(dir_path)!r} holds a {name}, not a {cls.__name__}. Load it with scpln.model.{name}.load(...)."
            raise ValueError(msg)
        if adata is None:
            adata = saved.adata
            if adata is None:
                warn(
                    f"No AnnData was saved in {str(dir_path)!r} and none was passed: the model is loaded without. "
                    "Pass adata= to compute from cells, or adata=False if that is meant."
                )
        with saved.described():
            model = cls(registry=saved.metadata["registry"], **{**cls._former(), **saved.metadata["init_params"]})
            model._restore(saved)
            repr(model)  # which reads most of what was restored
        if adata is not None and adata is not False:
            model._attach(adata)
        chosen = device if device != "auto" else None if accelerator in ("auto", "cpu") else accelerator
        if chosen is not None:
            model.to_device("cuda" if chosen == "gpu" else chosen)
        return model

    @classmethod
    def _former(cls) -> dict[str, Any]:
        """What models of earlier versions were made with, of the arguments that this class takes."""
        known = signature(cls).parameters
        return {name: value for name, value in cls._former_defaults.items() if name in known}

    def __getstate__(self) -> dict[str, Any]:
        """What pickles and copies keep: everything, with whether the own cells are those of training."""
        state = dict(self.__dict__)
        if self._trained_cells is not None:
            trained_on, names = self._trained_cells
            state["_trained_cells"] = names if trained_on() is self.adata is not None else None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take that over, with an identity of its own: scvi-tools keeps what it knows of a model under that."""
        self.__dict__.update(state)
        self.id = str(uuid4())
        names = state["_trained_cells"]
        self._trained_cells = None if names is None else (weakref.ref(self.adata), names)
        _manager.restore(self)

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put saved tensors into the module."""
        self.module.load_state_dict(tensors)

    def _restore(self, saved: SavedModel) -> None:
        """Take over what was saved."""
        self.query_ = saved.metadata.get("query")
        self.states_ = saved.metadata.get("states", {})
        self._load_tensors(saved.tensors)
        self.training_ = saved.metadata["training"]
        self.history_ = history_tables(_higher_is_better(saved.metadata))
        self.is_trained_ = saved.metadata["is_trained"]
        self._fingerprint = saved.metadata["fingerprint"]

    @property
    @abstractmethod
    def objective(self) -> Objective:
        """What training optimised."""

    @abstractmethod
    def _check(self, adata: Any, *, view_allowed: bool = True) -> None:
        """Refuse what is not the kind of data that the model was set up with."""

    def _attach(self, adata: Data) -> None:
        """Make these data the model's own, and see whether they hold the training cells."""
        self._check(adata, view_allowed=False)
        with quiet("scvi"):  # which says that it calls setup_anndata with the saved registry
            self.adata = adata
        if self.is_trained_ and (cells := self._read(adata)).has_fingerprint(self._fingerprint):
            self._trained_cells = (weakref.ref(adata), cells.signatures())

    @staticmethod
    def load_registry(dir_path: str | os.PathLike, prefix: str | None = None) -> dict[str, Any]:
        """What a saved model has learned of its data: arguments of setup_anndata, genes, categories."""
        return read_model(dir_path, prefix).metadata["registry"]

    @staticmethod
    def view_setup_args(dir_path: str | os.PathLike, prefix: str | None = None) -> None:
        """Show the arguments of setup_anndata of a saved model."""
        rich.pretty.pprint(_manager.setup_args(read_model(dir_path, prefix).metadata["registry"]))

    @classmethod
    def convert_legacy_save(cls, *args: Any, **kwargs: Any) -> None:
        """Not available: scpln has no legacy format, and does not load pickles."""
        msg = f"{cls.__name__} has no legacy format to convert from."
        raise NotImplementedError(msg)


def history_tables(history: dict[str, list[float]]) -> dict[str, pd.DataFrame] | None:
    """History as scvi-tools gives it, a table by epoch for each quantity; None before training."""
    return {
        name: pd.DataFrame({name: values}, index=pd.RangeIndex(1, len(values) + 1, name="epoch"))
        for name, values in history.items()
    } or None


def history_lists(tables: dict[str, pd.DataFrame] | None) -> dict[str, list[float]]:
    """The same as plain lists."""
    return {name: table[name].to_list() for name, table in (tables or {}).items()}


def _higher_is_better(metadata: dict[str, Any]) -> dict[str, list[float]]:
    """The saved history, whose bounds of epochs were minus the bound before format 2."""
    history: dict[str, list[float]] = metadata["history"]
    if metadata.get("format", 1) >= FORMAT:
        return history
    turned = ("elbo_train", "elbo_validation")
    return {name: [-value for value in values] if name in turned else values for name, values in history.items()}
