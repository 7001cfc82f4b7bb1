"""A likelihood that a user gives as a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from scpln.module.likelihoods import Likelihood

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from scpln.module._count_batch import CountBatch


class LogDensityLikelihood(Likelihood):
    """Likelihood known by its log-density alone: no moments, and no draws.

    Parameters
    ----------
    n_genes
        Number of genes p.
    log_density
        From log-rates η (..., n, p) and counts y (n, p), float64, to log-probabilities of the shape of η.

    Examples
    --------
    >>> import torch
    >>> likelihood = LogDensityLikelihood(2, lambda eta, y: y * eta - eta.exp())
    >>> likelihood.log_prob(torch.zeros(2), torch.tensor([1.0, 2.0]))
    tensor([-1., -1.])
    """

    def __init__(self, n_genes: int, log_density: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(n_genes)
        self._log_density = log_density

    def log_likelihood(self, eta: Tensor, batch: CountBatch, deviations: Mapping[str, Tensor] | None = None) -> Tensor:
        """Sums over genes."""
        return self._log_density(eta.double(), batch.dense.double()).sum(-1).to(eta.dtype)

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        return self._log_density(eta, y)

    def _block(self, *_: Any) -> NoReturn:
        self._unknown("blocks")

    def _mean(self, *_: Any) -> NoReturn:
        self._unknown("a mean")

    def _variance(self, *_: Any) -> NoReturn:
        self._unknown("a variance")

    def _sample(self, *_: Any) -> NoReturn:
        self._unknown("draws")

    @staticmethod
    def _unknown(what: str) -> NoReturn:
        msg = f"likelihood= is a log-density, which has not {what}. Take a likelihood by name for that."
        raise NotImplementedError(msg)
