"""Counts that are held out, to tell what a fit has learned from what it has learned by heart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scpln.core import ABSENT, CountData
from scpln.inference._gaussians import gaussian_elbo, infer_gaussians

from ._scores import divergences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.newton import FitResult
    from scpln.module import Likelihood


@dataclass(frozen=True)
class HeldOut:
    """Data to fit, and data to score.

    Parameters
    ----------
    train, test
        Counts, offsets and design of both.
    same_cells
        Whether these are two halves of the counts of the same cells, or other cells.
    """

    train: CountData
    test: CountData
    same_cells: bool

    def score(self, fit: FitResult, likelihood: Likelihood, n_threads: int | None = None) -> Array:
        r"""Log-likelihood of the counts that were held out of each cell, nats, (n,).

        Of the same cells, :math:`E_q[\log p(y_i^{test} \mid z_i)]` under posteriors q given the other half; of other cells, the bound of
        their log-likelihood at their own posteriors.
        """
        parameters = self.test, fit.coefficients, fit.loadings, likelihood
        if self.same_cells:
            return gaussian_elbo(*parameters, fit.mean, fit.covariance, n_threads=n_threads) + divergences(fit)
        found = infer_gaussians(*parameters, n_threads=n_threads)
        return gaussian_elbo(*parameters, *found, n_threads=n_threads)


def thinned(data: CountData, seed: int, share: float = 0.5) -> HeldOut:
    r"""Poisson counts in two parts that are independent given the rates: :math:`y^{train} \sim \text{Binomial}(y, \epsilon)` [1]_.

    If :math:`y \sim \text{Poisson}(\mu)`, the parts are Poisson with means :math:`\epsilon \mu` and :math:`(1 - \epsilon) \mu`: their offsets
    have log ε and log (1 − ε) more. Counts that vary more than that have parts that depend on each other, and a score that rises with
    the rank whatever is there.

    Parameters
    ----------
    data
        Counts, which are read into memory.
    seed
        Of the draws.
    share
        ε.

    References
    ----------
    .. [1] Neufeld, Gao, Popp, Battle and Witten (2024), Inference after latent variable estimation for single-cell RNA sequencing
       data. Biostatistics 25, 270-287.

    Examples
    --------
    >>> data = CountData(np.full((2, 3), 10), np.zeros(2), np.ones((2, 1)))
    >>> parts = thinned(data, seed=0)
    >>> (parts.train.counts + parts.test.counts).toarray().tolist()
    [[10.0, 10.0, 10.0], [10.0, 10.0, 10.0]]
    """
    counts = sp.csr_matrix(data.rows(0, data.n_cells)).astype(np.float64)
    drawn = counts.copy()
    drawn.data = np.random.default_rng(seed).binomial(np.rint(counts.data).astype(np.int64), share).astype(np.float64)
    rest = (counts - drawn).tocsr()
    drawn.eliminate_zeros()
    rest.eliminate_zeros()
    return HeldOut(_part(data, drawn, share), _part(data, rest, 1 - share), same_cells=True)


def _part(data: CountData, counts: sp.csr_matrix, share: float) -> CountData:
    offsets = np.where(data.offsets > ABSENT, data.offsets + np.log(share), data.offsets)
    return CountData(counts, offsets, data.design, data.batches, data.groups, data.entries)


def held_out_cells(data: CountData, seed: int, share: float = 0.2) -> HeldOut:
    """A share of the cells, drawn at random, held out of the fit."""
    n_test = max(1, round(share * data.n_cells))
    chosen: NDArray[np.bool_] = np.zeros(data.n_cells, bool)
    chosen[np.random.default_rng(seed).choice(data.n_cells, n_test, replace=False)] = True
    return HeldOut(data.subset(np.flatnonzero(~chosen)), data.subset(np.flatnonzero(chosen)), same_cells=False)
