"""Factor analysis by maximum likelihood: where a fit of Gaussian observations starts, and nearly ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.core import Threads, threads
from scpln.core import _linalg as linalg
from scpln.inference.expectations import write_parameters
from scpln.inference.newton._convergence import History
from scpln.inference.newton._result import FitResult
from scpln.inference.newton._rotation import identified_rotation

from ._bound import elbo_likelihood

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scpln.core import Array, CountData
    from scpln.inference.newton._families import GaussianFamilyName
    from scpln.module import Likelihood

#: Extra random directions of the subspace iteration.
OVERSAMPLING = 16
#: Passes before the noise is first updated, and least factor by which it then falls in one.
POWER_ITERATIONS, LEAST_STEP = 4, 0.3
#: Passes at most, and gain per cell, nats, below which they end.
MAX_PASSES, TOLERANCE = 200, 1e-4
#: Smallest variance of a gene's noise, as a fraction of its variance, and absolutely.
LEAST_SHARE, LEAST_VARIANCE = 1e-4, 1e-6


def start_gaussian(
    data: CountData,
    n_latent: int,
    likelihood: Likelihood,
    *,
    posterior: GaussianFamilyName = "fullrank",
    seed: int = 0,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> FitResult:
    r"""Fit Gaussian observations by factor analysis: coefficients, loadings, noise and posteriors, for `fit_likelihood`.

    .. math:: y_{ij} \sim N(o_i + x_i·B_j + z_i·C_j, σ_j^2), \quad z_i \sim N(0, I)

    Every gene has the same covariates, so that least squares is maximum likelihood for B. Given noise variances, C
    follows from the leading eigenvectors of the residuals' covariance, scaled by the noise, and given C so does the noise [1]_.
    A subspace iteration improves both at once, one pass over the data each; genes × genes matrices are never made.
    Posteriors have a closed form, and the same covariance :math:`(I + Cᵀ Σ^{-1} C)^{-1}` for all cells. In the axes where that is
    diagonal, a mean-field posterior is exact too, and the bound is the marginal log-likelihood.

    Parameters
    ----------
    data
        Real values, offsets (usually zero) and design.
    n_latent
        Latent dimensions q.
    likelihood
        Gaussian, whose one parameter is log σ; it is set.
    posterior
        `"fullrank"` or `"meanfield"`.
    seed
        Of the directions that the iteration starts from.
    batch_size
        Cells read at a time, at most.
    n_threads
        Threads; all available ones when None.

    References
    ----------
    .. [1] Barber (2012), Bayesian Reasoning and Machine Learning, section 21.2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData, start_gaussian
    >>> from scpln.module import make_likelihood
    >>> random = np.random.default_rng(0)
    >>> values = random.normal(size=(100, 2)) @ random.normal(size=(2, 20)) + 0.5 * random.normal(size=(100, 20))
    >>> likelihood = make_likelihood("gaussian", 20)
    >>> result = start_gaussian(CountData(values, np.zeros(100), np.ones((100, 1))), 2, likelihood)
    >>> likelihood.gene_parameters()["sd"].mean().round(decimals=1)
    tensor(0.5000)
    """
    history = History()
    with threads(n_threads) as pool:
        residuals = Residuals.of(data, pool, data.block_size(batch_size))
        factors, converged = _analyse(residuals, n_latent, seed, history)
        scaled = factors.loadings / factors.noise[:, None]
        precision, axes = np.linalg.eigh(factors.loadings.T @ scaled)
        variance = 1 / (1 + precision)
        mean = residuals.times(scaled @ (axes * variance))
    rotation = identified_rotation(factors.loadings)
    axes_rotation = axes.T @ rotation
    loadings, covariance = factors.loadings @ rotation, (axes_rotation.T * variance) @ axes_rotation
    packed = np.tile(covariance[linalg.tril_indices(n_latent)], (data.n_cells, 1))
    write_parameters(likelihood, 0.5 * np.log(factors.noise[:, None]))
    settings: dict[str, Any] = {"batch_size": batch_size, "n_threads": n_threads}
    bound = elbo_likelihood(
        data, residuals.coefficients, loadings, likelihood, mean @ axes_rotation, packed, n_nodes=2, **settings
    )
    reason = (
        f"converged: factor analysis gained less than {TOLERANCE:g} nats per cell"
        if converged
        else f"stopped after {MAX_PASSES} passes of factor analysis, the maximum, before convergence"
    )
    return FitResult(
        coefficients=residuals.coefficients,
        loadings=loadings,
        mean=mean @ axes_rotation,
        covariance=packed,
        elbo=bound,
        rotation=axes_rotation if posterior == "meanfield" else np.eye(n_latent),
        history={"elbo": history.elbo, "seconds": history.seconds},
        converged=converged,
        reason=reason,
    )


@dataclass(frozen=True)
class Factors:
    """Loadings C (p, q) and noise variances σ² (p,)."""

    loadings: Array
    noise: Array

    @classmethod
    def leading(cls, basis: Array, image: Array, noise: Array, n_latent: int) -> tuple[Factors, float]:
        """Factors in the span of an orthonormal `basis` (p, k), from its `image` under ψ^-½ S ψ^-½, and Σ_k [λ_k − 1 − log λ_k]."""
        values, vectors = np.linalg.eigh(basis.T @ image)
        values = np.maximum(values[::-1][:n_latent], 1)
        loadings = np.zeros((len(noise), n_latent))
        directions = (basis @ vectors)[:, ::-1][:, : len(values)]
        loadings[:, : len(values)] = np.sqrt(noise)[:, None] * directions * np.sqrt(values - 1)
        return cls(loadings, noise), float((values - 1 - np.log(values)).sum())


@dataclass(frozen=True)
class Residuals:
    """Residuals Y − O − X Bᵀ of a least-squares regression, made block by block and never stored."""

    data: CountData
    coefficients: Array  # B, (p, d)
    variance: Array  # mean square of each gene's residuals, (p,)
    pool: Threads
    block: int

    @classmethod
    def of(cls, data: CountData, pool: Threads, block: int) -> Residuals:
        """Regress all genes on the design."""
        raw = cls(data, np.zeros((data.n_genes, data.design.shape[1])), np.zeros(data.n_genes), pool, block)
        products = raw.transposed(data.design)
        wrong = np.flatnonzero(~np.isfinite(products).all(1))
        if len(wrong):
            msg = (
                f"Genes {wrong[:5].tolist()} have values that are not finite (or offsets or covariates are not); "
                f"remove or replace them."
            )
            raise FloatingPointError(msg)
        coefficients = np.linalg.lstsq(data.design.T @ data.design, products.T, rcond=None)[0].T
        centred = cls(data, coefficients, raw.variance, pool, block)
        return cls(data, coefficients, centred.mean_square(), pool, block)

    def times(self, matrix: Array) -> Array:
        """R M, (n, k), for a `matrix` M (p, k)."""
        product = np.empty((self.data.n_cells, matrix.shape[1]))

        def process_chunk(start: int, stop: int) -> None:
            for begin, end, rows in self._blocks(start, stop):
                product[begin:end] = rows @ matrix

        self.pool.map_chunks(process_chunk, self.data.n_cells, self.block)
        return product

    def transposed(self, matrix: Array) -> Array:
        """Rᵀ M, (p, k), for a `matrix` M (n, k)."""
        return self._sum(matrix.shape[1], lambda cells, rows: rows.T @ matrix[cells])

    def covariance_times(self, matrix: Array) -> Array:
        """(1/n) Rᵀ R M, (p, k), for a `matrix` M (p, k), in one pass."""
        return self._sum(matrix.shape[1], lambda _, rows: rows.T @ (rows @ matrix)) / self.data.n_cells

    def mean_square(self) -> Array:
        """(1/n) Σ_i R_ij², (p,)."""
        return self._sum(1, lambda _, rows: np.einsum("np,np->p", rows, rows)[:, None])[:, 0] / self.data.n_cells

    def _sum(self, width: int, term: Callable[[slice, Array], Array]) -> Array:
        """Sum of a `term` (p, width) of each block."""

        def process_chunk(start: int, stop: int) -> Array:
            total = np.zeros((self.data.n_genes, width))
            for begin, end, rows in self._blocks(start, stop):
                total += term(slice(begin, end), rows)
            return total

        return np.sum(self.pool.map_chunks(process_chunk, self.data.n_cells, self.block), axis=0)

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, int, Array]]:
        data = self.data
        for begin, end, rows in data.blocks(start, stop, self.block):
            dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
            expected = data.gene_offsets(slice(begin, end)) + data.design[begin:end] @ self.coefficients.T
            yield begin, end, dense - expected


def _analyse(residuals: Residuals, n_latent: int, seed: int, history: History) -> tuple[Factors, bool]:
    """Maximum-likelihood factors of residuals, and whether they converged.

    With noise variances ψ and eigenpairs (λ, u) of ψ^-½ S ψ^-½, where S is the residuals' covariance, the loadings are
    ψ^½ u (λ − 1)^½, and -2 log-likelihood per cell is Σ_j [log 2πψ_j + S_jj / ψ_j] + Σ_k [log λ_k − λ_k + 1].
    """
    variance = residuals.variance
    floor = np.maximum(LEAST_SHARE * variance, LEAST_VARIANCE)
    noise = np.maximum(variance, floor)
    width = min(n_latent + OVERSAMPLING, len(variance), residuals.data.n_cells)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(variance), width)))[0]
    for iteration in range(MAX_PASSES):
        scale = np.sqrt(noise)[:, None]
        image = residuals.covariance_times(basis / scale) / scale
        factors, gain = Factors.leading(basis, image, noise, n_latent)
        history.add(
            -0.5 * float(np.log(2 * np.pi * noise).sum() + (variance / noise).sum() - gain),
            -0.5 * float(np.log(2 * np.pi * noise).sum() + (variance / noise).sum() - gain),
        )
        if iteration > POWER_ITERATIONS and abs(history.elbo[-1] - history.elbo[-2]) < TOLERANCE:
            return factors, True
        if iteration >= POWER_ITERATIONS:
            unexplained = variance - np.square(factors.loadings).sum(1)
            noise = np.maximum(unexplained, np.maximum(LEAST_STEP * noise, floor))
        basis = np.linalg.qr(image * scale / np.sqrt(noise)[:, None])[0]
    return factors, False
