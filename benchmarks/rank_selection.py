"""Which rank each rule chooses, and what a path of ranks takes: `python benchmarks/rank_selection.py [--data FOLDER] [--out FILE.csv]`.

On counts simulated with a known rank (q = 3, 5, 10, several numbers of cells and depths), and, with ``--data``, on the 1,000 genes
that most cells have of each .h5ad in a folder that is named here. For each: the rank by thinning, BIC and ICL, and the seconds of the whole
path (both halves of it, and the final fit) over those of one fit of the largest rank from scratch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scpln.inference.ranks import choose
from scpln.model import PLNPCA, setup_anndata
from scpln.tl import select_rank

SETS = ("pbmc_facs", "pbmc3k", "kang_muscat")
N_GENES = 1000


def simulated(n: int, p: int, q: int, depth: float, seed: int) -> ad.AnnData:
    """Counts of PLN-PCA, whose axes explain variances that fall by a factor of 3, with known size factors."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(p, q)) * 0.6 * np.geomspace(1, 3**-0.5, q)
    log_rates = rng.normal(size=p) + rng.normal(size=(n, q)) @ loadings.T
    rates = np.exp(log_rates)
    sizes = np.exp(rng.normal(0, 0.3, size=n))
    counts = rng.poisson(rates * sizes[:, None] * depth / rates.sum(1).mean())
    adata = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)))
    adata.obs["size"] = sizes
    return adata


def real(path: Path) -> ad.AnnData:
    """The genes that most cells have, with the totals of all genes as size factors; at most 10,000 cells."""
    adata = ad.read_h5ad(path)
    counts = sp.csr_matrix(adata.layers.get("counts", adata.X)).astype(np.float32)
    if counts.shape[0] > 10_000:
        counts = counts[np.sort(np.random.default_rng(0).choice(counts.shape[0], 10_000, replace=False))]
    total = np.asarray(counts.sum(1)).ravel()
    genes = np.sort(np.argsort(-np.asarray((counts > 0).sum(0)).ravel())[:N_GENES])
    result = ad.AnnData(counts[total > 0][:, genes])
    result.obs["size"] = total[total > 0]
    return result


def study(name: str, adata: ad.AnnData, ranks: range, n_threads: int, **known: object) -> dict[str, object]:
    """A path, and one fit of its largest rank."""
    setup_anndata(adata, size_factor_key="size")
    model = PLNPCA(adata, ranks[-1], prior="none")
    started = time.process_time()
    model.train(progress=False, n_threads=n_threads)
    largest = time.process_time() - started
    seconds = {}
    for criterion in ("thinning", "bic"):
        started = time.process_time()
        found = select_rank(
            adata, ranks, criterion=criterion, size_factor_key="size", n_threads=n_threads, progress=False
        )
        seconds[criterion] = (time.process_time() - started) / largest
        if criterion == "thinning":
            table = found.table
    row = {"data": name, **known, "cells": adata.n_obs, "genes": adata.n_vars, "ranks": f"{ranks[0]}-{ranks[-1]}"}
    row |= {"thinning": choose(table, "thinning"), "one_se": choose(table, "thinning", one_se=True)}
    row |= {"bic": choose(table, "bic"), "icl": choose(table, "icl")}
    row |= {"largest fit, s": largest, "path with thinning": seconds["thinning"], "path": seconds["bic"]}
    print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row


def main() -> None:
    """Run all, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with pbmc_facs.h5ad, pbmc3k.h5ad, kang_muscat.h5ad")
    parser.add_argument("--out", type=Path, default=Path("rank_selection.csv"))
    parser.add_argument("--n-threads", type=int, default=1)
    args = parser.parse_args()
    rows = []
    for q in (3, 5, 10):
        for n in (200, 500, 2000):
            for depth in (100, 500):
                ranks = range(max(1, q - 4), q + 6) if q == 10 else range(1, 11)
                adata = simulated(n, 200, q, depth, seed=q)
                rows.append(study("simulated", adata, ranks, args.n_threads, rank=q, depth=depth))
                pd.DataFrame(rows).to_csv(args.out, index=False)
    for name in SETS if args.data is not None else ():
        rows.append(study(name, real(args.data / f"{name}.h5ad"), range(1, 11), args.n_threads))
        pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
