"""Cell types by sample, on real counts: what tests, trees and classifiers can say of few samples; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from composition_classifiers import classify_cells, classify_samples, classify_studies
from composition_report import draw, table
from composition_tests import FALSE_DISCOVERY, METHODS, case_truth
from resume import Job, run_missing

import scpln

#: What is halved in eight of sixteen libraries: nothing, one type, or all types of a subclass.
CHANGES: dict[str, list[str]] = {
    "nothing": [],
    "L2/3 IT": ["L2/3 IT"],
    "Pvalb Reln": ["Pvalb Reln"],
    "Vip Chat": ["Vip Chat"],
    "subclass Pvalb": ["subclass"],
}
#: Where tests look: at types, or at their subclasses.
LEVELS = ("type", "subclass")


def lineage(label: str) -> tuple[str, str]:
    """Class and subclass of a type of the motor cortex, from its name."""
    found = re.match(r"L2/3 IT|L6 IT Car3|L\d (?:IT|ET|NP|CT)|[A-Za-z0-9]+", label)
    assert found is not None
    subclass = re.sub(r"L\d NP", "L5/6 NP", found[0])
    if re.match(r"L\d", label):
        return "glutamatergic", subclass
    return ("GABAergic" if subclass in ("Lamp5", "Pvalb", "Sst", "Vip") else "non-neuronal"), subclass


def cortex(folder: Path) -> ad.AnnData:
    """Libraries × types of mouse motor cortex."""
    cells = ad.read_h5ad(folder / "brain_mop_dot.h5ad")
    labels = cells.obs["labels"].astype(str)
    cells.obs["class"], cells.obs["subclass"] = zip(*labels.map(lineage), strict=True)
    cells.obs["type"] = labels
    return scpln.tl.composition(cells, "batch", ["class", "subclass", "type"])


def halved(counts: ad.AnnData, change: str, seed: int) -> ad.AnnData:
    """Half of the libraries as cases, in which each cell of the changed types is kept with probability 1/2."""
    random = np.random.default_rng(seed)
    found = counts.copy()
    is_case = random.permutation(counts.n_obs) < counts.n_obs // 2
    values = counts.X.toarray()
    of_subclass = CHANGES[change] == ["subclass"]
    names = (
        counts.var_names[counts.var["subclass"] == change.removeprefix("subclass ")] if of_subclass else CHANGES[change]
    )
    changed = counts.var_names.isin(names)
    some = np.ix_(is_case, changed)
    values[some] = random.binomial(values[some].astype(int), 0.5)
    found.X = values
    found.obs["condition"] = pd.Categorical(np.where(is_case, "case", "control"), ["control", "case"])
    found.obs["n_cells"] = values.sum(1)
    found.var["changed"] = changed
    return found


def at_level(counts: ad.AnnData, level: str) -> ad.AnnData:
    """The table itself, or that of its subclasses."""
    if level == "type":
        return counts
    groups = counts.var["subclass"].astype(str)
    sums = counts.to_df().T.groupby(groups.to_numpy()).sum().T
    found = ad.AnnData(sums, obs=counts.obs)
    found.var["changed"] = counts.var["changed"].groupby(groups.to_numpy()).all().reindex(found.var_names)
    return found


def run(job: Job) -> dict[str, Any]:
    """Test one set of counts by one method: what is called, and how far off the effect of what was halved is."""
    logging.getLogger("scpln").setLevel(logging.WARNING)
    counts = at_level(halved(cortex(Path(job["data"])), job["change"], job["seed"]), job["level"])
    found = METHODS[job["method"]](counts)
    changed = counts.var["changed"].to_numpy(bool)
    truth = case_truth(counts, changed, centred=job["method"] != "PLN")
    called = found["p_adjusted"].to_numpy() < FALSE_DISCOVERY
    error = (found["effect"] - truth).to_numpy()
    inside = np.abs(error) <= found["half_width"].to_numpy()
    return {
        "p_small": float((found["p"][~changed] <= 0.05).mean()),
        "called": float(called[changed].mean()) if changed.any() else None,
        "others": float(called[~changed].mean()),
        "any": bool(called[~changed].any()),
        "bias": float(error[changed].mean()) if changed.any() else None,
        "inside": float(inside[changed].mean()) if changed.any() else float(inside.mean()),
    }


def report_tests(results: list[dict[str, Any]]) -> None:
    """Print what each method finds where something was halved, and where nothing was."""
    rows = []
    for level in LEVELS:
        for change in CHANGES:
            for method in METHODS:
                job = {"level": level, "change": change, "method": method}
                some = [r for r in results if all(r["job"][key] == value for key, value in job.items())]
                if some:
                    mean = {
                        key: np.mean([r[key] for r in some if r[key] is not None] or [np.nan])
                        for key in some[0]
                        if key != "job"
                    }
                    rows.append(
                        [
                            level,
                            change,
                            method,
                            len(some),
                            *(float(mean[key]) for key in ("p_small", "called", "others", "any", "inside", "bias")),
                        ]
                    )
    heads = (
        "level",
        "halved",
        "method",
        "sets",
        "p ≤ .05 of others",
        "found",
        "others called",
        "any other called",
        "intervals at 95 % that hold",
        "bias",
    )
    table(heads, rows)


def jobs(args: argparse.Namespace) -> list[Job]:
    """All tests, sets of counts first."""
    return [
        {"data": str(args.data), "seed": seed, "level": level, "change": change, "method": method}
        for seed in range(args.sets)
        for change in CHANGES
        for level in LEVELS
        if level == "type" or change in ("nothing", "subclass Pvalb")
        for method in METHODS
    ]


def main() -> None:
    """Run what the results lack, then print the tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with kang_muscat.h5ad and brain_mop_dot.h5ad")
    parser.add_argument("--studies", type=Path, help="plntree/data/cMD of the unpacked wheel of plntree 0.1.0")
    parser.add_argument("--sets", type=int, default=100, help="sets of counts of each kind (default %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=("tests", "figure", "samples", "cells", "studies"), default=None)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/composition"), help="folder of results")
    args = parser.parse_args()
    logging.getLogger("scpln").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    parts = args.parts or ["tests", "figure", "samples", "cells", *(["studies"] if args.studies else [])]
    if "tests" in parts:
        report_tests(run_missing(jobs(args), run, args.out / "results.jsonl", args.jobs))
    if "figure" in parts:
        draw(halved(cortex(args.data), "subclass Pvalb", 0), args.out)
    if "samples" in parts:
        classify_samples(cortex(args.data), halved, args.sets)
    if "cells" in parts:
        classify_cells(ad.read_h5ad(args.data / "kang_muscat.h5ad"))
    if "studies" in parts:
        classify_studies(args.studies)


if __name__ == "__main__":
    main()
