"""The regimes of the posterior comparison: parameters that are fixed, and data sets that are drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp
from data import CountSet, log_size_factors, most_variable_genes

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

Likelihood = Literal["poisson", "nb", "zinb"]

N_CELLS = 500
SIZE_FACTOR_SD = 0.3
#: Truth of negative binomial counts, and of zero inflation.
INVERSE_DISPERSION, GATE = 2.0, 0.2
#: Cells that decide on the level of the intercepts.
_CELLS_FOR_LEVEL = 4000


@dataclass(frozen=True)
class Regime:
    """Simulated data of n cells in two batches; `zeros` is the expected share of zero counts."""

    p: int
    q: int
    zeros: float
    likelihood: Likelihood = "poisson"
    n: int = N_CELLS

    @property
    def name(self) -> str:
        """Such as ``p100 q5 80% nb``."""
        family = "" if self.likelihood == "poisson" else f" {self.likelihood}"
        cells = "" if self.n == N_CELLS else f" n{self.n}"
        return f"p{self.p} q{self.q} {100 * self.zeros:.0f}%{family}{cells}"


#: Regimes with hundreds of genes for each latent dimension, or few. With 4000 cells, estimates have little bias of their own.
REGIMES = {
    regime.name: regime
    for regime in (
        Regime(100, 5, 0.40),
        Regime(100, 5, 0.80),
        Regime(100, 5, 0.95),
        Regime(20, 5, 0.90),
        Regime(20, 10, 0.60),
        Regime(10, 1, 0.60),
        Regime(100, 5, 0.95, n=4000),
        Regime(20, 5, 0.90, n=4000),
        Regime(100, 5, 0.80, "nb"),
        Regime(100, 5, 0.80, "zinb"),
        Regime(500, 10, 0.80),
        Regime(500, 10, 0.95),
        Regime(1000, 20, 0.90),
    )
}
#: The regime in which draws, transforms and steps are varied.
SWEEP_REGIME = "p100 q5 95%"
#: Real data: name → (file, genes, latent dimensions), of which `_REAL_CELLS` cells are used.
REAL = {"pbmc_facs": ("pbmc_facs.h5ad", 1000, 10), "pln_scRNA": ("pln_scRNA.h5ad", 500, 10)}
_REAL_CELLS = 1000


@dataclass(frozen=True)
class Truth:
    """B (p × 2; intercept and effect of the second batch) and C (p × q)."""

    coefficients: NDArray[np.float64]
    loadings: NDArray[np.float64]


@lru_cache
def truth(name: str) -> Truth:
    """Parameters of a regime: those of `scpln.datasets.simulate`, with intercepts at the level that gives its zeros."""
    from scpln.datasets import simulate

    regime = REGIMES[name]
    genes = simulate(2, regime.p, n_latent=regime.q, n_batches=2, density=1 - regime.zeros, seed=1)
    coefficients = genes.varm["true_coefficients"].to_numpy().copy()
    loadings = genes.varm["true_loadings"]
    rng = np.random.default_rng(0)
    o, x, z = _cells(rng, _CELLS_FOR_LEVEL, regime.q)
    eta = o[:, None] + x @ coefficients.T + z @ loadings.T
    low, high = -20.0, 20.0
    while high - low > 1e-4:
        shift = (low + high) / 2
        low, high = (low, shift) if _zero_share(eta + shift, regime.likelihood) < regime.zeros else (shift, high)
    coefficients[:, 0] += low
    return Truth(coefficients, loadings)


def draw(name: str, data_set: int) -> AnnData:
    """Draw new cells and counts of a regime, with the truth in `varm`; offsets are known and average to 0."""
    import pandas as pd
    from anndata import AnnData

    regime, genes = REGIMES[name], truth(name)
    rng = np.random.default_rng([data_set, regime.p, regime.q, round(100 * regime.zeros), len(regime.likelihood)])
    o, x, z = _cells(rng, regime.n, regime.q)
    rate = np.exp(o[:, None] + x @ genes.coefficients.T + z @ genes.loadings.T)
    if regime.likelihood != "poisson":
        rate *= rng.gamma(INVERSE_DISPERSION, 1 / INVERSE_DISPERSION, rate.shape)
    counts = rng.poisson(rate)
    if regime.likelihood == "zinb":
        counts[rng.random(counts.shape) < GATE] = 0
    adata = AnnData(
        sp.csr_matrix(counts.astype(np.int32)),
        obs=pd.DataFrame(
            {"size_factor": np.exp(o), "batch": pd.Categorical(x[:, 1].astype(int).astype(str))},
            index=[f"cell{i}" for i in range(regime.n)],
        ),
        var=pd.DataFrame(index=[f"gene{j}" for j in range(regime.p)]),
    )
    adata.varm["true_coefficients"], adata.varm["true_loadings"] = genes.coefficients, genes.loadings
    return adata


def read_real(name: str, folder: Path) -> AnnData:
    """Evenly spaced cells and the most variable genes of a real data set, with size factors from all genes."""
    import anndata as ad

    file, n_genes, _ = REAL[name]
    adata = ad.read_h5ad(folder / file)
    totals = adata.obs["total_counts"] if "total_counts" in adata.obs else adata.X.sum(1)
    totals = np.asarray(totals, dtype=np.float64).ravel()
    cells = np.unique(np.linspace(0, adata.n_obs - 1, _REAL_CELLS).astype(int))
    genes = most_variable_genes(sp.csr_matrix(adata.X), n_genes)
    chosen = CountSet(sp.csr_matrix(adata.X[cells][:, genes]).astype(np.int32), log_size_factors(totals)[cells])
    real = ad.AnnData(chosen.counts)
    real.obs["size_factor"] = np.exp(chosen.offsets)
    return real


def _cells(
    rng: np.random.Generator, n: int, q: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Offsets (n,), design (n × 2) and latent states (n × q)."""
    o = rng.normal(0.0, SIZE_FACTOR_SD, n)
    batch = rng.permutation(np.arange(n) % 2)
    return o - o.mean(), np.column_stack([np.ones(n), batch]).astype(np.float64), rng.standard_normal((n, q))


def _zero_share(eta: NDArray[np.float64], likelihood: Likelihood) -> float:
    """Mean probability of a zero count, given log-rates."""
    mu = np.exp(eta)
    if likelihood == "poisson":
        return float(np.exp(-mu).mean())
    zero = np.exp(-INVERSE_DISPERSION * np.log1p(mu / INVERSE_DISPERSION)).mean()
    return float(zero if likelihood == "nb" else GATE + (1 - GATE) * zero)
