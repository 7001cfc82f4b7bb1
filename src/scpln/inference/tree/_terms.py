"""Expected log-probabilities of counts on a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scpln.inference.genespace.terms import PoissonTerms

from ._log_sum_exp import tilted_log_sum_exp

if TYPE_CHECKING:
    from scpln.core import Array, Siblings, TreeContrasts
    from scpln.inference.genespace._observations import Observations
    from scpln.inference.genespace.terms._base import Cells

    from ._blocks import BlockLayout


class Found(NamedTuple):
    """Expectations of samples.

    Attributes
    ----------
    value, slope
        Of each sample, (n,), and its derivative by the means of coordinates, (n, p).
    weight
        Rate of each node of the first level, and the parent's count times the share of each other, (n, nodes).
    variance
        Of its log-rate, or of how its log-ratio differs from that of its siblings, (n, nodes).
    """

    value: Array
    slope: Array
    weight: Array
    variance: Array


class TreeTerms(PoissonTerms):
    r"""Counts of the first level are Poisson, and of children multinomial given their parent's.

    .. math:: \sum_{k \in \text{top}} [y_k (o + u_k) - e^{o + u_k}] + \sum_{v} \Big[\sum_{c \in v} y_c z_c - y_v \log\sum_{c \in v} e^{z_c}\Big]
        - \sum_{\text{leaves}} \log y_j!

    with z = Hu of each group of siblings: what is left of the coefficients of all multinomials are the factorials of the leaves. The
    expectation of exp is known, that of log-sum-exp bounded (`tilted_log_sum_exp`).
    """

    def __init__(self, observations: Observations, contrasts: TreeContrasts, layout: BlockLayout) -> None:
        super().__init__(observations)
        self.contrasts, self.layout = contrasts, layout
        self.nodes = contrasts.node_counts(observations.counts)
        self.linear = self.nodes @ contrasts.matrix  # Σ_v y_v z_v = linear · u
        n = len(self.nodes)
        self.tilts = [
            np.full((n, *group.nodes.shape), 1 / group.nodes.shape[1], np.float64) for group in contrasts.siblings
        ]

    def moments(self, cells: Cells, mean: Array, covariance: Array) -> Found:
        """At Gaussians with these means (n, p) and packed blocks of their covariances."""
        (_, of_top), *below = self.layout.parts(covariance)
        size, offsets = len(self.contrasts.top), self.observations.offsets[cells]
        top, variances = self.contrasts.top - 1, of_top[:, :, 0, 0]
        rates = self.observations.rates(cells, offsets + mean[:, :size] + 0.5 * variances)
        value = self.nodes[cells][:, top].sum(1) * offsets[:, 0] - rates.sum(1)
        value += np.einsum("np,np->n", self.linear[cells], mean) - self.observations.log_factorial[cells]
        found = Found(value, self.linear[cells].copy(), *np.zeros((2, len(mean), self.nodes.shape[1])))
        found.slope[:, :size] -= rates
        found.weight[:, top], found.variance[:, top] = rates, variances
        for group, tilts, (_, own) in zip(self.contrasts.siblings, self.tilts, below, strict=True):
            self._split(cells, group, tilts, mean, own, found)
        return found

    def log_weights(self, direction: Array, weight: Array) -> Array:
        """Changes of the logarithms of weights (n, nodes), to first order, with means that move in a direction (n, p)."""
        moved = direction @ self.contrasts.matrix.T
        for group in self.contrasts.siblings:
            own, w = moved[:, group.nodes - 1], weight[:, group.nodes - 1]
            total = w.sum(2, keepdims=True)
            tilt = np.divide(w, total, where=total > 0, out=np.zeros_like(w))
            moved[:, group.nodes - 1] = own - (tilt * own).sum(2, keepdims=True)
        return np.asarray(moved)

    def _split(self, cells: Cells, group: Siblings, tilts: Array, mean: Array, covariance: Array, into: Found) -> None:
        """Add what the multinomials of groups of one size give, where there are counts to split."""
        counts = self.nodes[cells][:, group.parents - 1]
        rows, which = np.nonzero(counts)
        if not len(rows):
            return
        basis, some = group.basis, np.arange(len(self.nodes))[cells][rows]
        coordinates, nodes = group.coordinates[which], group.nodes[which] - 1
        z = mean[rows[:, None], coordinates] @ basis.T
        spread = basis @ covariance[rows, which] @ basis.T
        found = tilted_log_sum_exp(z, spread, tilts[some, which])
        tilts[some, which] = found.tilt
        total = counts[rows, which]
        np.subtract.at(into.value, rows, total * found.value)
        into.slope[rows[:, None], coordinates] -= total[:, None] * (found.shares @ basis)
        into.weight[rows[:, None], nodes] = total[:, None] * found.shares
        into.variance[rows[:, None], nodes] = found.variance
