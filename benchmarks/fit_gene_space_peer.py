"""One pyPLNmodels fit in gene space in a fresh process, run with the interpreter of the peer's own environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from gene_space_sets import GeneSpaceSet
from measure import measured


def main() -> None:
    """Fit with the peer's defaults, then write posteriors as `.npz` and the cost as `.json` beside it."""
    import pyPLNmodels

    path, out, kind, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    data = GeneSpaceSet.load(Path(path))

    def fit(counts: np.ndarray, offsets: np.ndarray):
        torch.manual_seed(0)
        return getattr(pyPLNmodels, kind)(counts, offsets=offsets).fit()

    fit(np.random.default_rng(0).poisson(3.0, (20, 3)).astype(float), np.zeros((20, 3)))
    model, cost = measured(lambda: fit(data.counts, data.offsets))
    mean, variance = (getattr(model, name).numpy() for name in ("latent_mean", "latent_variance"))
    np.savez(out, mean=mean, variance=variance)
    Path(out).with_suffix(".json").write_text(json.dumps(cost))


if __name__ == "__main__":
    main()
