"""One registration of an AnnData for all model classes, and a view of it for each.

This file holds every use of scvi-tools' private names. They are needed because scvi-tools keeps one store of managers
per model class, which holds every AnnData that was ever set up until Python exits, by an identifier that a copy of the
AnnData shares, and because a manager says in its registry which class it belongs to. The names are the same in
scvi-tools 1.4 and 1.5.
"""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any

from scvi.data import AnnDataManager

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from scvi.model.base import BaseModelClass

    from ._fields import Field, States

_managers: dict[int, SharedManager] = {}


class SharedManager(AnnDataManager):
    """scvi-tools' manager that reads through its fields and does not keep its AnnData alive."""

    _adata: weakref.ref[AnnData] | None = None

    @property
    def adata(self) -> AnnData | None:
        """The registered AnnData, as long as somebody else holds it."""
        return None if self._adata is None else self._adata()

    @adata.setter
    def adata(self, adata: AnnData | None) -> None:
        self._adata = None if adata is None else weakref.ref(adata)

    def get_from_registry(self, registry_key: str) -> Any:
        """The data of a field, as models use it."""
        field: Field = next(field for field in self.fields if field.registry_key == registry_key)
        return field.read(self.adata, states(self.registry))

    def view(self, model_class: type[BaseModelClass]) -> SharedManager:
        """The same registration under the name of one model class."""
        view = copy.copy(self)
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


def register(adata: AnnData, fields: Mapping[str, Field], args: dict[str, Any], source: dict | None) -> None:
    """Register an AnnData for all model classes: learn from it, or take over what was learned (`source`)."""
    setup = {"model_name": None, "setup_method_name": "setup_anndata", "setup_args": args}
    manager = SharedManager(fields=list(fields.values()), setup_method_args=setup)
    manager.register_fields(adata, source)
    _managers[id(adata)] = manager
    weakref.finalize(adata, _managers.pop, id(adata), None)


def find(adata: AnnData) -> SharedManager | None:
    """The registration of exactly this AnnData."""
    manager = _managers.get(id(adata))
    return manager if manager is not None and manager.adata is adata else None


def adopt(model_class: type[BaseModelClass], adata: AnnData) -> bool:
    """Give a model class its view of the registration; False if there is none."""
    manager = find(adata)
    if manager is None:
        return False
    model_class.register_manager(manager.view(model_class))
    weakref.finalize(adata, model_class._setup_adata_manager_store.pop, manager.adata_uuid, None)
    return True


def forget_with(model: BaseModelClass) -> None:
    """Drop a model's managers together with the model."""
    weakref.finalize(model, type(model)._per_instance_manager_store.pop, model.id, None)
