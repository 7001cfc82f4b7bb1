"""One pyPLNmodels PlnPCA fit in a fresh process, run with the interpreter of the peer's own environment."""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from data import CountSet
from measure import measured


def fit(counts: np.ndarray, offsets: np.ndarray, n_latent: int, seed: int, **options: float):
    """Fit with the peer's defaults, from dense counts as it wants them; its constructor adds the intercept."""
    from pyPLNmodels import PlnPCA

    torch.manual_seed(seed)  # it takes no seed of its own
    np.random.seed(seed)  # noqa: NPY002
    model = PlnPCA(counts, offsets=offsets, rank=n_latent)
    return model.fit(**options)


def main() -> None:
    """Fit, then write the parameters as `.npz` and the cost as `.json` beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n-latent", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-iter", type=int)
    parser.add_argument("--tol", type=float)
    args = parser.parse_args()
    given = {name: x for name, x in (("maxiter", args.max_iter), ("tol", args.tol)) if x is not None}

    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    fit(rng.poisson(1.0, (60, 20)), np.zeros((60, 20)), 2, 0)
    first_call = time.perf_counter() - start

    data = CountSet.load(args.data)
    counts = data.counts.toarray()
    offsets = np.repeat(data.offsets[:, None], counts.shape[1], axis=1)
    model, cost = measured(lambda: fit(counts, offsets, args.n_latent, args.seed, **given))

    np.savez(
        args.out,
        coefficients=model.coef.numpy().T,
        loadings=model.components.numpy(),
        mean=model.latent_mean.numpy(),
        variance=model.latent_variance.numpy(),
    )
    facts = {
        **cost,
        "first_call_seconds": first_call,
        "n_iter": int(model._elbo_criterion_monitor.iteration_number),
        "own_bound": float(model.elbo) / counts.shape[0],
        "versions": {name: version(name) for name in ("pyPLNmodels", "torch", "numpy", "setuptools")},
    }
    args.out.with_suffix(".json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
