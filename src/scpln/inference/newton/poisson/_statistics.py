"""Sums over cells from which the genes' Newton steps are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from scpln.core import Array, CountData
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._states import CellStates

    from ._block import RateBlock


class GeneStatistics:
    """Sums over cells that a gene's gradient and Hessian need: of A_ij times functions of the cell, and of y_ij m_i."""

    def __init__(self, data: CountData, family: GaussianFamily) -> None:
        n_genes, d, q = data.n_genes, data.design.shape[1], family.n_latent
        self.design_products = data.design_products
        widths = {
            "design": d,  # Σ A x
            "mean": q,  # Σ A m
            "variance": family.size,  # Σ A V
            "mean_outer": q * (q + 1) // 2,  # Σ A m mᵀ
            "design_outer": len(self.design_products[0]),  # Σ A x xᵀ, where it is not zero
            "cross": d * q,  # Σ A x mᵀ
        }
        ends = np.cumsum(list(widths.values()))
        self._columns = {name: slice(end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)}
        self._sums = np.zeros((n_genes, ends[-1]))
        self.count_mean = np.zeros((n_genes, q))  # Σ y m
        self.rates_before = np.zeros(n_genes)  # Σ A before the cells moved
        self.divergence = 0.0  # Σ KL over the cells

    def __getitem__(self, name: str) -> Array:
        return self._sums[:, self._columns[name]]

    @property
    def total(self) -> Array:
        """Σ_i A_ij of every gene (the design's first column is 1)."""
        return self._sums[:, 0]

    def add(self, block: RateBlock, states: CellStates, family: GaussianFamily) -> None:
        """Add the cells of a block, whose rates are those at `states`."""
        x, m, v = block.design, states.mean[block.cells], states.variance[block.cells]
        cross = (x[:, :, None] * m[:, None, :]).reshape(len(m), -1)
        rows, columns = self.design_products
        design_outer = x[:, rows] * x[:, columns]
        functions = np.hstack([x, m, v, linalg.packed_outer(m), design_outer, cross])
        self._sums += block.rates.T @ functions
        self.count_mean += block.counts.T @ m
        self.divergence += float(states.divergence(block.cells, family).sum(dtype=np.float64))

    def __iadd__(self, other: GeneStatistics) -> GeneStatistics:
        self._sums += other._sums
        self.count_mean += other.count_mean
        self.rates_before += other.rates_before
        self.divergence += other.divergence
        return self
