"""Coefficients of new columns of the design, with everything that was learned before as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.linalg import block_diag
from scipy.spatial.distance import cdist

from scpln.core import threads
from scpln.inference._gaussians import make_cell_problem
from scpln.inference.newton import FAMILIES, CellProblem, CellStates, GaussianFamilyName, GeneParameters, start_variance
from scpln.inference.newton.general import precision
from scpln.train import torch_threads

from ._anchors import Anchors
from ._density import StateDensity
from ._prior import CoefficientPrior

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.module import Likelihood

#: Iterations in which the prior of the coefficients is learned: it changes little afterwards.
PRIOR_ITERATIONS = 10
#: Largest change of a coefficient in one step, and halvings of a step that lowered the objective.
MAX_CHANGE, MAX_HALVINGS = 1.0, 8
#: Curvature below which a gene says nothing about its coefficient.
LEAST_CURVATURE = 1e-8
#: Steps, and the last one's length at most, that find how far all states of a batch go together.
SHIFT_STEPS, SHIFT_TOLERANCE = 30, 1e-4
#: Distance of components, in units of their standard deviation, below which they are of one group of cells.
APART = 1.0
#: Decrease of the objective that is rounding error, nats per cell.
ROUNDING = 1e-6


@dataclass(frozen=True)
class ColumnFit:
    """Fitted coefficients of new columns.

    Attributes
    ----------
    coefficients
        B (p, d), with the new columns filled in.
    prior
        Prior of the new ones.
    history
        After each iteration, ``elbo``, the mean bound of the cells that the new columns are about, under the density
        of states, in nats, and ``seconds``.
    overlap, shift
        Of the new categories with the least and the most of it: how much of the reference's composition theirs shares, from 0 to
        1, the overlap of the weights of the density's components; and how far their coefficients move all states, in
        distances between neighbouring components. Far and with little overlap, the two cannot be told apart.
    converged, interrupted, reason
        Whether the optimum was found, whether Ctrl-C ended the search, and why it ended, in words.
    """

    coefficients: Array
    prior: CoefficientPrior
    history: dict[str, list[float]]
    converged: bool
    reason: str
    interrupted: bool = False
    overlap: float = 1.0
    shift: float = 0.0


def fit_columns(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    likelihood: Likelihood,
    new: NDArray[np.bool_],
    *,
    density: StateDensity | None = None,
    posterior: GaussianFamilyName = "fullrank",
    rotation: Array | None = None,
    max_iter: int = 500,
    tol: float = 1e-4,
    batch_size: int | None = None,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> ColumnFit:
    r"""Coefficients of new columns of the design, with all other parameters fixed.

    Maximises the bound of the cells that have entries in these columns over their posteriors and the coefficients
    b (p, k), with a normal prior of the latter,

    .. math:: \sum_i \text{ELBO}_i(m_i, V_i, b) + \sum_{ja} \log N(b_{ja}; c_{ja} + \mu_{ga}, \tau_{ga}^2),

    so that a gene without counts keeps a finite coefficient and a gene with few borrows from the others. Its mean is the
    given coefficients c up to a shift; μ and τ are learned from all genes of a group (modality) in the first ten
    iterations (empirical Bayes), and are fixed afterwards. For a log-concave likelihood the objective is then concave in all of its
    arguments, so that the optimum does not depend on the start.

    Posteriors and coefficients take turns. Where the counts determine latent states well that alone would be slow, since
    a shift of all states and one of the coefficients can replace each other: :math:`m_i \to m_i - \delta^T x_i`,
    :math:`b_j \to b_j + \delta C_j` leaves all log-rates as they are. The best δ is a linear solve.

    With the prior N(0, I) of the states, the coefficients of a batch of one cell type take up what makes this type
    different: it costs its cells less to be in the middle than genes to have coefficients. So with `density`, states are
    expected where those of the reference are, in whatever proportions: their prior is a mixture, its components have
    weights of their own in each batch, and posteriors, probabilities of the components and coefficients take turns, from
    the states that the start of the coefficients gives. There may then be several optima.

    Parameters
    ----------
    data
        Counts, offsets and design of all cells.
    coefficients, loadings
        B (p, d), with c in the new columns, and C (p, q).
    likelihood
        Distribution of the counts given their log-rates.
    new
        Which columns of the design are new, (d,).
    density
        Where the reference's states are; N(0, I) by default.
    posterior, rotation, batch_size, n_threads
        As in `infer`.
    max_iter
        Most iterations.
    tol
        Converged when an iteration gains less than this, nats per cell, and the predicted gain of the coefficients is
        less than a twentieth of it.
    on_iteration
        Called with the number of iterations and the mean bound per cell.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scpln.inference import CountData, fit_columns
    >>> from scpln.module import make_likelihood
    >>> random, loadings, truth = np.random.default_rng(0), np.ones((20, 1)), np.linspace(-1, 1, 20)
    >>> rates = np.exp(2 + truth + 0.1 * random.normal(size=(500, 1)))
    >>> data = CountData(sp.csr_matrix(random.poisson(rates)), np.zeros(500), np.ones((500, 2)))
    >>> start = np.tile([2.0, 0.0], (20, 1))
    >>> result = fit_columns(data, start, 0.1 * loadings, make_likelihood("poisson", 20), np.array([False, True]))
    >>> result.converged, bool(abs(result.coefficients[:, 1] - truth).max() < 0.1)
    (True, True)
    """
    concerned = np.flatnonzero((data.design[:, new] != 0).any(1))
    if len(concerned) < data.n_cells:
        data = data.subset(concerned, batch_size)
    q = loadings.shape[1]
    axes = np.eye(q) if rotation is None or posterior == "fullrank" else np.asarray(rotation, np.float64)
    genes = GeneParameters(np.array(coefficients, np.float64), loadings @ axes.T)
    family = FAMILIES[posterior](q)
    with threads(n_threads) as pool, torch_threads(1):
        dtype = precision(data, likelihood, pool)
        cells = CellStates.at(np.zeros((data.n_cells, q)), family, start_variance(genes.loadings), dtype)
        problem = make_cell_problem(data, family, likelihood, pool, batch_size)
        if density is None:
            density = StateDensity.standard_normal(q)
        else:
            problem.optimize_posteriors(genes, cells)
            density = density.turned(axes, diagonal=posterior == "meanfield")
        search = _Search.of(problem, genes, cells, new, density)
        search.run(max_iter, tol, on_iteration)
    return ColumnFit(
        search.coefficients,
        search.prior,
        search.history,
        search.converged,
        search.reason,
        search.interrupted,
        *search.overlap_and_shift(),
    )


@dataclass
class _Search:
    r"""The alternation, and where it is.

    States are in units of the density, :math:`z_i = L (\mu_i + u_i)` with S = L Lᵀ and u_i ~ N(0, I): their posteriors are those
    of u under loadings C L, and μ stands in further columns of the design, whose coefficients are C L, too.
    """

    problem: CellProblem
    genes: GeneParameters
    cells: CellStates
    new: NDArray[np.bool_]
    anchors: Anchors
    history: dict[str, list[float]] = field(default_factory=lambda: {"elbo": [], "seconds": []})
    converged: bool = False
    interrupted: bool = False
    reason: str = ""

    @classmethod
    def of(
        cls,
        problem: CellProblem,
        genes: GeneParameters,
        cells: CellStates,
        new: NDArray[np.bool_],
        density: StateDensity,
    ) -> Self:
        """From states in the coordinates of the loadings."""
        data, factor = problem.data, np.linalg.cholesky(density.covariance)
        q, loadings = len(factor), genes.loadings @ factor
        white = StateDensity(density.weights, np.linalg.solve(factor, density.means.T).T, np.eye(q))
        _, batches = np.unique(data.design[:, new], axis=0, return_inverse=True)
        anchors = Anchors(white, batches.ravel())
        problem = replace(problem, data=replace(data, design=np.hstack([data.design, anchors.means])))
        genes = GeneParameters(np.hstack([genes.coefficients, loadings]), loadings)
        search = cls(problem, genes, cells, np.append(new, np.zeros(q, bool)), anchors)
        search._place(np.linalg.solve(factor, cells.mean.T.astype(np.float64)).T)
        return search

    def __post_init__(self) -> None:
        self.prior = CoefficientPrior.with_unit_spread(self.values, self.problem.data.groups)

    @property
    def values(self) -> Array:
        """The new coefficients b, (p, k)."""
        return self.genes.coefficients[:, self.new]

    @property
    def coefficients(self) -> Array:
        """Those of the whole design, (p, d)."""
        return self.genes.coefficients[:, : -self.cells.mean.shape[1]]

    @property
    def states(self) -> Array:
        """Means of μ + u, (n, q)."""
        return self.anchors.means + self.cells.mean

    def run(self, max_iter: int, tol: float, on_iteration: Callable[[int, float], None] | None) -> None:
        """Iterate until convergence or an interrupt."""
        begin, n = time.perf_counter(), self.problem.data.n_cells
        best = (-np.inf, self.values, self.states)  # bound, coefficients and states that it was reached from
        halvings = 0
        try:
            while len(self.history["elbo"]) < max_iter:
                self.problem.optimize_posteriors(self.genes, self.cells)
                bound = self._bound()
                last = best[0] + self.prior.log_density(best[1])
                gain = (bound + self.prior.log_density(self.values) - last) / n
                if gain < -ROUNDING and halvings < MAX_HALVINGS:
                    halvings += 1
                    self._move_to(0.5 * (self.values + best[1]), best[2])
                    continue
                halvings = 0
                best = (bound, self.values, self.states)
                self.history["elbo"].append(bound / n)
                self.history["seconds"].append(time.perf_counter() - begin)
                if on_iteration is not None:
                    on_iteration(len(self.history["elbo"]), bound / n)
                predicted_gain = self._improve() / n
                settled = -max(ROUNDING, tol) <= gain < tol and predicted_gain < tol / 20
                if len(self.history["elbo"]) > PRIOR_ITERATIONS and settled:
                    self.converged = True
                    break
        except KeyboardInterrupt:
            self.interrupted = True
        self._move_to(best[1], best[2])  # where the last bound was reached: the step after it has not been tried
        done = f"{len(self.history['elbo']):,} iterations"
        outcome = "interrupted after " if self.interrupted else "converged: " if self.converged else "stopped after "
        self.reason = f"{outcome}{done}"

    def _bound(self) -> float:
        covariance = self.problem.family.covariance(self.cells.variance)
        return float(self.problem.bound(self.genes, self.cells.mean, covariance).sum()) + self.anchors.log_density()

    def _improve(self) -> float:
        """One step of the prior, while it is learned, of the coefficients, and of the shift; the predicted gain."""
        slopes = self.problem.slopes(self.genes, self.cells, self.new)
        if len(self.history["elbo"]) <= PRIOR_ITERATIONS:
            precision = np.maximum(np.einsum("jaa->ja", slopes.curvature), LEAST_CURVATURE)
            change = np.clip(slopes.gradient / precision, -MAX_CHANGE, MAX_CHANGE)
            self.prior = self.prior.empirical_bayes(self.values + change, precision)
        weights = self.prior.precision
        gradient = slopes.gradient - weights * (self.values - self.prior.mean)
        curvature = slopes.curvature + weights[:, :, None] * np.eye(weights.shape[1])
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        predicted_gain = 0.5 * float((gradient * step).sum())
        values = self.values + np.clip(step, -MAX_CHANGE, MAX_CHANGE)
        self._move_to(*self._shifted(values))
        return predicted_gain

    def _shifted(self, values: Array) -> tuple[Array, Array]:
        """Coefficients and states after all states of a category went where the priors of both like it best, together."""
        x, states = self.problem.data.design[:, self.new], self.states
        for _ in range(SHIFT_STEPS):
            shift = self._best_shift(values, states)
            values, states = values + self.genes.loadings @ shift.T, states - x @ shift
            if len(self.anchors.density.weights) == 1 or np.abs(shift).max() < SHIFT_TOLERANCE:
                break
            self.anchors.update(states)
        return values, states

    def overlap_and_shift(self) -> tuple[float, float]:
        """As in `ColumnFit`: coefficients move states by as much as those nearest to them in the loadings' space do."""
        density = self.anchors.density
        if len(density.weights) == 1:
            return 1.0, 0.0
        distances = cdist(density.means, density.means)
        nearest = np.where(distances > APART, distances, np.inf).min(1)
        moved = np.linalg.lstsq(self.genes.loadings, self.values - self.prior.mean, rcond=None)[0]
        overlap = np.minimum(self.anchors.weights, density.weights).sum(1).min()
        return float(overlap), float(np.linalg.norm(moved, axis=0).max() / np.median(nearest))

    def _best_shift(self, values: Array, states: Array) -> Array:
        """Shift δ (k, q) of the latent states into the coefficients, while their probabilities of the components stay."""
        x, c = self.problem.data.design[:, self.new], self.genes.loadings
        weights = self.prior.precision
        target = x.T @ (states - self.anchors.means) - (weights * (values - self.prior.mean)).T @ c
        system = np.kron(x.T @ x, np.eye(c.shape[1])) + block_diag(*((c.T * weight) @ c for weight in weights.T))
        return np.linalg.solve(system, target.ravel()).reshape(target.shape)

    def _move_to(self, values: Array, states: Array) -> None:
        coefficients = self.genes.coefficients.copy()
        coefficients[:, self.new] = values
        self.genes = GeneParameters(coefficients, self.genes.loadings)
        self._place(states)

    def _place(self, states: Array) -> None:
        self.anchors.update(states)
        means = self.anchors.means
        self.problem.data.design[:, -means.shape[1] :] = means  # this search's own array
        self.cells.mean[...] = states - means
