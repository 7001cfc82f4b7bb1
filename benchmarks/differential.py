"""False discoveries and power of differential expression, on simulated counts and permuted conditions; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from machine import machine_facts
from report import show_facts, show_table, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

LEVEL, GENES, CHANGED, DIMENSIONS = 0.05, 330, 30, 5


@dataclass(frozen=True)
class Scenario:
    """Two groups of simulated cells.

    Parameters
    ----------
    sizes
        Cells of each group.
    depth
        Factor of the second group's size factors.
    batches
        Whether a fifth of the one group and four fifths of the other are in a second batch.
    donors
        Donors of each group, who differ; 0 for none.
    paired
        Whether the donors of both groups are the same.
    variance
        Mean variance of log-rates that comes from latent states.
    """

    sizes: tuple[int, int]
    depth: float = 1.0
    batches: bool = False
    donors: int = 0
    paired: bool = False
    variance: float = 0.3


SCENARIOS = {
    **{f"{n} and {n} cells": Scenario((n, n)) for n in (5, 20, 200)},
    "20 and 20, hardly any variation": Scenario((20, 20), variance=0.05),
    "20 and 300 cells": Scenario((20, 300)),
    **{f"{n} and {n}, depth 5×": Scenario((n, n), depth=5.0) for n in (5, 20, 200)},
    **{f"{n} and {n}, batches .2/.8": Scenario((n, n), batches=True) for n in (20, 200)},
    "4 and 4 donors of 30 cells": Scenario((120, 120), donors=4),
    "8 and 8 donors of 30 cells": Scenario((240, 240), donors=8),
    "the same 4 donors, 30 cells each": Scenario((120, 120), donors=4, paired=True),
}


def simulate(scenario: Scenario, seed: int) -> AnnData:
    """Counts of a Poisson log-normal model; ``var["effect"]`` is by how much the second group's log-rates differ."""
    import anndata as ad

    random = np.random.default_rng([seed, 7])
    group = np.repeat([0, 1], scenario.sizes)
    effect = np.zeros(GENES)
    changed = random.permutation(GENES)[:CHANGED]
    effect[changed] = np.log(random.uniform(1.7, 4, CHANGED)) * random.choice([-1, 1], CHANGED)
    loadings = random.normal(0, np.sqrt(scenario.variance / DIMENSIONS), (GENES, DIMENSIONS))
    sizes = random.normal(0, 0.3, len(group)) + np.log(scenario.depth) * group
    eta = sizes[:, None] + random.normal(0, 1.2, GENES) + random.normal(size=(len(group), DIMENSIONS)) @ loadings.T
    eta += np.outer(group, effect)
    batch = np.zeros(len(group), int)
    if scenario.batches:
        for number, share in enumerate((0.2, 0.8)):
            own = np.flatnonzero(group == number)
            batch[own[: round(share * len(own))]] = 1
        eta += np.outer(batch, random.normal(0, 0.5, GENES))
    donor = np.zeros(len(group), int)
    if scenario.donors:
        donor = np.arange(len(group)) % scenario.donors + (0 if scenario.paired else scenario.donors * group)
        eta += random.normal(0, 0.3, (donor.max() + 1, GENES))[donor]
    obs = pd.DataFrame({"group": group, "batch": batch, "donor": donor}).astype(str)
    adata = ad.AnnData(random.poisson(np.exp(eta)).astype(np.float32), obs=obs.set_index(obs.index.astype(str)))
    adata.var["effect"] = effect
    return adata[:, np.asarray((adata.X > 0).sum(0)).ravel() >= 3].copy()


def scpln_cells(adata: AnnData, scenario: Scenario, **options: Any) -> NDArray:
    """`scpln.tl.rank_genes` of cells."""
    import scpln

    keys = {"batch_key": "batch"} if scenario.batches and "model" not in options else {}
    scpln.tl.rank_genes(adata, "group", groups=["1"], reference="0", **keys, **options)
    found = adata.uns["rank_genes_groups"]
    return pd.Series(found["pvals"]["1"], found["names"]["1"])[adata.var_names].to_numpy()


def scpln_samples(adata: AnnData, scenario: Scenario) -> NDArray:
    """The same of donors."""
    return scpln_cells(adata, scenario, sample_key="donor")


def scpln_states(adata: AnnData, scenario: Scenario) -> NDArray | None:
    """The same of cells, with the latent states of a PLN-PCA held."""
    import scpln

    if sum(scenario.sizes) < 30 or (scenario.donors and not scenario.paired):
        return None
    keys = ["group", "batch"] if scenario.batches else ["group"]
    scpln.model.setup_anndata(adata, categorical_covariate_keys=keys)
    model = scpln.model.PLNPCA(adata, n_latent=DIMENSIONS)
    model.train(max_epochs=60, n_threads=1, progress=False)
    return scpln_cells(adata, scenario, model=model, adjust_for_state=True)


def scanpy_test(method: str) -> Callable[[AnnData, Scenario], NDArray]:
    """A test of scanpy, of log-normalised counts."""

    def run(adata: AnnData, scenario: Scenario) -> NDArray:
        import scanpy as sc

        logs = adata.copy()
        sc.pp.normalize_total(logs)
        sc.pp.log1p(logs)
        sc.tl.rank_genes_groups(logs, "group", groups=["1"], reference="0", method=method, tie_correct=True)
        found = logs.uns["rank_genes_groups"]
        values = pd.Series(found["pvals"]["1"], found["names"]["1"])[adata.var_names].to_numpy()
        return np.nan_to_num(values, nan=1.0)

    return run


def pydeseq2(adata: AnnData, scenario: Scenario) -> NDArray | None:
    """pyDESeq2: of sums over donors, or of up to 40 cells as if they were samples; None where it is not installed."""
    try:
        from pydeseq2.dds import DeseqDataSet
        from pydeseq2.ds import DeseqStats
    except ImportError:
        return None
    counts, obs = np.asarray(adata.X), adata.obs
    if scenario.donors:
        kinds = obs[["group", "donor"]].drop_duplicates()
        masks = [((obs["group"] == g) & (obs["donor"] == d)).to_numpy() for g, d in kinds.to_numpy()]
        counts, obs = np.array([counts[mask].sum(0) for mask in masks]), kinds
    elif len(obs) > 50:
        return None
    index = [f"s{number}" for number in range(len(obs))]
    design = "~group" + ("+batch" if scenario.batches else "") + ("+donor" if scenario.paired else "")
    data = DeseqDataSet(
        counts=pd.DataFrame(counts.astype(int), index, adata.var_names),
        metadata=obs.set_index(pd.Index(index)).astype(str),
        design=design,
        size_factors_fit_type="poscounts",
        n_cpus=1,
        quiet=True,
    )
    data.deseq2()
    stats = DeseqStats(data, contrast=["group", "1", "0"], independent_filter=False, n_cpus=1, quiet=True)
    stats.summary()
    return np.nan_to_num(stats.results_df["pvalue"].to_numpy(), nan=1.0)


METHODS: dict[str, Callable[[AnnData, Scenario], NDArray | None]] = {
    "scpln": scpln_cells,
    "scpln, sample_key": lambda adata, scenario: scpln_samples(adata, scenario) if scenario.donors else None,
    "scpln, adjust_for_state": scpln_states,
    "Wilcoxon (scanpy)": scanpy_test("wilcoxon"),
    "t test (scanpy)": scanpy_test("t-test"),
    "pyDESeq2": pydeseq2,
}


def campaign(names: list[str], n_seeds: int) -> Iterator[dict[str, Any]]:
    """P values of every method on every scenario and seed, summed up."""
    from scpln.inference.comparison import benjamini_hochberg

    for name in names:
        scenario = SCENARIOS[name]
        for seed in range(n_seeds):
            adata = simulate(scenario, seed)
            changed = adata.var["effect"].to_numpy() != 0
            for method, test in METHODS.items():
                begin = time.perf_counter()
                p_values = test(adata.copy(), scenario)
                if p_values is None:
                    continue
                called = benjamini_hochberg(p_values) <= LEVEL
                yield {
                    "scenario": name,
                    "seed": seed,
                    "method": method,
                    "false_positives": float((p_values[~changed] <= LEVEL).mean()),
                    "false_discoveries": float((called & ~changed).sum() / max(called.sum(), 1)),
                    "power": float(called[changed].sum() / changed.sum()),
                    "seconds": time.perf_counter() - begin,
                }


def show(runs: list[dict[str, Any]]) -> None:
    """A row for each scenario and method: calibrated are false discoveries up to the nominal share and two errors."""
    rows = []
    table = pd.DataFrame(runs)
    for (scenario, method), own in table.groupby(["scenario", "method"], sort=False):
        false, error = own["false_discoveries"].mean(), own["false_discoveries"].std() / len(own) ** 0.5
        rows.append(
            [
                f"{scenario}: {method}",
                len(own),
                f"{own['false_positives'].mean():.3f}",
                f"{false:.3f} ± {error:.3f}",
                bool(false <= LEVEL + 2 * error),
                f"{own['power'].mean():.2f}",
                f"{own['seconds'].mean():.2f}",
            ]
        )
    columns = ("counts: method", "seeds", "p ≤ .05", "false discoveries", "calibrated", "power", "s")
    show_table(f"Unchanged genes with p ≤ .05, false discoveries and power at a nominal {LEVEL:.0%}", columns, rows)


def permuted(folder: Path, n_seeds: int) -> list[dict[str, Any]]:
    """Genes that are called in kang_muscat, in each cell type, as it is and with conditions permuted within donors."""
    import anndata as ad

    path = folder / "kang_muscat.h5ad"
    if not path.exists():
        return []
    adata, runs = ad.read_h5ad(path), []
    for kind in adata.obs["labels"].cat.categories:
        cells = adata[adata.obs["labels"] == kind].copy()
        cells = cells[:, np.asarray((cells.X > 0).sum(0)).ravel() >= 10].copy()
        cells.X = cells.X.toarray()
        cells.obs["batch"] = cells.obs["donor"].astype(str)
        for seed in range(n_seeds + 1):
            random = np.random.default_rng(seed)
            condition = (cells.obs["condition"] == cells.obs["condition"].cat.categories[1]).to_numpy()
            for donor in cells.obs["donor"].unique() if seed else ():
                own = np.flatnonzero(cells.obs["donor"] == donor)
                condition[own] = random.permutation(condition[own])
            cells.obs["group"] = condition.astype(int).astype(str)
            runs += list(_called(cells, kind, seed))
    return runs


def _called(cells: AnnData, kind: str, seed: int) -> Iterator[dict[str, Any]]:
    from scpln.inference.comparison import benjamini_hochberg

    donors = Scenario((1, 1), donors=2, paired=True)
    scenarios = {"scpln": Scenario((1, 1), batches=True), "scpln, sample_key": donors, "pyDESeq2": donors}
    for method in ("scpln", "scpln, sample_key", "Wilcoxon (scanpy)", "t test (scanpy)", "pyDESeq2"):
        p_values = METHODS[method](cells.copy(), scenarios.get(method, Scenario((1, 1))))
        if p_values is not None:
            called = int((benjamini_hochberg(p_values) <= LEVEL).sum())
            share = float((p_values <= LEVEL).mean())
            yield {"type": kind, "seed": seed, "method": method, "called": called, "false_positives": share}


def show_permuted(runs: list[dict[str, Any]]) -> None:
    """Genes called as it is, and where nothing can be true."""
    rows = []
    for (kind, method), own in pd.DataFrame(runs).groupby(["type", "method"], sort=False):
        null = own[own["seed"] > 0]
        some, n = (null["called"] > 0).mean(), len(null)
        calls = f"{null['called'].mean():.2f}"
        row = [f"{kind}: {method}", int(own["called"].iloc[0]), f"{null['false_positives'].mean():.3f}", calls]
        rows.append([*row, f"{some:.2f} ± {(some * (1 - some) / n) ** 0.5:.2f}"])
    columns = ("kang_muscat: method", "called", "permuted: p ≤ .05", "called, mean", "any called")
    show_table("Stimulated against control cells, and with conditions permuted within donors", columns, rows)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="sets of counts of each scenario, and permutations")
    parser.add_argument("--scenarios", nargs="*", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--data", type=Path, help="folder with kang_muscat.h5ad")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="two seeds of the smallest scenarios")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    import logging

    logging.getLogger("scpln").setLevel(logging.ERROR)
    facts = machine_facts(1)
    show_facts(facts)
    names, seeds = (list(SCENARIOS)[:2], 2) if args.quick else (args.scenarios, args.seeds)
    runs = []
    for name in names:
        runs += list(campaign([name], seeds))
        print(f"{name}: done", flush=True)
    if runs:
        show(runs)
    kang = permuted(args.data, seeds) if args.data else []
    if kang:
        show_permuted(kang)
    write_json(args.out / "differential.json", {"machine": facts, "runs": runs, "kang_muscat": kang})


if __name__ == "__main__":
    main()
