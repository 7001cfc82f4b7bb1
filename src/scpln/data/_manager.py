"""One registration of an AnnData or MuData for all model classes, and a view of it for each.

This file holds every use of scvi-tools' private names. They are needed because scvi-tools keeps one store of managers
per model class, which holds every AnnData that was ever set up until Python exits, by an identifier that a copy of the
AnnData shares, and because a manager says in its registry which class it belongs to. The names are the same in
scvi-tools 1.4 and 1.5.
"""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any

from scvi.data import AnnDataManager, AnnDataManagerValidationCheck

from ._make_fields import make_fields
from .entries import ENTRIES_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scvi.model.base import BaseModelClass

    from ._field import Data, Field, States

_managers: dict[int, SharedManager] = {}


class SharedManager(AnnDataManager):
    """scvi-tools' manager that reads through its fields and does not keep its AnnData alive."""

    _adata: weakref.ref[Data] | None = None

    @property
    def adata(self) -> Data | None:
        """The registered AnnData, as long as somebody else holds it."""
        return None if self._adata is None else self._adata()

    @adata.setter
    def adata(self, adata: Data | None) -> None:
        self._adata = None if adata is None else weakref.ref(adata)

    def __getstate__(self) -> dict[str, Any]:
        """All but the AnnData, which whoever pickles or copies this keeps and gives back."""
        return {name: value for name, value in self.__dict__.items() if name != "_adata"}

    def get_from_registry(self, registry_key: str) -> Any:
        """The data of a field, as models use it."""
        field: Field = next(field for field in self.fields if field.registry_key == registry_key)
        return field.read(self.adata, states(self.registry))

    def view(self, model_class: type[BaseModelClass]) -> SharedManager:
        """The same registration under the name of one model class."""
        view = copy.copy(self)
        view.adata = self.adata
        view._registry = {**self._registry, "model_name": model_class.__name__}
        return view


def states(registry: Mapping[str, Any]) -> States:
    """What each field has learned, by registry key."""
    return {key: entry["state_registry"] for key, entry in registry["field_registries"].items()}


def setup_args(registry: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that `setup_anndata` was called with."""
    return dict(registry["setup_args"])


def is_count_data(registry: Mapping[str, Any]) -> bool:
    """Whether the registered matrix holds counts. Only the argument that it does not is kept."""
    return bool(registry["setup_args"].get("is_count_data", True))


def is_joint(registry: Mapping[str, Any]) -> bool:
    """Whether a MuData is registered, or else an AnnData."""
    return "modalities" in registry["setup_args"]


def has_entries(registry: Mapping[str, Any]) -> bool:
    """Whether entries have offsets of their own, or were not all observed."""
    return ENTRIES_KEY in registry["field_registries"]


def register(adata: Data, fields: Mapping[str, Field], args: dict[str, Any], source: dict | None) -> SharedManager:
    """Register an AnnData or MuData for all model classes: learn from it, or take over what was learned (`source`).

    What a model takes over for itself, as it is loaded, leaves data that were set up as they were for other models.
    """
    method = "setup_mudata" if "modalities" in args else "setup_anndata"
    setup = {"model_name": None, "setup_method_name": method, "setup_args": args}
    unpaired_allowed = AnnDataManagerValidationCheck(check_fully_paired_mudata=False)
    manager = SharedManager(list(fields.values()), setup, unpaired_allowed)
    manager.register_fields(adata, source)
    if source is None or find(adata) is None:
        _remember(adata, manager)
    return manager


def _remember(adata: Data, manager: SharedManager) -> None:
    _managers[id(adata)] = manager
    weakref.finalize(adata, _managers.pop, id(adata), None)


def extended(registry: Mapping[str, Any], adata: Data) -> dict[str, Any]:
    """What a registration has learned, with the categories that other data have besides."""
    result: dict[str, Any] = copy.deepcopy(dict(registry))
    for key, field in make_fields(**setup_args(registry)).items():
        entry = result["field_registries"][key]
        entry["state_registry"] = field.extend(entry["state_registry"], adata)
        entry["summary_stats"] = field.get_summary_stats(entry["state_registry"])
    return result


def find(adata: Data) -> SharedManager | None:
    """The registration of exactly this AnnData or MuData."""
    manager = _managers.get(id(adata))
    return manager if manager is not None and manager.adata is adata else None


def adopt(model_class: type[BaseModelClass], adata: Data, manager: SharedManager | None = None) -> bool:
    """Give a model class its view of a registration, by default of what the data were set up with; False if not."""
    manager = manager or find(adata)
    if manager is None:
        return False
    model_class.register_manager(manager.view(model_class))
    weakref.finalize(adata, model_class._setup_adata_manager_store.pop, manager.adata_uuid, None)
    return True


def restore(model: BaseModelClass) -> None:
    """Register the data of a model that was unpickled or copied, as those that it was made of were registered."""
    manager, adata = model.adata_manager, model.adata
    if manager is None or adata is None:
        return
    manager.adata = adata
    model._register_manager_for_instance(manager)
    forget_with(model)
    if find(adata) is None:
        _remember(adata, manager)


def forget_with(model: BaseModelClass) -> None:
    """Drop a model's managers together with the model."""
    weakref.finalize(model, type(model)._per_instance_manager_store.pop, model.id, None)
