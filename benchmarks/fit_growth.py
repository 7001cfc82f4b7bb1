"""One `PLNPCA.train` on an `.h5ad`, in memory or backed, in a fresh process: what a user's own script would cost."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
from data import N_LATENT
from measure import measured

import scpln


def train(adata: ad.AnnData, n_latent: int, threads: int) -> scpln.model.PLNPCA:
    """Register, validate and fit: all that a user waits for after reading the file."""
    scpln.model.setup_anndata(adata)
    model = scpln.model.PLNPCA(adata, n_latent=n_latent, prior="none")
    model.train(seed=0, n_threads=threads, progress=False)
    return model


def main() -> None:
    """Fit, and print what it cost as one line of JSON."""
    path, place, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    start = time.perf_counter()
    train(ad.AnnData(np.random.default_rng(0).poisson(1.0, (60, 20)).astype(np.float32)), 2, threads)
    first_call = time.perf_counter() - start

    adata = ad.read_h5ad(path, backed="r" if place == "disk" else None)
    model, cost = measured(lambda: train(adata, N_LATENT, threads))
    with h5py.File(path) as f:
        nonzero = f["X/data"].size / np.prod(adata.shape)
    facts = {
        **cost,
        "first_call_seconds": first_call,
        "n_iter": len(model.history["elbo"]),
        "bound": float(np.asarray(model.history["elbo"])[-1].item()),
        "nonzero": float(nonzero),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
