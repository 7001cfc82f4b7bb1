"""A path of fits: each rank starts from the one before, with a direction more."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.inference._gaussians import fit_gaussians

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scpln.core import Array, CountData
    from scpln.inference.newton import FitResult
    from scpln.module import Likelihood

    from ._held_out import HeldOut

logger = logging.getLogger("scpln")


@dataclass(frozen=True)
class RankFit:
    """One rank of a path.

    Attributes
    ----------
    rank
        Latent dimensions q.
    fit
        The fit of all data; None if it failed.
    held_out
        Score of each cell whose counts were held out, nats.
    n_likelihood
        Number of parameters of the likelihood.
    seconds
        That it took.
    reason
        Why the fit ended, or what it failed with.
    """

    rank: int
    fit: FitResult | None
    held_out: Array | None
    n_likelihood: int
    seconds: float
    reason: str


def rank_path(
    data: CountData,
    ranks: Sequence[int],
    make_likelihood: Callable[[], Likelihood],
    *,
    held_out: HeldOut | None = None,
    on_rank: Callable[[int, RankFit], None] | None = None,
    **settings: Any,
) -> list[RankFit]:
    """Maximum-likelihood fits of rising rank.

    A rank starts from the one before, with new directions at the principal components of what that leaves of the counts. If the counts
    of all cells were thinned, it starts from the fit of the same rank to a half of them. A rank that fails is passed over, and Ctrl-C
    keeps the ranks that are done.

    Parameters
    ----------
    data
        Counts, offsets and design.
    ranks
        Numbers of latent dimensions, rising.
    make_likelihood
        Gives a new likelihood of all genes.
    held_out
        Counts to score fits by.
    on_rank
        Called with the number of ranks that are done, and the last of them.
    **settings
        As in `fit_gaussians`: ``posterior``, ``tol``, ``max_iter``, ``seed``, ``batch_size``, ``n_threads``.

    Raises
    ------
    KeyboardInterrupt
        If it is pressed before there is any rank.

    Examples
    --------
    >>> from scpln.core import CountData
    >>> from scpln.module import make_likelihood
    >>> counts = np.random.default_rng(0).poisson(2.0, (60, 5))
    >>> data = CountData(counts, np.zeros(60), np.ones((60, 1)))
    >>> [each.rank for each in rank_path(data, [1, 2], lambda: make_likelihood("poisson", 5))]
    [1, 2]
    """
    path: list[RankFit] = []
    part: FitResult | None = None
    whole: FitResult | None = None
    for rank in ranks:
        started, score = time.perf_counter(), None
        likelihood = make_likelihood()
        n_likelihood = sum(value.numel() for value in likelihood.parameters())
        try:
            if held_out is not None:
                of_part = make_likelihood()
                part = _whole(fit_gaussians(held_out.train, rank, of_part, prior="none", start=part, **settings))
                score = held_out.score(part, of_part, settings.get("n_threads"))
            start = part if held_out is not None and held_out.same_cells else whole
            whole = _whole(fit_gaussians(data, rank, likelihood, prior="none", start=start, **settings))
            done = RankFit(rank, whole, score, n_likelihood, time.perf_counter() - started, whole.reason)
        except KeyboardInterrupt:
            if not any(each.fit is not None for each in path):
                raise
            logger.warning("Interrupted at rank %d: the ranks before it are kept.", rank)
            break
        except Exception as error:  # noqa: BLE001 - one rank must not lose the others, whatever it fails with
            reason = f"failed: {type(error).__name__}: {error}"
            logger.warning("Rank %d %s", rank, reason)
            done = RankFit(rank, None, None, n_likelihood, time.perf_counter() - started, reason)
        path.append(done)
        if on_rank is not None:
            on_rank(len(path), done)
    return path


def _whole(fit: FitResult) -> FitResult:
    """A fit that was not interrupted, and whose bound is finite."""
    if fit.interrupted:
        raise KeyboardInterrupt
    if not np.isfinite(fit.elbo).all():
        msg = f"the bounds of {int((~np.isfinite(fit.elbo)).sum()):,} of {len(fit.elbo):,} cells are not finite"
        raise FloatingPointError(msg)
    return fit
