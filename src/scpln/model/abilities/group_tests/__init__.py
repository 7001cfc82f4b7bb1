"""Tests of whether groups of cells or samples have the same mean expression."""

from ._ability import GroupTests
from ._plan import Plan
from ._tests import GroupTest

__all__ = ["GroupTest", "GroupTests", "Plan"]
