"""Places in annotated data that hold something."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scpln.data import Data


def keys_of_registration(adata: Data) -> list[str]:
    """Entries of uns that tie an AnnData to the models of this process, and mean nothing in a file."""
    return [name for name in adata.uns if name.startswith("_scvi_")]


def places(adata: Data) -> set[str]:
    """Every place in `adata` that holds something, as a user would write it."""
    parts = {f"mod[{name!r}].": part for name, part in getattr(adata, "mod", {}).items()}
    slots = [
        ("", adata, ("obs", "obsm", "uns")),
        *((where, part, ("var", "varm", "varp")) for where, part in parts.items()),
    ]
    if not parts:
        slots.append(("", adata, ("var", "varm", "varp")))
    return {f"{where}{slot}[{key!r}]" for where, part, names in slots for slot in names for key in getattr(part, slot)}
