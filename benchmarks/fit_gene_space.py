"""One fit of scpln in gene space in a fresh process: prints its bound and cost as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from gene_space_sets import GeneSpaceSet, profiled_bound
from measure import measured


def main() -> None:
    """Fit once to little, which loads what is loaded late, then to the data."""
    from scpln.inference import CountData, fit_pln
    from scpln.module.covariances import COVARIANCES

    path, covariance, posterior, threads = sys.argv[1:]
    data = GeneSpaceSet.load(Path(path))

    def fit(counts: np.ndarray, offsets: np.ndarray):
        genes = counts.shape[1]
        shared = bool((offsets == offsets[:, :1]).all())
        groups = {} if shared else {"groups": np.arange(genes)}
        given = CountData(counts, offsets[:, 0] if shared else offsets, np.ones((len(counts), 1)), **groups)
        return fit_pln(given, COVARIANCES[covariance](genes), posterior=posterior, n_threads=int(threads))

    fit(np.random.default_rng(0).poisson(1.0, (20, 3)).astype(float), np.zeros((20, 3)))
    result, cost = measured(lambda: fit(data.counts, data.offsets))
    bound = float(result.elbo.sum())
    if posterior == "meanfield":
        bound = profiled_bound(data, result.mean, result.variance, diagonal=covariance == "diagonal")
    print(json.dumps({"bound": bound, **cost, "n_iter": len(result.history["elbo"]), "reason": result.reason}))


if __name__ == "__main__":
    main()
