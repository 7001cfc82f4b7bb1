"""AnnData and MuData in files: whether they can be written, and writing them."""

from ._writable import check_writable
from ._write import write_data

__all__ = ["check_writable", "write_data"]
