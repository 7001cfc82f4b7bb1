"""Kinds of files that commands read and write: what a file is, and what is kept of it."""

from ._kind import Kind, holds_mudata, kind_of
from ._read import read
from ._write import layout_of, require_room, write

__all__ = ["Kind", "holds_mudata", "kind_of", "layout_of", "read", "require_room", "write"]
