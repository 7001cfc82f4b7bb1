"""Coefficients and loadings of genes under a mixture prior of the cells' states, with the mixture fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.core import _linalg as linalg
from scpln.core import threads
from scpln.inference._gaussians import in_own_unit, make_cell_problem
from scpln.inference.newton import FAMILIES, CellStates, GeneModel, GeneParameters

from ._posteriors import NEGLIGIBLE, MixturePosteriors, infer_mixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData, Threads
    from scpln.inference.newton import GenePrior
    from scpln.module import Likelihood

    from ._components import Components
    from ._sites import Sites

#: Newton steps. Held-out bounds gain most in the first, and nothing reliably after the third.
_STEPS = 3


@dataclass(frozen=True)
class GenesFit:
    """Genes that were fitted under a mixture.

    Parameters
    ----------
    coefficients, loadings
        B (p, d) and C (p, q).
    history
        Objective before the first step and after each that was taken, nats: the bounds of all cells, plus the log-density of
        the genes' prior.
    """

    coefficients: Array
    loadings: Array
    history: list[float]


def fit_genes(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    likelihood: Likelihood,
    components: Components,
    prior: GenePrior,
    *,
    sites: Sites | None = None,
    max_iter: int = _STEPS,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> GenesFit:
    r"""Raise the bound under a mixture by Newton steps of B and C, each followed by the cells' optimal posteriors.

    The objective is :math:`\sum_i \log \sum_k \pi_k e^{\text{ELBO}_{ik}} + \log p(B, C)`, of which a gene's part is
    :math:`\sum_{ik} q_i(k) E_{q_i(z \mid k)}[\log p(y_{ij} \mid z)] + \log p(B_j, C_j)`: that under N(0, I) with several weighted
    Gaussians for each cell in place of one. Components stay where they are, and with them the scale of z that the prior of
    the loadings was learned in. A step that lowers the objective is not taken, and ends the iterations.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    coefficients, loadings
        B (p, d) and C (p, q) to start from.
    likelihood
        Distribution of the counts given their log-rates, whose parameters stay.
    components
        The mixture.
    prior
        Prior of the genes' coefficients and loadings.
    sites
        As in `infer_mixture`.
    max_iter
        Steps.
    batch_size, n_threads
        As in `infer`.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.mixture import Components
    >>> from scpln.inference.newton import GenePrior
    >>> from scpln.module import make_likelihood
    >>> data = CountData(np.random.default_rng(0).poisson(2.0, (60, 5)), np.zeros(60), np.ones((60, 1)))
    >>> two = Components(np.array([[-1.0], [1.0]]), np.full((2, 1, 1), 0.2), np.array([0.5, 0.5]))
    >>> genes = np.full((5, 1), 0.7), np.full((5, 1), 0.1)
    >>> fit = fit_genes(data, *genes, make_likelihood("poisson", 5), two, GenePrior.of("none", data, 1))
    >>> fit.history[-1] > fit.history[0]
    True
    """
    data, likelihood, unit = in_own_unit(data, likelihood)
    settings: dict[str, Any] = {"sites": sites, "batch_size": batch_size, "n_threads": n_threads}
    prior, genes = prior.scaled(1 / unit), GeneParameters(coefficients / unit, loadings / unit)
    history: list[float] = []
    kept = genes
    with threads(n_threads) as pool:
        for step in range(max_iter + 1):
            linear = genes.coefficients, genes.loadings
            cells = infer_mixture(data, *linear, likelihood, components, **settings)
            objective = float(cells.bound.sum()) + prior.total_log_density(genes)
            if history and not objective > history[-1]:
                break
            kept = genes
            history.append(objective)
            if step < max_iter:
                model = _model(data, genes, likelihood, cells, pool, batch_size)
                change, _ = prior.added_to(model, genes.stacked).step(np.zeros(data.n_genes))
                genes = GeneParameters.unstacked(genes.stacked + change, data.design.shape[1])
    return GenesFit(kept.coefficients * unit, kept.loadings * unit, history)


def _model(
    data: CountData,
    genes: GeneParameters,
    likelihood: Likelihood,
    cells: MixturePosteriors,
    pool: Threads,
    batch_size: int | None,
) -> GeneModel:
    """Quadratic model of every gene's part of the bound, from sums over cells and their components."""
    (p, d), q = genes.coefficients.shape, genes.loadings.shape[1]
    family, weights = FAMILIES["fullrank"](q), cells.weights
    widths = [d + q, family.size, (d + q) * (d + q + 1) // 2, family.size]
    sums = np.zeros((p, sum(widths)))
    for slot in range(weights.shape[1]):
        own = np.flatnonzero(weights[:, slot] > NEGLIGIBLE)
        if not len(own):
            continue
        part = data if len(own) == data.n_cells else data.subset(own)
        mean, covariance = cells.mean[own, slot], cells.covariance[own, slot]
        problem = make_cell_problem(part, family, likelihood, pool, batch_size)
        summand = _summand(weights[own, slot], np.hstack([part.design, mean]), covariance)
        states = CellStates.known(mean, covariance)
        sums += problem.sum_derivatives(summand, genes, states)
    slopes, variance, outer, within = np.split(sums, np.cumsum(widths)[:-1], axis=1)
    slopes[:, d:] -= family.times_loadings(variance, genes.loadings)
    return _with_curvature(slopes, linalg.unpack(outer, d + q), linalg.unpack(within, q), genes)


def _summand(r: Array, x: Array, covariance: Array) -> Callable[[slice, Array, Array], Array]:
    """Function of the derivatives that is summed over cells, of which each counts r times: of x = (x_i, m_i) and V_i.

    The sums are of E[ℓ'] x and −E[ℓ''] V for the gradient, exactly, and of max(−E[ℓ''], 0) times x xᵀ and V for the curvature.
    """
    squares = np.hstack([linalg.packed_outer(x), covariance])

    def of_block(some: slice, slope: Array, weight: Array) -> Array:
        share = r[some, None]
        by_slope = [(share * slope).T @ x[some], (share * weight).T @ covariance[some]]
        return np.hstack([*by_slope, (share * np.maximum(weight, 0)).T @ squares[some]])

    return of_block


def _with_curvature(gradient: Array, outer: Array, within: Array, genes: GeneParameters) -> GeneModel:
    """The model whose curvature is Σ w [(x, u)(x, u)ᵀ + diag(0, V)], with u = m + V C of which V C is the average.

    Given `outer`, Σ w (x, m)(x, m)ᵀ, and `within`, Σ w V. The design's first column is 1.
    """
    d = genes.coefficients.shape[1]
    first, total = outer[0], np.maximum(outer[0, 0], 1e-30)
    shift = np.zeros_like(first)
    shift[d:] = linalg.multiply(within, genes.loadings).T / total
    curvature = outer + first[:, None] * shift + shift[:, None] * first + (total * shift)[:, None] * shift
    curvature[d:, d:] += within
    return GeneModel(gradient, curvature, total, d)
