"""One kind of data that models read of an AnnData or MuData: what every field can do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import rich.table
from anndata import AnnData
from mudata import MuData
from scvi.data.fields import BaseAnnDataField

Data = AnnData | MuData
State = dict[str, Any]
States = Mapping[str, State]

DESIGN_KEY = "design"
OFFSET_KEY = "log_size_factor"


class Field(BaseAnnDataField):
    """One kind of data that models read.

    Parameters
    ----------
    registry_key
        Name under which a data loader gives it.
    attr_name, attr_key
        Where it is in AnnData.
    """

    def __init__(self, registry_key: str, attr_name: str, attr_key: str | None) -> None:
        super().__init__()
        self._registry_key, self._attr_name, self._attr_key = registry_key, attr_name, attr_key

    @abstractmethod
    def learn(self, adata: Any) -> State:
        """What has to be known of the training data to read other data the same way."""

    @abstractmethod
    def read(self, adata: Any, states: States) -> Any:
        """The data, in the form that models use."""

    @property
    def registry_key(self) -> str:
        """Name under which a data loader gives it."""
        return self._registry_key

    @property
    def attr_name(self) -> str:
        """Attribute of AnnData that it is in."""
        return self._attr_name

    @property
    def attr_key(self) -> str | None:
        """Key in that attribute."""
        return self._attr_key

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read: never."""
        return False

    def validate_field(self, adata: Any) -> None:
        """Nothing to check before learning or reading, which check."""

    def register_field(self, adata: Any) -> State:
        """Learn from the training data."""
        return self.learn(adata)

    def transfer_field(self, state_registry: State, adata_target: Any, **kwargs: Any) -> State:
        """Keep what was learned, after checking that the other data can be read with it."""
        self.read(adata_target, {self.registry_key: state_registry})
        return dict(state_registry)

    def extend(self, state: State, adata: Any) -> State:
        """What was learned, with the categories that other data have besides, for models that are trained on them."""
        return {**state, "n_obs": adata.n_obs} if "n_obs" in state else dict(state)

    def get_summary_stats(self, state_registry: State) -> dict[str, int]:
        """Nothing to count."""
        return {}

    def view_state_registry(self, state_registry: State) -> rich.table.Table | None:
        """Table of what was learned."""
        table = rich.table.Table("what", "learned", title=f"{self.registry_key} State Registry")
        for name, value in state_registry.items():
            several = isinstance(value, list | tuple)
            shown = ", ".join(map(str, value[:10])) + (", …" if len(value) > 10 else "") if several else str(value)
            table.add_row(name, shown)
        return table
