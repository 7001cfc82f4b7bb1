"""The methods of the usefulness comparison: what each is made with, and what it gives back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from usefulness_data import TOTAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from autoencoder_data import Split
    from numpy.typing import NDArray


@dataclass
class Fitted:
    """A method after training."""

    #: Its latent spaces by their names, each (n, q).
    spaces: Callable[[], dict[str, NDArray[np.float64]]]
    #: Clusters of the cells that it was trained on, of a method that has its own.
    clusters: Callable[[], NDArray] | None = None
    #: A scpln model.
    model: Any = None
    facts: dict[str, Any] = field(default_factory=dict)


def normalized(cells: AnnData) -> AnnData:
    """A copy with the logs of counts per typical total, with totals over all genes."""
    import scanpy as sc

    cells = cells.copy()
    totals = cells.obs[TOTAL].to_numpy()
    cells.X = cells.X.multiply((np.median(totals) / totals)[:, None]).tocsr().astype(np.float32)
    sc.pp.log1p(cells)
    return cells


def fit_pca(cells: AnnData, _split: Split, n_latent: int, seed: int, *, residuals: bool = False) -> Fitted:
    """scanpy's principal components of log-normalised counts or of Pearson residuals."""
    import scanpy as sc

    begin = time.process_time()
    if residuals:
        cells = cells.copy()
        sc.experimental.pp.normalize_pearson_residuals(cells)
    else:
        cells = normalized(cells)
    sc.pp.pca(cells, n_comps=n_latent, random_state=seed, mask_var=None)
    return Fitted(lambda: {"": cells.obsm["X_pca"]}, facts={"cpu_seconds": time.process_time() - begin})


def fit_plnpca(
    cells: AnnData, split: Split, n_latent: int, seed: int, *, components: str | None = None, **arguments: Any
) -> Fitted:
    """PLN-PCA; of a mixture, as many components as there are labels, or as many as it chooses."""
    if components:
        arguments["n_components"] = split.n_labels if components == "labels" else None
    model, facts = _trained("PLNPCA", cells, split, n_latent, seed, arguments)
    loadings = model.get_loadings().to_numpy()
    facts |= {"kept": model.n_latent_kept, "largest_loading": float(np.abs(loadings).max())}

    def spaces() -> dict[str, NDArray[np.float64]]:
        return {space: model.get_latent_representation(space=space) for space in ("state", "expression")}

    return Fitted(spaces, model.predict if components else None, model, facts)


def fit_autoencoder(
    cells: AnnData,
    split: Split,
    n_latent: int,
    seed: int,
    *,
    name: str,
    components: str | None = None,
    **arguments: Any,
) -> Fitted:
    """A `CountVAE` or `CountGMVAE` with its defaults."""
    if components == "labels":
        arguments["n_components"] = split.n_labels
    model, facts = _trained(name, cells, split, n_latent, seed, arguments)
    return Fitted(lambda: {"": model.get_latent_representation()}, model.predict if components else None, model, facts)


def fit_scvi(cells: AnnData, split: Split, n_latent: int, seed: int) -> Fitted:
    """SCVI with its defaults, a negative binomial likelihood and early stopping."""
    import scvi

    scvi.settings.seed = seed
    cells = cells.copy()
    scvi.model.SCVI.setup_anndata(cells, batch_key=split.batch_key)
    model = scvi.model.SCVI(cells, n_latent=n_latent, gene_likelihood="nb")
    begin = time.process_time()
    model.train(early_stopping=True, enable_progress_bar=False, accelerator="cpu")
    facts = {"cpu_seconds": time.process_time() - begin, "iterations": int(model.trainer.current_epoch)}
    return Fitted(lambda: {"": model.get_latent_representation()}, facts=facts)


def _trained(
    name: str, cells: AnnData, split: Split, n_latent: int, seed: int, arguments: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """A trained scpln model, and what training took."""
    import scpln

    cells = cells.copy()
    scpln.model.setup_anndata(cells, size_factor_key=TOTAL, batch_key=split.batch_key)
    model = getattr(scpln.model, name)(cells, n_latent=n_latent, **arguments)
    begin = time.process_time()
    model.train(seed=seed, n_threads=1, progress=False)
    facts = {"cpu_seconds": time.process_time() - begin, "reason": model.stop_reason}
    facts["iterations"] = len(next(iter(model.history_.values())))
    if arguments.keys() & {"n_components"} or name == "CountGMVAE":
        facts["n_components"] = model.n_components
    return model, facts


#: Every method. To compare another one, or another setting, add it here.
METHODS: dict[str, Callable[..., Fitted]] = {
    "PCA": fit_pca,
    "PCA, Pearson residuals": partial(fit_pca, residuals=True),
    "PLN-PCA, none": partial(fit_plnpca, prior="none"),
    "PLN-PCA, learned": fit_plnpca,
    "PLN-PCA, learned, NB": partial(fit_plnpca, likelihood="nb"),
    "PLN-PCA, mixture": partial(fit_plnpca, components="labels"),
    "PLN-PCA, mixture, K chosen": partial(fit_plnpca, components="chosen"),
    "CountVAE": partial(fit_autoencoder, name="CountVAE", likelihood="nb"),
    "CountGMVAE": partial(fit_autoencoder, name="CountGMVAE", components="labels"),
    "CountGMVAE, K chosen": partial(fit_autoencoder, name="CountGMVAE", components="chosen"),
    "SCVI": fit_scvi,
}
#: Methods that have bounds here. SCVI's are conditional on other totals; see `autoencoder_clusters.py`.
BOUNDED = tuple(name for name in METHODS if not name.startswith(("PCA", "SCVI")))
