"""The bound of any Gaussian posterior in gene space, written apart from every package that is measured. Numpy and scipy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from bound import bound_per_cell
from scipy.special import gammaln, logsumexp

if TYPE_CHECKING:
    from pathlib import Path

#: Nodes of the Gauss-Hermite rule over each log-rate, where counts are zero-inflated.
NODES = 40


@dataclass(frozen=True)
class Fit:
    """Posteriors and priors of log-rates without offsets, of K components (1 where there is no mixture).

    Attributes
    ----------
    mean, spread
        m (K, n, p), and variances (K, n, p), or, of full covariances, weights a (K, n, p), with V = (Ω + diag a)⁻¹.
    full
        Whether V is full.
    prior_mean, precision, weights
        (K, n, p), Ω (K, p, p), and probabilities of components (K,).
    phi
        Correlation of a sample with the next; 0 where they are independent.
    logit
        Logits of zero inflation, (n, p), if there is any.
    penalty
        Of the sum of |Ω_jk|, j ≠ k.
    """

    mean: np.ndarray
    spread: np.ndarray
    full: bool
    prior_mean: np.ndarray
    precision: np.ndarray
    weights: np.ndarray
    phi: float = 0.0
    logit: np.ndarray | None = None
    penalty: float = 0.0

    def save(self, path: Path) -> None:
        """Write what the judge reads, in whichever environment."""
        np.savez(path, **{name: value for name, value in vars(self).items() if value is not None})

    @classmethod
    def load(cls, path: Path) -> Fit:
        """Read what `save` wrote, in float64."""
        with np.load(path) as file:
            found = {name: np.asarray(file[name]) for name in file.files}
        numbers = {name: float(found.pop(name)) for name in ("phi", "penalty")}
        full = bool(found.pop("full"))
        return cls(**{name: each.astype(float) for name, each in found.items()}, full=full, **numbers)


@dataclass(frozen=True)
class Ranks:
    """Fits of PLN-PCA of several ranks: of each the arguments of `bound_per_cell` from the coefficients on, but the design."""

    fits: dict[int, dict[str, np.ndarray]]

    def save(self, path: Path) -> None:
        """Write what the judge reads, in whichever environment."""
        np.savez(path, **{f"{rank} {name}": value for rank, fit in self.fits.items() for name, value in fit.items()})

    @classmethod
    def load(cls, path: Path) -> Ranks:
        """Read what `save` wrote."""
        fits: dict[int, dict[str, np.ndarray]] = {}
        with np.load(path) as file:
            for key in file.files:
                rank, name = key.split()
                fits.setdefault(int(rank), {})[name] = file[key]
        return cls(fits)


def bounds_of_ranks(counts: np.ndarray, offsets: np.ndarray, ranks: Ranks) -> dict[int, float]:
    """The same of all samples at each rank; the design is an intercept, and offsets are of samples."""
    given = sp.csr_matrix(counts), offsets[:, 0], np.ones((len(counts), 1))
    return {rank: float(bound_per_cell(*given, **fit).sum()) for rank, fit in ranks.fits.items()}


def bound(counts: np.ndarray, offsets: np.ndarray, fit: Fit) -> float:
    """Evidence lower bound of all samples together, in nats, with the full log-factorial, less the penalty."""
    if fit.phi:
        return _of_series(counts, offsets, fit)
    of_components = [
        _expected(counts, offsets + fit.mean[k], variance, fit.logit) - divergence
        for k in range(len(fit.weights))
        for variance, divergence in [_divergences(fit, k)]
    ]
    of_samples = logsumexp(np.log(fit.weights)[:, None] + of_components, axis=0)
    off = fit.precision[0][~np.eye(fit.precision.shape[1], dtype=bool)]
    return float(of_samples.sum() - fit.penalty * np.abs(off).sum())


def _divergences(fit: Fit, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances (n, p), and KL of each sample's posterior from its prior, of a component."""
    omega, spread = fit.precision[k], fit.spread[k]
    residual = fit.mean[k] - fit.prior_mean[k]
    if fit.full:
        covariances = np.linalg.inv(omega + np.eye(len(omega)) * spread[:, None, :])
        variance = np.diagonal(covariances, axis1=1, axis2=2)
        log_det, trace = np.linalg.slogdet(covariances)[1], np.einsum("jk,ikj->i", omega, covariances)
    else:
        variance, log_det, trace = spread, np.log(spread).sum(1), spread @ np.diag(omega)
    square = np.einsum("ij,jk,ik->i", residual, omega, residual)
    return variance, 0.5 * (square + trace - log_det - np.linalg.slogdet(omega)[1] - len(omega))


def _expected(counts: np.ndarray, eta: np.ndarray, variance: np.ndarray, logit: np.ndarray | None) -> np.ndarray:
    """Expected log-probability of each sample, (n,)."""
    if logit is None:
        return (counts * eta - np.exp(eta + variance / 2) - gammaln(counts + 1)).sum(1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    log_pi, log_rest = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    total = np.zeros(counts.shape)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        at = eta + np.sqrt(variance) * node
        log_counts = log_rest + counts * at - np.exp(at) - gammaln(counts + 1)
        total += weight * np.where(counts == 0, np.logaddexp(log_pi, log_counts), log_counts)
    return total.sum(1)


def _of_series(counts: np.ndarray, offsets: np.ndarray, fit: Fit) -> float:
    """Bound of one series in the order of its rows, stationary, by one matrix of all samples and genes."""
    n, p = counts.shape
    scale = 1 / (1 - fit.phi**2)
    inner = np.full(n, scale * (1 + fit.phi**2))
    inner[[0, -1]] = scale
    steps = np.diag(inner) - scale * fit.phi * (np.eye(n, k=1) + np.eye(n, k=-1))
    whole = {name: getattr(fit, name)[0].reshape(1, 1, n * p) for name in ("mean", "spread", "prior_mean")}
    joint = Fit(**whole, full=fit.full, precision=np.kron(steps, fit.precision[0])[None], weights=fit.weights)
    return bound(counts.reshape(1, -1), offsets.reshape(1, -1), joint)
