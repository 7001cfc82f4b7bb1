"""What genes have in common: a normal prior of their coefficients and loadings, learned from all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.inference.newton._genes import GeneModel, GeneParameters

GenePriorName = Literal["learned", "none"]

#: Variance of loadings, and of coefficients, that a prior starts from.
START_LOADING_VARIANCE, START_COEFFICIENT_VARIANCE = 0.1, 1.0
#: Least variance of coefficients: a weak prior, however alike the genes are.
LEAST_COEFFICIENT_VARIANCE = 1e-4
#: Least variance of loadings, as a share of the largest, and absolutely: a dimension that has less has vanished.
LEAST_SHARE, LEAST_LOADING_VARIANCE = 1e-6, 1e-8
#: Most that a variance of loadings shrinks by in one iteration.
LEAST_RATIO = 0.3


@dataclass(frozen=True)
class GenePrior:
    r"""Independent normal priors of every gene's coefficients, but the intercept, and of its loadings.

    .. math:: B_{ja} \sim N(\bar b_{ga}, \sigma_{ga}^2), \quad C_j \sim N(0, \Omega_g)

    for gene j of group (modality) g and column a of the design. With full Ω the prior does not depend on the rotation
    of the latent space: in the axes of its eigenvectors it is one variance :math:`\tau_k^2` for each dimension, which
    vanishes for dimensions that explain nothing (automatic relevance determination [1]_).

    Parameters
    ----------
    center
        Means of the coefficients, (G, d).
    weight
        Their inverse variances, (G, d), 0 where the prior is flat.
    precision
        Inverse of Ω, (G, q, q), 0 where the prior is flat.
    codes
        Group of each gene, (p,).
    learned
        Whether they follow from the data.

    References
    ----------
    .. [1] D. MacKay (1995), Probable networks and plausible predictions. Network 6, 469-505.
    """

    center: Array
    weight: Array
    precision: Array
    codes: NDArray[np.intp]
    learned: bool

    @classmethod
    def of(cls, name: GenePriorName, data: CountData, n_latent: int) -> Self:
        """The prior that a fit starts with: flat, or wide."""
        d, codes = data.design.shape[1], np.zeros(data.n_genes, np.intp) if data.groups is None else data.groups
        n_groups, learned = int(codes.max(initial=0)) + 1, name == "learned"
        weight = np.full((n_groups, d), 1 / START_COEFFICIENT_VARIANCE if learned else 0.0)
        weight[:, :1] = 0
        scale = 1 / START_LOADING_VARIANCE if learned else 0.0
        precision = np.tile(scale * np.eye(n_latent), (n_groups, 1, 1))
        return cls(np.zeros((n_groups, d)), weight, precision, codes, learned)

    @property
    def n_latent(self) -> int:
        """Latent dimensions q."""
        return int(self.precision.shape[1])

    @property
    def _inner(self) -> Array:
        return linalg.inner_weights(self.n_latent)

    @property
    def covariance(self) -> Array:
        """Ω, (G, q, q), of a prior that is not flat."""
        return np.linalg.inv(self.precision)

    def log_density(self, genes: GeneParameters) -> Array:
        """Expected log-density of each gene's coefficients and loadings, nats, up to a constant where it is flat, (p,)."""
        change = genes.stacked - self._means(genes.stacked)
        squares = np.einsum("pk,pk->p", change, self._weigh(change))
        if not self.learned:
            return -0.5 * squares
        if genes.spread is not None:
            squares += np.einsum(
                "ps,ps->p", (linalg.pack(self.precision.transpose(1, 2, 0)) * self._inner)[self.codes], genes.spread
            )
        positive = self.weight > 0
        log_det = np.linalg.slogdet(self.precision)[1] + np.log(np.where(positive, self.weight, 1)).sum(1)
        n_known = positive.sum(1) + self.n_latent
        return 0.5 * (log_det - n_known * np.log(2 * np.pi))[self.codes] - 0.5 * squares

    def total_log_density(self, genes: GeneParameters) -> float:
        """The expected log-density of all genes, nats."""
        return float(self.log_density(genes).sum())

    def gradient(self, stacked: Array) -> Array:
        """Slope of the log-density by coefficients and loadings (p, d + q)."""
        return -self._weigh(stacked - self._means(stacked))

    def added_to(self, model: GeneModel, stacked: Array) -> GeneModel:
        """The quadratic model of the bound and the log-density together, at coefficients and loadings (p, d + q)."""
        if not self.learned:
            return model
        k = stacked.shape[1]
        gradient, curvature = model.gradient.copy(), model.curvature.copy()
        gradient[:, :k] += self.gradient(stacked)
        curvature[:k, :k] += self._matrices()[self.codes].transpose(1, 2, 0)
        return replace(model, gradient=gradient, curvature=curvature, prior=self)

    def squares(self, step: Array) -> Array:
        """Each gene's step (p, d + q + …) squared in the metric of the inverse variances, (p,)."""
        step = step[:, : self.weight.shape[1] + self.n_latent]
        return np.einsum("pk,pk->p", step, self._weigh(step))

    def moved(self, scale: Array) -> GenePrior:
        """The same prior in coordinates in which loadings are C T, with T = `scale`."""
        inverse = np.linalg.inv(scale)
        return replace(self, precision=inverse @ self.precision @ inverse.T)

    def best_spread(self, model: GeneModel) -> Array | None:
        """Covariances S_j of the loadings' best posteriors under a quadratic `model` of bound and log-density, packed."""
        if not self.learned:
            return None
        d = self.weight.shape[1]
        covariance = model.curvature[d : d + self.n_latent, d : d + self.n_latent].copy()
        np.einsum("aap->ap", covariance)[...] *= 1 + 1e-9
        linalg.invert(covariance)
        return linalg.pack(covariance)

    def learn(self, genes: GeneParameters, model: GeneModel) -> GenePrior:
        r"""The prior under which coefficients and loadings are more probable, of which the latter have their `best_spread`.

        One step of a minorise-maximise algorithm [1]_. With :math:`\bar C = \overline{C_j C_j^T}` and
        :math:`\bar K = \Omega^{-1} - \Omega^{-1} \bar S \Omega^{-1}`, the new Ω solves
        :math:`\Omega \bar K \Omega = \bar C`. It has the fixed points of expectation maximisation, which would take
        :math:`\bar C + \bar S`, but not its slowness where genes say little.

        .. [1] H. Zhou, L. Hu, J. Zhou and K. Lange (2019), MM algorithms for variance components models. Journal of
           Computational and Graphical Statistics 28, 350-361.
        """
        if genes.spread is None or not self.n_latent:
            return self
        center, weight, precision = self.center.copy(), self.weight.copy(), self.precision.copy()
        spread = linalg.unpack(genes.spread, self.n_latent)
        for group in range(len(center)):
            chosen = self.codes == group
            precision[group] = _learn_precision(precision[group], genes.loadings[chosen], spread[:, :, chosen].mean(2))
            for a in np.flatnonzero(weight[group] > 0):
                value = genes.coefficients[chosen, a]
                center[group, a] = value.mean()
                variance = ((value - center[group, a]) ** 2 + 1 / model.curvature[a, a, chosen]).mean()
                weight[group, a] = 1 / max(variance, LEAST_COEFFICIENT_VARIANCE)
        return replace(self, center=center, weight=weight, precision=precision)

    def rotated(self, axes: Array) -> GenePrior:
        """The same prior in some orthonormal axes W (q, k) of the latent space, and none of the others."""
        covariance = axes.T @ self.covariance @ axes
        return replace(self, precision=np.linalg.inv(covariance))

    def scaled(self, factor: float) -> GenePrior:
        """The same prior for coefficients and loadings that are multiplied by a factor."""
        weight, precision = self.weight / factor**2, self.precision / factor**2
        return replace(self, center=self.center * factor, weight=weight, precision=precision)

    def extended(self, n_latent: int) -> GenePrior:
        """The same prior with further dimensions, in which loadings have the least variance."""
        k = self.n_latent
        scale = 1 / LEAST_LOADING_VARIANCE if self.learned else 0.0
        precision = np.tile(scale * np.eye(n_latent), (len(self.precision), 1, 1))
        precision[:, :k, :k] = self.precision
        return replace(self, precision=precision)

    def _means(self, stacked: Array) -> Array:
        means = np.zeros_like(stacked)
        means[:, : self.center.shape[1]] = np.where(self.weight > 0, self.center, 0)[self.codes]
        return means

    def _weigh(self, change: Array) -> Array:
        d = self.weight.shape[1]
        weighed = np.empty_like(change)
        weighed[:, :d] = change[:, :d] * self.weight[self.codes]
        for group, precision in enumerate(self.precision):
            genes = self.codes == group
            weighed[genes, d:] = change[genes, d:] @ precision
        return weighed

    def _matrices(self) -> Array:
        d, q = self.weight.shape[1], self.precision.shape[1]
        matrices = np.zeros((len(self.weight), d + q, d + q))
        matrices[:, :d, :d] = self.weight[:, :, None] * np.eye(d)
        matrices[:, d:, d:] = self.precision
        return matrices


def _learn_precision(precision: Array, loadings: Array, spread: Array) -> Array:
    """The next Ω⁻¹ of a group of genes, from their loadings (p, q) and the mean S̄ (q, q) of their covariances."""
    observed = loadings.T @ loadings / len(loadings)
    inside = precision - precision @ spread @ precision
    root, inverse_root = _roots(inside)
    middle = _roots(root @ observed @ root)[0]
    before, after = _roots(precision)
    # In units of Ω: shrinking no faster than loadings and their covariances can follow.
    ratios, axes = np.linalg.eigh(before @ inverse_root @ middle @ inverse_root @ before)
    ratios = np.maximum(ratios, LEAST_RATIO)
    values, vectors = np.linalg.eigh(after @ (axes * ratios) @ axes.T @ after)
    values = np.maximum(values, max(LEAST_SHARE * values[-1], LEAST_LOADING_VARIANCE))
    return (vectors / values) @ vectors.T


def _roots(matrix: Array) -> tuple[Array, Array]:
    """Symmetric root of a positive matrix, and its inverse."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    roots = np.sqrt(np.maximum(values, max(1e-14 * values[-1], 1e-300)))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def entropy(genes: GeneParameters) -> float:
    """Entropy of the posteriors of all loadings, nats; 0 if they are known."""
    if genes.spread is None:
        return 0.0
    p, q = genes.loadings.shape
    log_det = linalg.invert(linalg.unpack(genes.spread, q))
    return 0.5 * float(log_det.sum() + p * q * (1 + np.log(2 * np.pi)))


def half_way(before: Array | None, best: Array | None, n_latent: int) -> Array | None:
    """Covariances, packed, of whose precisions each is half that before and half the best.

    A larger S raises rates, these the curvature, and that lowers S: whole steps would swing to and fro. That it is half-way
    between precisions lets covariances of dimensions that vanish follow at once.
    """
    if before is None or best is None:
        return best
    precision = _inverse(before, n_latent) + _inverse(best, n_latent)
    linalg.invert(precision)
    return 2 * linalg.pack(precision)


def _inverse(packed: Array, n_latent: int) -> Array:
    full = linalg.unpack(packed, n_latent)
    linalg.invert(full)
    return full
