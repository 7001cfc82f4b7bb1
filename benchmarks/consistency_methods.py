"""Estimators whose bias is compared: each from counts and design to B and Σ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from resume import Job

    from scpln.inference import CountData
    from scpln.model import PLNPCA

    Array = NDArray[np.float64]
    Estimates = tuple[Array, Array, dict[str, Any]]

#: Cells from which on slow methods are left out, and sets are fewer.
LARGE = 50_000
#: Nodes of the trapezoidal rule over one dimension, how far out they reach, and iterations of expectation maximisation.
NODES, REACH, QUADRATURE_STEPS = 81, 6.0, 200
#: Training of flows, encoders and on the importance-weighted bound.
TRAINING = {"n_steps": 500, "learning_rate": 1e-2}


@dataclass(frozen=True)
class Truth:
    """B (p, 2) and C (p, q)."""

    coefficients: Array
    loadings: Array

    @property
    def covariance(self) -> Array:
        """Σ = CCᵀ."""
        return self.loadings @ self.loadings.T

    def draw(self, n: int, seed: int) -> tuple[Array, Array]:
        """Counts (n, p) and design (n, 2), with a standard normal covariate."""
        random = np.random.default_rng([n, seed])
        design = np.column_stack([np.ones(n), random.standard_normal(n)])
        states = random.standard_normal((n, self.loadings.shape[1]))
        log_rates = design @ self.coefficients.T + states @ self.loadings.T
        return random.poisson(np.exp(log_rates)).astype(np.float64), design


@dataclass(frozen=True)
class Method:
    """An estimator, and where it is run."""

    estimate: Callable[[Array, Array, int], Estimates]
    slow: bool = False
    one_dimension: bool = False

    def takes(self, setting: Job) -> bool:
        """Whether it is run in a setting."""
        return not (self.one_dimension and setting["q"] > 1) and not (self.slow and setting["n"] >= LARGE)


def fit(method: str, counts: Array, design: Array, q: int) -> Estimates:
    """B (p, 2), Σ (p, p) and facts of the fit."""
    return METHODS[method].estimate(counts, design, q)


def _data(counts: Array, design: Array) -> CountData:
    from scpln.inference import CountData

    return CountData(sp.csr_matrix(counts), np.zeros(len(counts)), design)


def _gene_space(posterior: Any) -> Callable[[Array, Array, int], Estimates]:
    def estimate(counts: Array, design: Array, q: int) -> Estimates:
        from scpln.inference import fit_pln
        from scpln.module.covariances import Full

        del q
        full = Full(counts.shape[1])
        found = fit_pln(_data(counts, design), full, posterior=posterior, prior_precision=0.0, n_threads=1)
        return found.coefficients, found.covariance.dense, {"bound": float(found.elbo.mean()), "reason": found.reason}

    return estimate


def _pca(model: dict[str, Any] | None = None, training: dict[str, Any] | None = None) -> Callable[..., Estimates]:
    def estimate(counts: Array, design: Array, q: int) -> Estimates:
        found = _trained(counts, design, q, model or {}, training or {"tol": 1e-6})
        coefficients = found.get_coefficients().to_numpy()
        loadings = found.get_loadings().to_numpy()
        return (
            coefficients,
            loadings @ loadings.T,
            {"bound": float(found.get_elbo()), "reason": found.training_["reason"]},
        )

    return estimate


def _trained(counts: Array, design: Array, q: int, model: dict[str, Any], training: dict[str, Any]) -> PLNPCA:
    import anndata as ad

    import scpln

    adata = ad.AnnData(counts.astype(np.float32))
    adata.obs["x"], adata.obs["one"] = design[:, 1], 1.0
    scpln.model.setup_anndata(adata, continuous_covariate_keys=["x"], size_factor_key="one")
    found = scpln.model.PLNPCA(adata, q, prior="none", **model)
    found.train(n_threads=1, seed=0, progress=False, **training)
    return found


def _refined(counts: Array, design: Array, q: int) -> Estimates:
    """Maximum likelihood by importance-weighted expectation maximisation, from the full-rank fit."""
    from scpln.inference import fit
    from scpln.inference.estimators import refine_pca

    data = _data(counts, design)
    start = fit(data, q, tol=1e-6, n_threads=1)
    b, c = refine_pca(data, start.coefficients, start.loadings)
    return b, c @ c.T, {}


def _quadrature(counts: Array, design: Array, q: int) -> Estimates:
    """Maximum likelihood of one dimension, by expectation maximisation with exact integrals."""
    del q
    nodes = np.linspace(-REACH, REACH, NODES)
    log_prior = -0.5 * nodes**2
    b = np.column_stack([np.log(counts.mean(0) + 1e-3), np.zeros(counts.shape[1])])
    c = np.full((counts.shape[1], 1), 0.3)
    for _ in range(QUADRATURE_STEPS):
        known = design @ b.T
        log_joint = log_prior + counts @ (c * nodes)
        for k, node in enumerate(nodes):
            log_joint[:, k] -= np.exp(known + c[:, 0] * node).sum(1)
        weights = np.exp(log_joint - log_joint.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        b, c = _newton(counts, design, nodes, weights, b, c)
        scale = np.sqrt((weights @ nodes**2).mean() - (weights @ nodes).mean() ** 2)  # parameter expansion
        b[:, 0] += c[:, 0] * (weights @ nodes).mean()
        c *= scale
    return b, c @ c.T, {}


def _newton(counts: Array, design: Array, nodes: Array, weights: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """A Newton step of every gene's regression on design and nodes."""
    d, p = design.shape[1], counts.shape[1]
    slope, curvature = np.zeros((p, d + 1)), np.zeros((p, d + 1, d + 1))
    slope[:, :d], slope[:, d] = counts.T @ design, counts.T @ (weights @ nodes)
    base = np.exp(design @ b.T)
    for k, node in enumerate(nodes):
        rates = base * np.exp(c[:, 0] * node) * weights[:, k, None]
        inputs = np.column_stack([design, np.full(len(design), node)])
        slope -= rates.T @ inputs
        products = (inputs[:, :, None] * inputs[:, None, :]).reshape(len(inputs), -1)
        curvature += (rates.T @ products).reshape(p, d + 1, d + 1)
    step = np.linalg.solve(curvature + 1e-6 * np.eye(d + 1), slope[..., None])[..., 0]
    step /= np.maximum(np.abs(step).max(1, keepdims=True) / 0.5, 1)
    return b + step[:, :d], c + step[:, d:]


METHODS = {
    "gene space, mean-field": Method(_gene_space("meanfield")),
    "gene space, full rank": Method(_gene_space("fullrank"), slow=True),
    "mean-field": Method(_pca({"posterior": "meanfield"})),
    "full rank": Method(_pca()),
    "encoder, two steps": Method(_pca({"amortized": True}, {"two_step": True, **TRAINING}), slow=True),
    "Sylvester flow": Method(_pca({"posterior": "flow", "flow": "sylvester"}, TRAINING), slow=True),
    "IW-trained": Method(_pca({}, {"n_importance_samples": 8, **TRAINING}), slow=True),
    "IW-EM": Method(_refined),
    "quadrature": Method(_quadrature, one_dimension=True),
}
