"""Whether data can be written and read again: asked before the work whose result is to be written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from scpln.utils import is_storable, shortened

from ._write import everything_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scpln.data import Data

#: Places that a message names.
MOST_NAMED = 5
_MAPPINGS = ("layers", "obsm", "varm", "obsp", "varp", "uns")


def check_writable(data: Data, suffix: str = ".h5ad") -> None:
    """Raise if something in the data cannot be written, or could not be read again.

    Everything is tried in memory by anndata itself, numbers without their rows, so that this takes little.

    Parameters
    ----------
    data
        An AnnData or MuData.
    suffix
        Kind of file: ``".h5ad"``, ``".h5mu"`` or ``".zarr"``.

    Raises
    ------
    ValueError
        Names the places, what is wrong with each, and what to do.

    Examples
    --------
    >>> adata = ad.AnnData(np.ones((2, 1)))
    >>> adata.obs["when"] = pd.to_datetime(["2024-01-31", "2024-02-01"])
    >>> check_writable(adata)
    Traceback (most recent call last):
        ...
    ValueError: A .h5ad file cannot hold obs['when'] (datetime64[ns] ...): convert it, as by astype(str), or delete it.
    """
    found = list(_faults(data, suffix))
    if found:
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        msg = f"A {suffix} file cannot hold {'; '.join(found[:MOST_NAMED])}{more}."
        raise ValueError(msg)


def _faults(data: Data, suffix: str) -> Iterator[str]:
    """What is wrong, in words."""
    with everything_allowed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = _in_memory(suffix)
        modalities: dict[str, Any] = getattr(data, "mod", {})
        for name in modalities:
            if not is_storable(name):
                yield _misnamed("mod", name)
        for prefix, part in {"": data, **{f"mod[{name!r}].": each for name, each in modalities.items()}}.items():
            yield from _of_part(store, prefix, part)


def _of_part(store: Any, prefix: str, part: Any) -> Iterator[str]:
    raw = getattr(part, "raw", None)
    slots = {"obs": part.obs, "var": part.var}
    slots |= {slot: values for slot in _MAPPINGS if (values := getattr(part, slot, None)) is not None}
    if raw is not None:
        slots |= {"raw.var": raw.var, "raw.varm": raw.varm}
    for slot, values in slots.items():
        check = _of_frame if isinstance(values, pd.DataFrame) else _of_mapping
        yield from check(store, f"{prefix}{slot}", values)


def _of_frame(store: Any, place: str, frame: pd.DataFrame) -> Iterator[str]:
    """Faults of a table: its index, and each of its columns."""
    repeated = frame.columns[frame.columns.duplicated()].unique()
    for name in repeated:
        yield f"{place}[{shortened(name)}] (there are several columns of that name): rename all but one"
    if why := _why_not(store, frame[[]].rename_axis(index=None)):
        yield f"{place}.index ({why}): convert it, as by {place}.index.astype(str)"
    if frame.index.name is not None and (why := _why_not(store, frame[[*{frame.index.name} & {*frame.columns}]])):
        yield f"{place}.index.name {shortened(frame.index.name)} ({why}): set it to None"
    for at, name in enumerate(frame.columns):
        if name in repeated or name == frame.index.name:
            continue
        if not isinstance(name, str) or "\0" in name or _why_not(store, pd.DataFrame({name: [0]}), name):
            yield _misnamed(place, name)
        elif why := _why_not(store, pd.DataFrame({name: _as_written(frame.iloc[:, at])})):
            yield f"{place}[{shortened(name)}] ({frame.dtypes.iloc[at]} {why}): convert it, as by astype(str), or delete it"


def _of_mapping(store: Any, place: str, values: Any) -> Iterator[str]:
    """Faults of what is stored by name, at any depth."""
    for name in values:
        if not is_storable(name):
            yield _misnamed(place, name)
            continue
        value, where = values[name], f"{place}[{shortened(name)}]"
        if isinstance(value, pd.DataFrame):
            yield from _of_frame(store, where, value)
        elif isinstance(value, Mapping):
            yield from _of_mapping(store, where, value)
        elif why := _why_not(store, _without_rows(value)):
            yield f"{where} ({type(value).__name__} {why}): convert it, or delete it"


def _why_not(store: Any, value: Any, column: str | None = None) -> str:
    """Why a value cannot be written and read again, in anndata's words; empty if it can."""
    try:
        ad.io.write_elem(store, "tried", value)
        read = ad.io.read_elem(store["tried"])
    except Exception as error:  # noqa: BLE001 (whatever anndata raises, and it raises anything)
        if type(error).__name__ == "IORegistryError":
            return "of a kind that anndata does not write"
        return ": ".join([type(error).__name__, " ".join(str(error).split("Error raised while")[0].split())[:200]])
    return "" if column is None or column in read else "another name is read"


def _as_written(column: pd.Series) -> Any:
    """The least that is as hard to write as a column: of categories each once, and of numbers one."""
    if column.dtype == object and pd.api.types.infer_dtype(column) == "string":
        column = column.astype("category")
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Categorical.from_codes(np.arange(len(column.cat.categories)), dtype=column.dtype)
    rows = slice(1) if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufc" else slice(None)
    return column.iloc[rows].array


def _without_rows(value: Any) -> Any:
    """The same without its rows, if it is an array of numbers."""
    is_numbers = getattr(getattr(value, "dtype", None), "kind", "O") in "biufc"
    return value[:0] if is_numbers and len(getattr(value, "shape", ())) > 0 else value


def _misnamed(place: str, name: object) -> str:
    return f"{place}[{shortened(name)}] (a name must be text, without '/', not empty, and not '_index'): rename it{_how(place, name)}"


def _how(place: str, name: object) -> str:
    """How to rename a column; that of a raw AnnData cannot be set."""
    frame = place.rpartition(".")[2]
    if frame not in ("obs", "var"):
        return ""
    new = "".join(letter if letter.isalnum() else "_" for letter in str(name)).strip("_") or "column"
    return f", as by adata.{place}.rename(columns={{{shortened(name)}: {shortened(new)}}}, inplace=True)"


def _in_memory(suffix: str) -> Any:
    """A file of a kind, in memory."""
    if suffix != ".zarr":
        return h5py.File("tried", "w", driver="core", backing_store=False)
    import zarr

    layout = {"zarr_format": ad.settings.zarr_write_format} if int(zarr.__version__.split(".")[0]) > 2 else {}
    return zarr.group(**layout)
