"""Poisson log-normal models in gene space with sparse precisions: networks of genes."""

from ._fit import RULES, NetworkResult, Rule, checked_penalties, checked_rule, fit_network
from ._path import MOST_MORE, N_PENALTIES

__all__ = [
    "MOST_MORE",
    "N_PENALTIES",
    "RULES",
    "NetworkResult",
    "Rule",
    "checked_penalties",
    "checked_rule",
    "fit_network",
]
