"""The genes' half of the alternation under any likelihood: coefficients, loadings and the likelihood's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.newton._genes import GeneModel, GeneParameters

if TYPE_CHECKING:
    from scpln.core import Array, CountData
    from scpln.inference.expectations import Expectations
    from scpln.inference.newton._expansion import Expansion
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._states import CellStates

    from ._block import LikelihoodBlock, LogRateFeatures

#: Change of a likelihood's parameters over which their curvature is taken, and nodes that it is taken with.
DIFFERENCE, COARSE_NODES = 0.05, 3
#: Least curvature of a likelihood's parameters, as a share of what each has alone, and absolutely.
LEAST_SHARE, LEAST_CURVATURE = 0.05, 1e-3


@dataclass(frozen=True)
class LikelihoodGenes:
    """Coefficients B (p, d), loadings C (p, q) and parameters γ (p, g) of the likelihood."""

    linear: GeneParameters
    parameters: Array

    @property
    def stacked(self) -> Array:
        """B, C and γ side by side, (p, d + q + g)."""
        return np.hstack([self.linear.stacked, self.parameters])

    def at(self, stacked: Array) -> LikelihoodGenes:
        """Genes of the same shape with other numbers, (p, d + q + g)."""
        k = stacked.shape[1] - self.parameters.shape[1]
        linear = GeneParameters.unstacked(stacked[:, :k], self.linear.coefficients.shape[1], self.linear.spread)
        return LikelihoodGenes(linear, stacked[:, k:].copy())

    def expanded(self, expansion: Expansion) -> LikelihoodGenes:
        """The same genes in other coordinates of the latent space."""
        return LikelihoodGenes(expansion.move_genes(self.linear), self.parameters)


class GeneGradient:
    """Sums over cells that make the gradient of every gene, and the bound."""

    def __init__(self, data: CountData, family: GaussianFamily, n_parameters: int) -> None:
        p, d, q = data.n_genes, data.design.shape[1], family.n_latent
        self._slopes = np.zeros((p, d + q))  # Σ E[ℓ'] (x, m)
        self._variances = np.zeros((p, family.size))  # Σ w V, packed, with w = −E[ℓ'']
        self._parameters = np.zeros((p, n_parameters))  # Σ E[∂ℓ/∂γ]
        self._family = family
        self.bound = 0.0

    def add(self, block: LikelihoodBlock, states: CellStates) -> None:
        """Add the cells of a block."""
        expectation, cells = block.expectation, block.cells
        self._slopes += expectation.slope.T @ np.hstack([block.design, states.mean[cells]])
        self._variances += expectation.weight.T @ states.variance[cells]
        self._parameters += expectation.parameters
        divergence = states.divergence(cells, self._family).sum(dtype=np.float64)
        self.bound += float(expectation.value.sum() - divergence)

    def __iadd__(self, other: GeneGradient) -> GeneGradient:
        self._slopes += other._slopes
        self._variances += other._variances
        self._parameters += other._parameters
        self.bound += other.bound
        return self

    def by(self, loadings: Array) -> Array:
        """Gradient by B, C and γ, (p, d + q + g), for sums taken at `loadings`.

        It is Σ_i E[ℓ'] x_i by B_j and Σ_i (E[ℓ'] m_i + E[ℓ''] V_i C_j) by C_j.
        """
        slopes = self._slopes.copy()
        slopes[:, slopes.shape[1] - self._family.n_latent :] -= self._family.times_loadings(self._variances, loadings)
        return np.hstack([slopes, self._parameters])


class GeneCurvature:
    """Sums over cells that make the curvature of every gene: of w_ij = −E[ℓ''_ij] times functions of the cell."""

    def __init__(self, data: CountData, family: GaussianFamily) -> None:
        p, d, q = data.n_genes, data.design.shape[1], family.n_latent
        self._design_products, self._family = data.design_products, family
        widths = {
            "design": d,  # Σ w x
            "mean": q,  # Σ w m
            "variance": family.size,  # Σ w V
            "mean_outer": q * (q + 1) // 2,  # Σ w m mᵀ
            "design_outer": len(self._design_products[0]),  # Σ w x xᵀ, where it is not zero
            "cross": d * q,  # Σ w x mᵀ
        }
        ends = np.cumsum(list(widths.values()))
        self._columns = {name: slice(end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)}
        self._sums = np.zeros((p, ends[-1]))

    def __getitem__(self, name: str) -> Array:
        return self._sums[:, self._columns[name]]

    def add(self, block: LikelihoodBlock, states: CellStates) -> None:
        """Add the cells of a block. Negative weights, of likelihoods that are not log-concave, count as none."""
        x, m, v = block.design, states.mean[block.cells], states.variance[block.cells]
        rows, columns = self._design_products
        cross = (x[:, :, None] * m[:, None, :]).reshape(len(m), -1)
        functions = np.hstack([x, m, v, linalg.packed_outer(m), x[:, rows] * x[:, columns], cross])
        self._sums += np.maximum(block.expectation.weight, 0).T @ functions

    def __iadd__(self, other: GeneCurvature) -> GeneCurvature:
        self._sums += other._sums
        return self

    @property
    def total(self) -> Array:
        """Σ_i w_ij of every gene (the design's first column is 1)."""
        return self["design"][:, 0]

    def by(self, loadings: Array) -> tuple[Array, Array]:
        """Curvature by B and C, (d + q, d + q, p), for sums taken at `loadings`, and Σ_i w_ij, (p,).

        That by C_j is −Σ_i E[ℓ'' z zᵀ]: were ℓ''' equal to ℓ'', as for Poisson counts, Σ_i w_ij [u_ij u_ijᵀ + V_i] with
        u_ij = m_i + V_i C_j. So it is taken, with V_i C_j replaced by its average under the weights w_ij.
        """
        d, q, p = self["design"].shape[1], self._family.n_latent, len(loadings)
        total = np.maximum(self["design"][:, 0], 1e-30)
        shift = (self._family.times_loadings(self["variance"], loadings) / total[:, None]).T
        mean, design = self["mean"].T, self["design"].T
        curvature = np.zeros((d + q, d + q, p))
        rows, columns = self._design_products
        curvature[rows, columns] = curvature[columns, rows] = self["design_outer"].T
        curvature[:d, d:] = self["cross"].T.reshape(d, q, p) + design[:, None] * shift
        curvature[d:, :d] = curvature[:d, d:].transpose(1, 0, 2)
        within = linalg.unpack(self["mean_outer"], q) + self._family.full(self["variance"])
        within += mean[:, None] * shift + shift[:, None] * mean + (total * shift)[:, None] * shift
        curvature[d:, d:] = within
        return curvature, total


class ParameterProbe:
    """Takes the curvature of the bound by the likelihood's parameters γ, from differences of its gradient.

    A few nodes are enough for it.
    """

    def __init__(self, rule: Expectations) -> None:
        parameters = rule.parameters
        self._rules = []
        for change in (0.0, *DIFFERENCE * np.eye(parameters.shape[1])):
            moved = rule.with_nodes(COARSE_NODES)
            moved.parameters = parameters + change
            self._rules.append(moved)

    def curvature(self, block: LikelihoodBlock, states: CellStates, features: LogRateFeatures) -> Array:
        """Contribution of the cells of a block, (g, p, g)."""
        moments = block.moments(states.mean[block.cells], states.variance[block.cells], features)
        here, *moved = (rule.parameter_gradient(block.counts, *moments) for rule in self._rules)
        return (here - np.array(moved).reshape(-1, *here.shape)) / DIFFERENCE


def positive(curvature: Array) -> Array:
    """The nearest useful curvature, (g, g, p), to one by γ, (g, p, g): symmetric, with eigenvalues replaced by their size.

    Parameters are put on a common scale before, since their curvatures can differ by orders of magnitude.
    """
    symmetric = 0.5 * (curvature.transpose(1, 0, 2) + curvature.transpose(1, 2, 0))
    scale = np.sqrt(np.maximum(np.abs(np.einsum("paa->pa", symmetric)), LEAST_CURVATURE))
    outer = scale[:, :, None] * scale[:, None, :]
    values, vectors = np.linalg.eigh(symmetric / outer)
    values = np.maximum(np.abs(values), LEAST_SHARE)
    return (np.einsum("pab,pb,pcb->pac", vectors, values, vectors) * outer).transpose(1, 2, 0)


def gene_model(
    gradient: Array, linear: tuple[Array, Array], parameter_curvature: Array, n_covariates: int
) -> GeneModel:
    """Quadratic model of every gene in B, C and γ, from `linear` curvature (and total) and that of γ."""
    curvature, total = linear
    k, g = len(curvature), len(parameter_curvature)
    joint = np.zeros((k + g, k + g, len(total)))
    joint[:k, :k], joint[k:, k:] = curvature, parameter_curvature
    return GeneModel(gradient, joint, total, n_covariates)
