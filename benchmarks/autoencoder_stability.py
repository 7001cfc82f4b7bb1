"""How many steps of training were not finite, over seeds and likelihoods."""

from __future__ import annotations

import warnings
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from autoencoder_data import read

if TYPE_CHECKING:
    from pathlib import Path

MODELS: dict[str, dict[str, Any]] = {"CountVAE": {}, "CountGMVAE": {"n_components": 9}}
LIKELIHOODS = ("poisson", "nb", "zip", "zinb")
SEEDS, EPOCHS, CELLS = 20, 10, 500
#: Where training starts, by turns: the usual start is close to a solution, the other is not.
STARTS = ("plnpca", "random")


def stability(path: Path) -> list[dict[str, Any]]:
    """Train every model with every likelihood from twenty seeds, briefly, and print how often it was not finite."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cells = read(path.stem, path.parent)
    cells = cells[np.linspace(0, cells.n_obs - 1, CELLS).astype(int)].copy()
    runs = []
    print("| model | likelihood | seeds | steps | skipped | stopped | bounds not finite | lowest to highest bound |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, arguments), likelihood in product(MODELS.items(), LIKELIHOODS):
        own = [_train(name, cells, seed, likelihood=likelihood, **arguments) for seed in range(SEEDS)]
        runs += own
        bounds = np.array([run["elbo"] for run in own], dtype=float)
        cell = [name, likelihood, SEEDS, *(sum(r[key] for r in own) for key in ("n_steps", "n_skipped", "stopped"))]
        cell += [int((~np.isfinite(bounds)).sum()), f"{np.nanmin(bounds):.1f} … {np.nanmax(bounds):.1f}"]
        print("| " + " | ".join(map(str, cell)) + " |", flush=True)
    return runs


def _train(name: str, cells: Any, seed: int, **arguments: Any) -> dict[str, Any]:
    import scpln

    adata = cells.copy()
    scpln.model.setup_anndata(adata)
    model = getattr(scpln.model, name)(adata, n_latent=10, **arguments)
    start, stopped = STARTS[seed % len(STARTS)], False
    try:
        model.train(EPOCHS, early_stopping=False, start=start, n_threads=1, progress=False, seed=seed)
    except FloatingPointError:
        stopped = True
    outcome = model.training_ if model.is_trained_ else {"n_steps": 0, "n_skipped": 0, "elbo": float("nan")}
    facts = {key: outcome[key] for key in ("n_steps", "n_skipped", "elbo")}
    return {"model": name, "seed": seed, "start": start, "stopped": stopped} | facts | arguments
