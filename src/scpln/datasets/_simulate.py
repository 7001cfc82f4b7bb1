"""Counts drawn from the PLN-PCA model, with everything that they were drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_ENTRIES = 2**20
"""Log-rates held at a time (8 MB)."""


def simulate(
    n_obs: int = 1000,
    n_vars: int = 500,
    *,
    n_latent: int = 5,
    n_batches: int = 1,
    density: float = 0.3,
    latent_variance: float = 1.0,
    gene_sd: float = 1.0,
    batch_sd: float = 0.5,
    size_factor_sd: float = 0.3,
    store_covariance: bool = True,
    seed: int = 0,
) -> AnnData:
    """Draw counts from the PLN-PCA model and keep the truth beside them.

    For cell i and gene j, with x_i an intercept and the indicators of every batch but the first,

        z_i ~ N(0, I_q)        η_ij = o_i + x_i·B_j + z_i·C_j        y_ij ~ Poisson(exp η_ij)

    The loadings C are in the identified rotation (orthogonal columns of decreasing length, each one's largest entry
    positive). The intercepts in B are Gaussian around the level that gives the wanted share of non-zero counts. The
    genes (B, C) depend on `seed`, `n_vars`, `n_latent` and `n_batches`, not on the number of cells.

    Counts are made in blocks straight into CSR: 200,000 × 2,000 with 5 % non-zeros needs little more memory than its
    result.

    Parameters
    ----------
    n_obs, n_vars
        Cells n and genes p.
    n_latent
        Latent dimensions q.
    n_batches
        Batches, of about equal size and at random.
    density
        Expected share of non-zero counts, between 0 and 1.
    latent_variance
        Mean over genes of Σ_jj, the variance of a gene's log-rate that comes from the latent state.
    gene_sd
        Standard deviation of the genes' intercepts.
    batch_sd
        Standard deviation of the batch effects on the log-rate.
    size_factor_sd
        Standard deviation of the log size factors.
    store_covariance
        Whether to store Σ = C Cᵀ, which takes 8 p² bytes.
    seed
        Same seed, same counts.

    Returns
    -------
    AnnData with counts in ``X`` (CSR, int32) and the truth in

    ``obs["batch"]``, ``obs["size_factor"]``
        Batch, and exp(o_i), whose geometric mean is 1.
    ``obsm["true_latent"]``
        z (n × q).
    ``varm["true_loadings"]``
        C (p × q).
    ``varm["true_coefficients"]``
        B (p × d), a data frame with one column per column of the design.
    ``varp["true_covariance"]``
        Σ = C Cᵀ (p × p).
    ``uns["simulation"]``
        The arguments.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(200, 50, n_latent=3, n_batches=2)
    >>> adata
    AnnData object with n_obs × n_vars = 200 × 50
        obs: 'batch', 'size_factor'
        uns: 'simulation'
        obsm: 'true_latent'
        varm: 'true_loadings', 'true_coefficients'
        varp: 'true_covariance'
    """
    arguments = dict(locals())
    validate(arguments)
    gene_seed, cell_seed, count_seed = np.random.SeedSequence(seed).spawn(3)

    rng = np.random.default_rng(gene_seed)
    loadings = identified_loadings(rng, n_vars, n_latent, latent_variance)
    coefficients = np.column_stack(
        [rng.normal(0.0, gene_sd, n_vars), rng.normal(0.0, batch_sd, (n_vars, n_batches - 1))]
    )
    variance = np.square(loadings).sum(1) + size_factor_sd**2
    coefficients[:, 0] += intercept_for_density(levels_of(coefficients), variance, density)

    rng = np.random.default_rng(cell_seed)
    batch = rng.permutation(np.arange(n_obs) % n_batches)
    offsets = rng.normal(0.0, size_factor_sd, n_obs)
    offsets -= offsets.mean()
    cells = SimulatedCells(offsets, batch, rng.standard_normal((n_obs, n_latent)))

    names = ["(Intercept)", *(f"batch[T.{b}]" for b in range(1, n_batches))]
    adata = AnnData(
        X=draw_counts(cells, coefficients, loadings, count_seed),
        obs=pd.DataFrame(
            {"batch": pd.Categorical(batch.astype(str)), "size_factor": np.exp(offsets)}, index=names_of("cell", n_obs)
        ),
        var=pd.DataFrame(index=names_of("gene", n_vars)),
        uns={"simulation": arguments},
    )
    adata.obsm["true_latent"] = cells.latent
    adata.varm["true_loadings"] = loadings
    adata.varm["true_coefficients"] = pd.DataFrame(coefficients, index=adata.var_names, columns=names)
    if store_covariance:
        adata.varp["true_covariance"] = loadings @ loadings.T
    return adata


@dataclass(frozen=True)
class SimulatedCells:
    """What the counts of cells depend on: log size factors (n,), codes of batches (n,), latent states (n × q)."""

    offsets: np.ndarray
    batch: np.ndarray
    latent: np.ndarray


def validate(arguments: dict[str, Any]) -> None:
    """Refuse sizes, shares, scales and seeds that nothing can be drawn with."""
    for name, least in {"n_obs": 1, "n_vars": 1, "n_latent": 1, "n_batches": 1, "seed": 0}.items():
        check_whole(name, arguments[name], least)
    for name in ("density", "latent_variance", "gene_sd", "batch_sd", "size_factor_sd"):
        value = arguments[name]
        if not isinstance(value, int | float | np.number) or not np.isfinite(value):
            msg = f"`{name}` must be a finite number, but is {value!r}."
            raise ValueError(msg)
    if arguments["n_latent"] > arguments["n_vars"]:
        msg = f"`n_latent`={arguments['n_latent']} must not exceed `n_vars`={arguments['n_vars']}."
        raise ValueError(msg)
    if not 0 < arguments["density"] < 1:
        msg = f"`density` is a share of non-zero counts, strictly between 0 and 1, but is {arguments['density']}."
        raise ValueError(msg)
    for name in ("latent_variance", "gene_sd", "batch_sd", "size_factor_sd"):
        if arguments[name] < 0:
            msg = f"`{name}` must not be negative, but is {arguments[name]}."
            raise ValueError(msg)


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number, or less than `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        msg = f"`{name}` must be a whole number of at least {least}, but is {value!r}."
        raise TypeError(msg)
    if value < least:
        msg = f"`{name}` must be at least {least}, but is {value}."
        raise ValueError(msg)


def names_of(kind: str, n: int) -> list[str]:
    """Names of n cells or genes."""
    return [f"{kind}_{i}" for i in range(n)]


def identified_loadings(rng: np.random.Generator, p: int, q: int, latent_variance: float) -> np.ndarray:
    """C (p × q) with orthogonal columns, CᵀC falling linearly by a factor of two, mean row length² `latent_variance`."""
    directions = np.linalg.qr(rng.standard_normal((p, q)))[0]
    share = np.linspace(2.0, 1.0, q)
    loadings = directions * np.sqrt(p * latent_variance * share / share.sum())
    largest = np.abs(loadings).argmax(0)
    return loadings * np.sign(loadings[largest, np.arange(q)])


def levels_of(coefficients: np.ndarray) -> np.ndarray:
    """x·B_j of each batch (n_batches × p): the intercept, plus the batch's own effect for all but the first."""
    effects = coefficients.T.copy()
    effects[0] = 0.0
    return coefficients[:, 0] + effects


def intercept_for_density(levels: np.ndarray, variance: np.ndarray, density: float) -> float:
    """Shift of all intercepts for which the mean of P(y_ij > 0) is `density`.

    Over the cells of a batch, a gene's log-rate is Gaussian, so P(y = 0) = E exp(-exp η) is a Gauss–Hermite sum.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    log_rate = levels[:, :, None] + np.sqrt(variance)[:, None] * nodes

    low, high = -50.0, 50.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        nonzero = -np.expm1(-np.exp(np.minimum(log_rate + middle, 50.0))) @ weights
        low, high = (middle, high) if nonzero.mean() < density else (low, middle)
    return (low + high) / 2


def draw_counts(
    cells: SimulatedCells,
    coefficients: np.ndarray,
    loadings: np.ndarray,
    seed: np.random.SeedSequence,
    inverse_dispersion: np.ndarray | None = None,
) -> sp.csr_matrix:
    """Y (n × p): y_ij ~ Poisson(exp η_ij), drawn where it is not zero; with inverse dispersions θ_j, negative binomial.

    y is the number of arrivals of a unit-rate Poisson process before time λ. The first arrival E is exponential; y is
    zero where E > λ, and 1 + Poisson(λ - E) elsewhere, so that the slow Poisson draws are made for non-zeros only. Rates
    of negative binomial counts are multiplied by draws of Gamma(θ_j) / θ_j.
    """
    first_arrivals, further_arrivals, noise = (np.random.default_rng(s) for s in seed.spawn(3))
    indptr, indices, data = [np.zeros(1, np.int64)], [], []
    for rate in _rates(cells, coefficients, loadings):
        if inverse_dispersion is not None:
            rate *= noise.standard_gamma(inverse_dispersion, rate.shape) / inverse_dispersion
        waiting = first_arrivals.standard_exponential(rate.shape)
        rate -= waiting
        rows, columns = np.nonzero(rate > 0)
        data.append(1 + further_arrivals.poisson(rate[rows, columns]).astype(np.int32))
        indices.append(columns.astype(np.int32))
        indptr.append(indptr[-1][-1] + np.cumsum(np.bincount(rows, minlength=len(rate))))
    return sp.csr_matrix(
        (np.concatenate(data), np.concatenate(indices), np.concatenate(indptr)),
        shape=(len(cells.offsets), len(loadings)),
    )


def _rates(cells: SimulatedCells, coefficients: np.ndarray, loadings: np.ndarray) -> Iterator[np.ndarray]:
    """Yield exp(η) for block after block of cells."""
    n, p = len(cells.offsets), len(loadings)
    levels = levels_of(coefficients)
    step = max(1, BLOCK_ENTRIES // p)
    for start in range(0, n, step):
        block = slice(start, start + step)
        eta = cells.latent[block] @ loadings.T
        eta += levels[cells.batch[block]]
        eta += cells.offsets[block, None]
        yield np.exp(eta, out=eta)
