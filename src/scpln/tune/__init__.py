"""Which model, and how large: a search over choices, ranked by the bound of held-out cells.

scvi-tools' own search, `scvi.autotune`, runs the autoencoders too, in parallel, where Ray, Hyperopt and scib-metrics are
installed: ``run_autotune(scpln.model.CountVAE, adata, metrics="elbo_validation", mode="min", ...)``. It ranks by the
validation cells, which also decide when a training stops; and not with scib-metrics, which need scvi-tools' own modules.
PLN-PCA has no epochs of Lightning that it could watch.
"""

from ._result import SearchResult
from ._search import search

__all__ = ["SearchResult", "search"]
