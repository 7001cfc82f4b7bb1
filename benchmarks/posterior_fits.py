"""One job of the posterior comparison: fit a posterior to one data set, and judge bound and estimates."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from posterior_exact import loglik_by_quadrature
from posterior_regimes import REAL, REGIMES, draw, read_real
from scipy.special import logsumexp

from scpln.inference.estimators import refine_pca

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.inference import CountData
    from scpln.model import PLNPCA

#: Draws of each cell that bounds are judged with, and those that Pareto k̂ is.
N_DRAWS, TAIL_DRAWS, BIAS_DRAWS = 2000, 1000, 300
FLOWS = ("iaf", "realnvp", "nsf", "sylvester", "planar", "radial", "maf")
#: Model and training arguments of each method; `gap` keeps B and C, `bias` estimates them again.
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "meanfield": ({"posterior": "meanfield"}, {}),
    "fullrank": ({}, {}),
    **{flow: ({"posterior": "flow", "flow": flow}, {}) for flow in FLOWS},
    "iw8": ({}, {"n_importance_samples": 8}),
    "amortized": ({"amortized": True}, {}),
    "amortized sylvester": ({"posterior": "flow", "flow": "sylvester", "amortized": True}, {}),
}
#: Mean-field posteriors at full rank's B and C, in the axes of the loadings or in the most independent ones.
MEAN_FIELDS = ("meanfield", "meanfield, best axes")
EXACT = "mle"


@dataclass(frozen=True)
class Job:
    """A fit: `part` is gap or bias, `options` replace arguments of the model or of `train`."""

    part: str
    regime: str
    method: str
    data_set: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identity in the file of results."""
        return json.dumps([self.part, self.regime, self.method, self.data_set, self.options], sort_keys=True)

    @property
    def file(self) -> str:
        """Name of the file of estimates."""
        return f"{hashlib.sha256(self.key.encode()).hexdigest()[:16]}.npz"


def run(job: Job, folder: Path, data_dir: Path | None) -> dict[str, Any]:
    """Do a job in a worker process; a failure is a result too."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    facts = {**asdict(job), "key": job.key}
    try:
        adata = prepare(job, data_dir)
        return facts | (_gap(job, adata) if job.part == "gap" else _bias(job, adata, folder))
    except Exception as error:  # noqa: BLE001
        return facts | {"error": f"{type(error).__name__}: {error}"}


def prepare(job: Job, data_dir: Path | None) -> AnnData:
    """Data of a job, registered."""
    import scpln

    if job.regime in REAL:
        assert data_dir is not None
        adata = read_real(job.regime, data_dir)
        scpln.model.setup_anndata(adata, size_factor_key="size_factor")
    else:
        adata = draw(job.regime, job.data_set)
        scpln.model.setup_anndata(adata, size_factor_key="size_factor", batch_key="batch")
    return adata


def _gap(job: Job, adata: AnnData) -> dict[str, Any]:
    """Bounds of a posterior at the B and C of the full-rank fit."""
    from scpln.inference import infer
    from scpln.inference.newton._axes import independent_axes
    from scpln.module import GaussianPosterior

    if job.method not in MEAN_FIELDS:
        model, cost = _fitted(job, adata, reestimate=False)
        return cost | _judge(model, model.get_posterior(), adata)
    model, _ = _fitted(Job("gap", job.regime, "fullrank"), adata)
    b, c = model.module.coefficients.numpy(), model.module.loadings.numpy()
    axes = None
    if job.method != "meanfield":
        precisions = np.linalg.inv(model.get_posterior().covariance)
        axes = independent_axes(precisions.transpose(1, 2, 0)).T
    data = _data(model, adata)
    begin = time.perf_counter()
    posterior = GaussianPosterior(*infer(data, b, c, posterior="meanfield", rotation=axes, n_threads=1))
    seconds = time.perf_counter() - begin
    own, cost = _fitted(Job("gap", job.regime, "meanfield"), adata)
    own_fit = {"own_fit_elbo": own.get_elbo(), "infer_seconds": seconds}
    return cost | own_fit | _judge(model, posterior, adata)


def _bias(job: Job, adata: AnnData, folder: Path) -> dict[str, Any]:
    """Estimates of B and C under a posterior."""
    likelihood = REGIMES[job.regime].likelihood
    if job.method == EXACT:
        model, _ = _fitted(Job("bias", job.regime, "fullrank"), adata, likelihood=likelihood)
        begin, cpu = time.perf_counter(), time.process_time()
        b, c = refine_pca(_data(model, adata), model.module.coefficients.numpy(), model.module.loadings.numpy())
        cost = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}
        extra: dict[str, Any] = {}
    else:
        model, cost = _fitted(job, adata, likelihood=likelihood)
        b, c = model.module.coefficients.numpy(), model.module.loadings.numpy()
        extra = {"elbo": model.get_elbo(), "iw": model.get_iw_bound(n_samples=BIAS_DRAWS)}
    seen = np.asarray((adata.X > 0).sum(0)).ravel()
    parameters = {name: values.numpy() for name, values in model.module.generative.likelihood.gene_parameters().items()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / job.file, coefficients=b, loadings=c, seen=seen, **parameters)
    return cost | extra | {"file": job.file}


def _fitted(job: Job, adata: AnnData, **training: Any) -> tuple[PLNPCA, dict[str, float]]:
    """A trained model and what it cost."""
    from scpln.model import PLNPCA

    q = REAL[job.regime][2] if job.regime in REAL else REGIMES[job.regime].q
    model_arguments, train_arguments = METHODS[job.method]
    model_arguments = {"likelihood": training.pop("likelihood", "poisson"), **model_arguments}
    train_arguments = {**train_arguments, **training}
    for name, value in job.options.items():
        place = model_arguments if name in ("n_transforms", "flow_hidden") else train_arguments
        place[name] = value
    model = PLNPCA(adata, q, prior="none", **model_arguments)
    begin, cpu = time.perf_counter(), time.process_time()
    model.train(n_threads=1, seed=0, progress=False, **train_arguments)
    return model, {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}


def _data(model: PLNPCA, adata: AnnData) -> CountData:
    return model._read(adata, None).data


def _judge(model: PLNPCA, posterior: Any, adata: AnnData) -> dict[str, Any]:
    """Bounds from 2000 draws of each cell, with Monte-Carlo standard errors of their means over cells."""
    from scpln.inference import elbo, log_weights, summarize_weights
    from scpln.module import GaussianPosterior

    data, module = _data(model, adata), model.module
    n = data.n_cells
    columns: dict[str, NDArray[np.float64]] = {
        name: np.empty(n) for name in ("elbo", "iw", "iw8", "elbo_var", "iw_var", "gap_var", "ess", "khat")
    }
    for cells, w in log_weights(data, module.generative, posterior, n_samples=N_DRAWS):
        share = np.exp(w - logsumexp(w, 0)) * N_DRAWS
        columns["elbo"][cells], columns["elbo_var"][cells] = w.mean(0), w.var(0) / N_DRAWS
        columns["iw"][cells], columns["iw_var"][cells] = (
            logsumexp(w, 0) - np.log(N_DRAWS),
            share.var(0) / N_DRAWS,
        )
        columns["gap_var"][cells] = (share - w).var(0) / N_DRAWS
        columns["iw8"][cells] = (logsumexp(w.reshape(-1, 8, w.shape[1]), 1) - np.log(8)).mean(0)
        columns["ess"][cells] = 1 / np.square(share / N_DRAWS).sum(0) / N_DRAWS
        columns["khat"][cells] = summarize_weights(w[:TAIL_DRAWS], tail=True).pareto_k
    facts: dict[str, Any] = {name: float(columns[name].mean()) for name in ("elbo", "iw", "iw8", "ess", "khat")}
    facts |= {f"{name}_se": float(np.sqrt(columns[f"{name}_var"].sum()) / n) for name in ("elbo", "iw", "gap")}
    facts["khat_above_0.7"] = float((columns["khat"] > 0.7).mean())
    facts["zeros"] = float((adata.X.shape[0] * adata.X.shape[1] - adata.X.nnz) / np.prod(adata.X.shape))
    if isinstance(posterior, GaussianPosterior):
        b, c = module.coefficients.numpy(), module.loadings.numpy()
        exact = elbo(data, b, c, posterior.mean, posterior.packed_covariance, n_threads=1)
        facts |= {"elbo": float(exact.mean()), "elbo_se": 0.0, "elbo_drawn": facts["elbo"], "gap_se": facts["iw_se"]}
    if posterior.n_latent == 1:
        facts["loglik"] = float(loglik_by_quadrature(data, module.coefficients.numpy(), module.loadings.numpy()).mean())
    return facts
