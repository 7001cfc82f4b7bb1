"""Gut studies of curatedMetagenomicData, as the wheel of plntree has them; see benchmarks/README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

#: Counts of each sample, the share of samples that a taxon is in, and the seed of the counts.
DEPTH, PREVALENCE, SEED = 10_000, 0.15, 0
RANKS = {"genus": 6, "species": 7}
#: Studies, and what is told from others in them.
CASES = {
    "KosticAD_2015": "T1D",
    "WirbelJ_2018": "CRC",
    "ZellerG_2014": "CRC",
    "ZhuF_2020": "schizofrenia",
    "QinJ_2012": "T2D",
    "NielsenHB_2014": "IBD",
    "YachidaS_2019": "CRC",
}


def read_study(folder: Path, study: str, rank: str) -> ad.AnnData:
    """Counts of bacteria, from relative abundances by multinomial draws; columns are named "p__…|c__…|…", from phylum to rank."""
    table = pd.read_csv(folder / "studies" / f"{study}_species_abundance.csv", index_col=0).astype(float)
    table = table.loc[:, [name.startswith("k__Bacteria") and "s__" in name for name in table]]
    lineages = ["|".join(name.split("|")[1 : RANKS[rank]]) for name in table]
    table = table.T.groupby(lineages, sort=False).sum().T
    table = table.loc[:, (table > 0).mean() >= PREVALENCE]
    random, shares = np.random.default_rng(SEED), table.to_numpy()
    counts = random.multinomial(DEPTH, shares / shares.sum(1, keepdims=True))
    seen = counts.sum(0) > 0
    adata = ad.AnnData(counts[:, seen].astype(np.float32))
    adata.var_names, adata.obs_names = table.columns[seen], table.index.astype(str)
    known = pd.read_csv(folder / "metadata.csv", dtype=str)
    known = known[known["study_name"] == study].set_index("sample_id")
    adata.obs["disease"] = known["disease"].reindex(adata.obs_names).fillna("").to_numpy()
    adata.obs["one"] = 1.0
    return adata


def is_case(adata: ad.AnnData, study: str) -> np.ndarray:
    """Whether samples are of those that are told from others."""
    return adata.obs["disease"].str.split(";").map(lambda names: CASES[study] in names).to_numpy()


def parts(n_samples: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Three quarters of samples, and the others."""
    order = np.random.default_rng(seed).permutation(n_samples)
    n_train = round(0.75 * n_samples)
    return np.sort(order[:n_train]), np.sort(order[n_train:])
