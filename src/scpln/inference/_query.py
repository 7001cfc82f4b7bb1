"""Coefficients of new columns of the design, with everything that was learned before as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.module.likelihoods import Poisson

from ._block import Block, GeneFeatures
from ._bound import elbo
from ._cells import CellStates
from ._expectations import expectations_of
from ._gaussian import FAMILIES, GaussianFamily, Posterior
from ._genes import GeneParameters
from ._infer import START_VARIANCE, settle
from ._likelihood_block import LikelihoodBlock, LogRateFeatures, block_size
from ._likelihood_bound import elbo_likelihood
from ._likelihood_infer import INFER_NODES, n_nodes, precision, settle_likelihood
from ._parallel import Threads, threads, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.module import Likelihood

    from ._arrays import Array
    from ._data import CountData

#: Iterations in which the prior of the coefficients is learned: it changes little afterwards.
PRIOR_ITERATIONS = 10
#: Steps of the EM algorithm for the prior, and least standard deviation that it can have.
EM_STEPS, LEAST_SPREAD = 50, 0.01
#: Largest change of a coefficient in one step, and halvings of a step that lowered the objective.
MAX_CHANGE, MAX_HALVINGS = 1.0, 8
#: Curvature below which a gene says nothing about its coefficient.
LEAST_CURVATURE = 1e-8
#: Decrease of the objective that is rounding error, nats per cell.
ROUNDING = 1e-6


@dataclass(frozen=True)
class CoefficientPrior:
    r"""Prior of the new coefficients, :math:`b_{ja} \sim N(c_{ja} + \mu_a, \tau_a^2)` for gene j and column a.

    Parameters
    ----------
    center
        c, (p, k): what a new category is expected to be like, up to a factor that all genes share.
    shift, spread
        μ and τ, (k,).
    """

    center: Array
    shift: Array
    spread: Array

    @property
    def mean(self) -> Array:
        """Means c + μ, (p, k)."""
        return self.center + self.shift

    def log_density(self, coefficients: Array) -> float:
        """Log-density of all coefficients (p, k) together."""
        standard = (coefficients - self.mean) / self.spread
        return float(-0.5 * (standard**2).sum() - len(coefficients) * np.log(self.spread).sum())

    def learned(self, estimates: Array, precision: Array) -> CoefficientPrior:
        """The prior under which independent estimates (p, k) with these precisions (p, k) are most probable.

        By expectation maximisation, with coefficients as what is not observed.
        """
        shift, spread, values = self.shift, self.spread, estimates - self.center
        for _ in range(EM_STEPS):
            variance = 1 / (precision + spread**-2)
            mean = variance * (precision * values + shift / spread**2)
            shift = mean.mean(0)
            spread = np.maximum(np.sqrt(((mean - shift) ** 2 + variance).mean(0)), LEAST_SPREAD)
        return replace(self, shift=shift, spread=spread)


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
        After each iteration, ``elbo``, the mean bound of the cells that the new columns are about, in nats, and
        ``seconds``.
    converged, interrupted, reason
        Whether the optimum was found, whether Ctrl-C ended the search, and why it ended, in words.
    """

    coefficients: Array
    prior: CoefficientPrior
    history: dict[str, list[float]]
    converged: bool
    reason: str
    interrupted: bool = False


def fit_columns(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    likelihood: Likelihood,
    new: NDArray[np.bool_],
    *,
    posterior: Posterior = "fullrank",
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

    .. math:: \sum_i \text{ELBO}_i(m_i, V_i, b) + \sum_{ja} \log N(b_{ja}; c_{ja} + \mu_a, \tau_a^2),

    so that a gene without counts keeps a finite coefficient and a gene with few borrows from the others. Its mean is the
    given coefficients c up to a shift; μ and τ are learned from all genes in the first ten iterations (empirical
    Bayes), and are fixed afterwards. For a log-concave likelihood the objective is then concave in all of its
    arguments, so that the optimum does not depend on the start.

    Posteriors and coefficients take turns. Where the counts determine latent states well that alone would be slow, since
    a shift of all states and one of the coefficients can replace each other: :math:`m_i \to m_i - \delta^T x_i`,
    :math:`b_j \to b_j + \delta C_j` leaves all log-rates as they are. The best δ is a linear solve.

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
    posterior, rotation, batch_size, n_threads
        As in `infer`.
    max_iter
        Most iterations.
    tol
        Converged when an iteration gains less than this, nats per cell, and the gradient by the coefficients promises
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
        cells = CellStates.at(np.zeros((data.n_cells, q)), family, START_VARIANCE, dtype)
        law = _PoissonLaw if isinstance(likelihood, Poisson) else _AnyLaw
        search = _Search(law(data, family, likelihood, pool, batch_size), genes, cells, new)
        search.run(max_iter, tol, on_iteration)
    return ColumnFit(
        search.genes.coefficients, search.prior, search.history, search.converged, search.reason, search.interrupted
    )


@dataclass(frozen=True)
class _Slopes:
    """Derivatives of the bound by the coefficients of the new columns, summed over cells."""

    gradient: Array  # Σ_i E[ℓ'_ij] x_i, (p, k)
    curvature: Array  # −Σ_i E[ℓ''_ij] x_i x_iᵀ, (p, k, k)

    def __add__(self, other: _Slopes) -> _Slopes:
        return _Slopes(self.gradient + other.gradient, self.curvature + other.curvature)

    @classmethod
    def none(cls, n_genes: int, n_columns: int) -> _Slopes:
        """Those of no cells."""
        return cls(np.zeros((n_genes, n_columns)), np.zeros((n_genes, n_columns, n_columns)))

    @classmethod
    def sum(cls, several: list[_Slopes]) -> _Slopes:
        """Those of several parts of the cells together."""
        return sum(several[1:], several[0])

    @classmethod
    def of(cls, slope: Array, weight: Array, design: Array) -> _Slopes:
        """Those of a block of cells, from E[ℓ'] and −E[ℓ''], (n, p), and the new columns (n, k)."""
        products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
        k = design.shape[1]
        return cls(slope.T @ design, (np.maximum(weight, 0).T @ products).reshape(-1, k, k))


@dataclass(frozen=True)
class _PoissonLaw:
    """Cells and slopes in closed form."""

    data: CountData
    family: GaussianFamily
    likelihood: Likelihood
    pool: Threads
    batch_size: int | None

    def settle(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""
        settle(self.data, genes, cells, self.family, pool=self.pool, batch_size=self.batch_size)

    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell, (n,)."""
        b, c, n_threads = genes.coefficients, genes.loadings, self.pool.n_threads
        return elbo(self.data, b, c, mean, covariance, batch_size=self.batch_size, n_threads=n_threads)

    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> _Slopes:
        """Derivatives at the current posteriors."""
        data = self.data
        features = GeneFeatures.of(data.membership, genes.coefficients, genes.loadings, self.family, cells.dtype)
        size = data.block_size(self.batch_size)

        def share(start: int, stop: int) -> _Slopes:
            work, total = Block(size, data, self.family, cells.dtype), _Slopes.none(data.n_genes, int(new.sum()))
            for begin, end, rows in data.blocks(start, stop, size):
                work.load(begin, end, rows)
                work.arrive(cells, features)
                total += _Slopes.of(work.counts - work.rates, work.rates, data.design[begin:end, new])
            return total

        return _Slopes.sum(self.pool.map_shares(share, data.n_cells, size))


@dataclass(frozen=True)
class _AnyLaw(_PoissonLaw):
    """The same by quadrature."""

    def settle(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""
        family, pool, batch_size = self.family, self.pool, self.batch_size
        settle_likelihood(self.data, genes, cells, family, self.likelihood, pool=pool, batch_size=batch_size)

    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell, (n,), with the nodes that its posterior was found with."""
        return elbo_likelihood(
            self.data,
            genes.coefficients,
            genes.loadings,
            self.likelihood,
            mean,
            covariance,
            n_nodes=n_nodes(self.likelihood, INFER_NODES),
            batch_size=self.batch_size,
            n_threads=self.pool.n_threads,
        )

    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> _Slopes:
        """Derivatives at the current posteriors."""
        data = self.data
        features = LogRateFeatures.of(data.membership, genes.coefficients, genes.loadings, self.family, cells.dtype)
        rule = expectations_of(self.likelihood, n_nodes(self.likelihood, INFER_NODES), cells.dtype)
        size = block_size(data, rule, self.pool.n_threads, self.batch_size)

        def share(start: int, stop: int) -> _Slopes:
            work, total = LikelihoodBlock(data, rule), _Slopes.none(data.n_genes, int(new.sum()))
            for begin, end, rows in data.blocks(start, stop, size):
                work.load(begin, end, rows)
                work.arrive(cells, features)
                expectation = work.expectation
                total += _Slopes.of(expectation.slope, expectation.weight, data.design[begin:end, new])
            return total

        return _Slopes.sum(self.pool.map_shares(share, data.n_cells, size))


@dataclass
class _Search:
    """The alternation, and where it is."""

    law: _PoissonLaw
    genes: GeneParameters
    cells: CellStates
    new: NDArray[np.bool_]
    history: dict[str, list[float]] = field(default_factory=lambda: {"elbo": [], "seconds": []})
    converged: bool = False
    interrupted: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        center, k = self.genes.coefficients[:, self.new], int(self.new.sum())
        self.prior = CoefficientPrior(center, np.zeros(k), np.ones(k))

    @property
    def values(self) -> Array:
        """The new coefficients b, (p, k)."""
        return self.genes.coefficients[:, self.new]

    def run(self, max_iter: int, tol: float, on_iteration: Callable[[int, float], None] | None) -> None:
        """Iterate until convergence or an interrupt."""
        begin, n = time.perf_counter(), self.law.data.n_cells
        best = (-np.inf, self.values, self.cells.mean.copy())  # bound, coefficients and means that it was reached from
        halvings = 0
        try:
            while len(self.history["elbo"]) < max_iter:
                self.law.settle(self.genes, self.cells)
                bound = self._bound()
                last = best[0] + self.prior.log_density(best[1])
                gain = (bound + self.prior.log_density(self.values) - last) / n
                if gain < -ROUNDING and halvings < MAX_HALVINGS:
                    halvings += 1
                    self._move_to(0.5 * (self.values + best[1]), best[2])
                    continue
                halvings = 0
                best = (bound, self.values, self.cells.mean.copy())
                self.history["elbo"].append(bound / n)
                self.history["seconds"].append(time.perf_counter() - begin)
                if on_iteration is not None:
                    on_iteration(len(self.history["elbo"]), bound / n)
                promise = self._improve() / n
                if len(self.history["elbo"]) > PRIOR_ITERATIONS and gain < tol and promise < tol / 20:
                    self._move_to(best[1], best[2])
                    self.converged = True
                    break
        except KeyboardInterrupt:
            self.interrupted = True
            self._move_to(best[1], best[2])
        done = f"{len(self.history['elbo']):,} iterations"
        outcome = "interrupted after " if self.interrupted else "converged: " if self.converged else "stopped after "
        self.reason = f"{outcome}{done}"

    def _bound(self) -> float:
        covariance = self.law.family.covariance(self.cells.variance)
        return float(self.law.bound(self.genes, self.cells.mean, covariance).sum())

    def _improve(self) -> float:
        """One step of the prior, as long as it is learned, of the coefficients, and of the shift; the promised gain."""
        slopes = self.law.slopes(self.genes, self.cells, self.new)
        if len(self.history["elbo"]) <= PRIOR_ITERATIONS:
            precision = np.maximum(np.einsum("jaa->ja", slopes.curvature), LEAST_CURVATURE)
            change = np.clip(slopes.gradient / precision, -MAX_CHANGE, MAX_CHANGE)
            self.prior = self.prior.learned(self.values + change, precision)
        weights = self.prior.spread**-2
        gradient = slopes.gradient - weights * (self.values - self.prior.mean)
        step = np.linalg.solve(slopes.curvature + np.diag(weights), gradient[..., None])[..., 0]
        promise = 0.5 * float((gradient * step).sum())
        values = self.values + np.clip(step, -MAX_CHANGE, MAX_CHANGE)
        shift = self._best_shift(values)
        mean = self.cells.mean - (self.law.data.design[:, self.new] @ shift).astype(self.cells.dtype)
        self._move_to(values + self.genes.loadings @ shift.T, mean)
        return promise

    def _best_shift(self, values: Array) -> Array:
        """Shift δ (k, q) of the latent states into the coefficients that the priors of both like best."""
        x, c = self.law.data.design[:, self.new], self.genes.loadings
        weights = self.prior.spread**-2
        target = x.T @ self.cells.mean - weights[:, None] * ((values - self.prior.mean).T @ c)
        system = np.kron(x.T @ x, np.eye(c.shape[1])) + np.kron(np.diag(weights), c.T @ c)
        return np.linalg.solve(system, target.ravel()).reshape(target.shape)

    def _move_to(self, values: Array, mean: Array) -> None:
        coefficients = self.genes.coefficients.copy()
        coefficients[:, self.new] = values
        self.genes = GeneParameters(coefficients, self.genes.loadings)
        self.cells.mean[...] = mean
