"""The methods of the autoencoder comparison: what each is made with, and what it gives back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from autoencoder_data import Split
    from numpy.typing import NDArray

N_LATENT, N_DRAWS = 10, 500


@dataclass
class Fitted:
    """A method after training: functions of cells, and what training cost."""

    latent: Callable[[AnnData], NDArray[np.float64]]
    #: ELBO and importance-weighted bound, nats, the mean over cells, given their total counts.
    bounds: Callable[[AnnData], dict[str, float]] | None = None
    #: Clusters of a method that has its own.
    clusters: Callable[[AnnData], NDArray] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def fit_pca(cells: Split) -> Fitted:
    """Principal components of log-normalised counts of the training cells, with scanpy; the others are projected."""
    import scanpy as sc

    def normalized(adata: AnnData) -> AnnData:
        adata = adata.copy()
        sc.pp.normalize_total(adata, target_sum=target)
        sc.pp.log1p(adata)
        return adata

    train = cells.train
    target = float(np.median(np.asarray(train.X.sum(1))))
    clock = _Clock()
    train = normalized(train)
    sc.pp.pca(train, n_comps=N_LATENT, random_state=cells.seed)
    facts = clock.facts()
    mean, axes = np.asarray(train.X.mean(0)), train.varm["PCs"]
    return Fitted(lambda adata: np.asarray(normalized(adata).X @ axes - mean @ axes), facts=facts)


def fit_plnpca(cells: Split, *, likelihood: str) -> Fitted:
    """PLN-PCA with its defaults."""
    model = _registered("PLNPCA", cells.train, cells.batch_key, N_LATENT, likelihood=likelihood)
    clock = _Clock()
    model.train(seed=cells.seed, n_threads=1, progress=False)
    facts = clock.facts(epochs=len(next(iter(model.history_.values()))), reason=model.stop_reason)
    return Fitted(model.get_latent_representation, partial(_own_bounds, model), facts=facts)


def fit_autoencoder(
    cells: Split, name: str, *, components: str | None = None, train: Any = None, **arguments: Any
) -> Fitted:
    """A `CountVAE` or `CountGMVAE`: as many components as there are labels, or as many as the model chooses."""
    if components == "labels":
        arguments["n_components"] = cells.n_labels
    model = _registered(name, cells.train, cells.batch_key, n_latent=N_LATENT, **arguments)
    clock = _Clock()
    model.train(seed=cells.seed, n_threads=1, progress=False, **(train or {}))
    known = {key: model.training_[key] for key in ("n_steps", "n_skipped", "best_epoch")}
    facts = clock.facts(epochs=model.training_["n_epochs"], reason=model.stop_reason, **known)
    clusters = model.predict if components else None
    return Fitted(model.get_latent_representation, partial(_own_bounds, model), clusters, facts)


def fit_scvi(cells: Split, **plan: Any) -> Fitted:
    """SCVI with a negative binomial likelihood and the total counts as library sizes, which is its default."""
    import scvi
    from autoencoder_scvi_bound import scvi_bounds

    scvi.settings.seed = cells.seed
    train = cells.train
    scvi.model.SCVI.setup_anndata(train, batch_key=cells.batch_key)
    model = scvi.model.SCVI(train, n_latent=N_LATENT, n_hidden=128, n_layers=1, gene_likelihood="nb")
    clock = _Clock()
    model.train(early_stopping=True, enable_progress_bar=False, accelerator="cpu", plan_kwargs=plan)
    facts = clock.facts(epochs=int(model.trainer.current_epoch))

    def bounds(adata: AnnData) -> dict[str, float]:
        both = scvi_bounds(model, adata, n_samples=N_DRAWS, seed=cells.seed)
        return {key: float(values.mean()) for key, values in both.items()}

    return Fitted(model.get_latent_representation, bounds, facts=facts)


#: Every method. To compare another one, or another setting, add it here.
METHODS: dict[str, Callable[[Split], Fitted]] = {
    "pca": fit_pca,
    "plnpca": partial(fit_plnpca, likelihood="poisson"),
    "plnpca_nb": partial(fit_plnpca, likelihood="nb"),
    "scvi": fit_scvi,
    "scvi_warm": partial(fit_scvi, n_epochs_kl_warmup=30),
    "vae": partial(fit_autoencoder, name="CountVAE", likelihood="nb"),
    "gmvae": partial(fit_autoencoder, name="CountGMVAE", components="labels", likelihood="nb"),
    "gmvae_auto": partial(fit_autoencoder, name="CountGMVAE", components="chosen", likelihood="nb"),
}


class _Clock:
    """Seconds since it was made, on the wall and of the processor."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def facts(self, **more: Any) -> dict[str, Any]:
        return {"seconds": time.perf_counter() - self._wall, "cpu_seconds": time.process_time() - self._cpu, **more}


def _registered(name: str, train: AnnData, batch_key: str | None, *args: Any, **kwargs: Any):
    """A scpln model of the training cells."""
    import scpln

    scpln.model.setup_anndata(train, batch_key=batch_key)
    return getattr(scpln.model, name)(train, *args, **kwargs)


def _own_bounds(model, adata: AnnData) -> dict[str, float]:
    return {"elbo": float(model.get_elbo(adata)), "iw": float(model.get_iw_bound(adata, n_samples=N_DRAWS))}
