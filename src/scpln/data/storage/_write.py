"""Writing AnnData and MuData: all that anndata can be told to write, and a full disk as the error that it is."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
from mudata import MuData, write_h5mu

from ._stream import DeferringFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scpln.data import Data

NULLABLE_STRINGS = "allow_write_nullable_strings"


def write_data(path: Path, data: Data, **settings: Any) -> None:
    """Write an ``.h5ad``, an ``.h5mu`` or a ``.zarr``, by the ending of the name.

    Parameters
    ----------
    path
        The file, or the directory of a ``.zarr``; what was there is lost.
    data
        The cells; texts in ``obs`` and ``var`` become categories, as always in such files.
    settings
        For HDF5, those of its arrays, such as ``compression="gzip"``. With others of ``write_h5ad``, or where `data` are
        backed by a file, anndata opens the file itself.

    Raises
    ------
    OSError
        If there is no room, or no permission.
    """
    with everything_allowed():
        if path.suffix == ".zarr":
            data.write_zarr(path)
        elif isinstance(data, MuData):
            with DeferringFile(path) as file:
                write_h5mu(file, data, **settings)
        elif data.isbacked or not settings.keys() <= {"compression", "compression_opts"}:
            ad.io.write_h5ad(path, data, **settings)  # the method would make this the file that they are backed by
        else:
            data.strings_to_categoricals()
            if data.raw is not None:
                data.strings_to_categoricals(data.raw.var)
            with DeferringFile(path) as file, h5py.File(file, "w") as store:
                ad.io.write_elem(store, "/", data, dataset_kwargs=settings)
                if data.raw is None and "raw" in store:
                    del store["raw"]  # that there is none is written, which readers of backed files take for one


@contextmanager
def everything_allowed() -> Iterator[None]:
    """Let anndata write all that it can, without telling what else it may do one day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        if not hasattr(ad.settings, NULLABLE_STRINGS):
            yield
            return
        with ad.settings.override(**{NULLABLE_STRINGS: True}):
            yield
