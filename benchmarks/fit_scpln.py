"""One scpln PLN-PCA fit in a fresh process: the solver on the same arrays as the peer's."""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from data import CountSet
from measure import measured

from scpln.inference import CountData, fit

if TYPE_CHECKING:
    from scpln.inference import FitResult


def main() -> None:
    """Fit, then write the parameters as `.npz` and the cost as `.json` beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--posterior", choices=["fullrank", "meanfield"], required=True)
    parser.add_argument("--n-latent", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-iter", type=int)
    parser.add_argument("--tol", type=float)
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in ("max_iter", "tol") if getattr(args, name) is not None}

    def solve(counts: sp.csr_matrix, offsets: np.ndarray, n_latent: int) -> FitResult:
        data = CountData(counts=counts, offsets=offsets, design=np.ones((counts.shape[0], 1)))
        return fit(data, n_latent, posterior=args.posterior, seed=args.seed, n_threads=args.threads, **given)

    start = time.perf_counter()
    tiny = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (60, 20)).astype(np.int32))
    solve(tiny, np.zeros(60), 2)
    first_call = time.perf_counter() - start

    data = CountSet.load(args.data)
    result, cost = measured(lambda: solve(data.counts, data.offsets, args.n_latent))

    np.savez(
        args.out,
        coefficients=result.coefficients,
        loadings=result.loadings,
        mean=result.mean,
        variance=result.covariance,
    )
    facts = {
        **cost,
        "first_call_seconds": first_call,
        "n_iter": len(result.history["elbo"]),
        "own_bound": float(np.mean(result.elbo)),
        "converged": result.converged,
        "reason": result.reason,
        "history": {key: [float(x) for x in values] for key, values in result.history.items()},
        "versions": {name: version(name) for name in ("scpln", "numpy", "scipy")},
    }
    args.out.with_suffix(".json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
