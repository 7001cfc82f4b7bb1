"""Which model, and how large: a search over choices, ranked by the bound of held-out cells.

scvi-tools' own search, `scvi.autotune`, cannot run these models: it passes Lightning's loggers and callbacks to
``train``, which takes none, ranks by what Lightning logs of the validation cells that also decide when to stop, and needs
Ray, Hyperopt and scib-metrics.
"""

from ._result import SearchResult
from ._search import search

__all__ = ["SearchResult", "search"]
