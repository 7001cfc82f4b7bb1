"""Queries of another composition than their reference, and of types that it does not know.

    python benchmarks/query_composition.py --data DIR [--quick]

**Compositions.** The reference is some batches of a set (of one without batches, half of the cells), the query another one: in the same
proportions, with one type, with two types, and with 30 cells of one type; as it is, and with rates of genes multiplied by random factors,
whose logarithms have a standard deviation of 0.3 or 0.7. Scores are percentages of the query's cells whose label is that of most of their
15 nearest neighbours in the reference's latent space: with the average of the known batches' coefficients, mapped with N(0, I) as the
prior of states, and mapped as by default.

**Unknown types.** `CountGMVAE` is trained with labels, on cells of all types but one. Which share of that type's cells, and of held-out
cells of the others, does ``predict(reject=0.05)`` refuse?
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import KNeighborsClassifier

import scpln

N_GENES, N_REFERENCE, N_QUERY, N_TYPE = 800, 2_000, 800, 400
UNSEEN = {
    "pbmc3k": ["B", "NK", "FCGR3A+ Mono"],
    "pbmc_facs": ["CD19+ B", "CD56+ NK", "CD34+"],
    "kang_muscat": ["B cells", "CD14+ Monocytes", "FCGR3A+ Monocytes"],
}


@dataclass
class Query:
    """A set, the column of its batches, and those of the query and of the reference."""

    name: str
    query: list[str]
    reference: list[str] | None = None


QUERIES = {
    "sc_mixology: dropseq": Query("sc_mixology_5batch", ["dropseq_3cl"]),
    "kang: one of two stimulated": Query("kang_muscat", ["stim107"]),
    "kang: both stimulated": Query("kang_muscat", ["stim101", "stim107"]),
    "brain: three libraries": Query(
        "brain_mop_dot", ["lib7", "lib8", "lib9"], ["lib1", "lib10", "lib11", "lib12", "lib13", "lib14"]
    ),
    "pbmc_facs: a random half": Query("pbmc_facs", ["half"]),
}


def read(path: Path, seed: int = 0) -> ad.AnnData:
    """Cells with a label, and their batches: two random halves where there are none."""
    adata = ad.read_h5ad(path)
    adata = adata[adata.obs["labels"].astype(str) != "unassigned"].copy()
    adata.obs["label"] = adata.obs["labels"].astype(str)
    if "batch" not in adata.obs:
        adata.obs["batch"] = np.where(np.random.default_rng(seed).random(adata.n_obs) < 0.5, "half", "other")
    adata.obs["batch"] = adata.obs["batch"].astype(str)
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    adata.obs = adata.obs[["label", "batch"]]
    return adata


def some(adata: ad.AnnData, n: int, seed: int = 0) -> ad.AnnData:
    """At most so many cells, in their order."""
    if adata.n_obs <= n:
        return adata.copy()
    return adata[np.sort(np.random.default_rng(seed).choice(adata.n_obs, n, replace=False))].copy()


def variable_genes(adata: ad.AnnData) -> np.ndarray:
    """Genes seen in ten cells whose log-normalised counts vary most."""
    totals = np.asarray(adata.X.sum(1)).ravel()
    logs = (sp.diags(1e4 / np.maximum(totals, 1)) @ adata.X).log1p()
    variance = np.asarray(logs.multiply(logs).mean(0)).ravel() - np.asarray(logs.mean(0)).ravel() ** 2
    variance[np.asarray((adata.X > 0).sum(0)).ravel() < 10] = -1
    return np.sort(np.argsort(-variance)[:N_GENES])


def with_effect(adata: ad.AnnData, sd: float, seed: int = 1) -> ad.AnnData:
    """Counts as if rates of genes were multiplied by random factors: thinned, or with Poisson counts added."""
    random, adata = np.random.default_rng(seed), adata.copy()
    factor = np.exp(sd * random.normal(size=adata.n_vars))
    counts = adata.X.toarray().astype(int)
    if sd:
        counts = random.binomial(counts, np.minimum(factor, 1)) + random.poisson(counts * np.maximum(factor - 1, 0))
    adata.X = sp.csr_matrix(counts, dtype=np.float32)
    return adata[counts.sum(1) > 0].copy()


def compositions(query: ad.AnnData, known: set[str]) -> dict[str, ad.AnnData]:
    """The query in its own proportions, and parts of it."""
    sizes = query.obs["label"].value_counts()
    kinds = [kind for kind in sizes.index if kind in known and sizes[kind] >= 60][:3]
    parts = {"same proportions": some(query, N_QUERY)}
    parts |= {f"one: {kind}": some(query[query.obs["label"] == kind], N_TYPE) for kind in kinds}
    parts["two types"] = some(query[query.obs["label"].isin(kinds[:2])], 2 * N_TYPE)
    parts["30 of one"] = some(query[query.obs["label"] == kinds[0]], 30)
    return parts


def compare_compositions(title: str, chosen: Query, data: Path, effects: list[float]) -> None:
    """Print a table of a set."""
    adata = read(data / f"{chosen.name}.h5ad")
    is_query = adata.obs["batch"].isin(chosen.query).to_numpy()
    is_reference = ~is_query if chosen.reference is None else adata.obs["batch"].isin(chosen.reference).to_numpy()
    reference = some(adata[is_reference], N_REFERENCE)
    genes = variable_genes(reference)
    reference, query = reference[:, genes].copy(), adata[is_query][:, genes].copy()
    query.obs["batch"] = "query"
    scpln.model.setup_anndata(reference, batch_key="batch")
    model = scpln.model.PLNPCA(reference, n_latent=10)
    model.train(progress=False)
    neighbours = KNeighborsClassifier(15).fit(model.get_latent_representation(), reference.obs["label"])
    print(f"\n{title}: {reference.n_obs} cells\n{'':44}{'uncorrected':>12}{'N(0, I)':>12}{'mapped':>12}{'':4}warned")
    for effect in effects:
        changed = with_effect(query, effect)
        for name, part in compositions(changed, set(reference.obs["label"])).items():
            scores, warned = [], False
            for kind in ("uncorrected", "normal", "mapped"):
                mapped = scpln.model.PLNPCA.load_query_data(part.copy(), model)
                if kind == "normal":
                    mapped.states_ = {}
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    if kind == "uncorrected":
                        mapped.is_trained_ = True
                        states = mapped.get_latent_representation(part)
                    else:
                        mapped.train(progress=False)
                        states = mapped.get_latent_representation()
                warned |= any("composition" in str(each.message) for each in caught)
                scores.append(100 * (neighbours.predict(states) == part.obs["label"].to_numpy()).mean())
            row = "".join(f"{score:12.1f}" for score in scores)
            print(f"  sd {effect:.1f}, {name[:26]:28}{part.n_obs:6}{row}{'':4}{'yes' if warned else ''}", flush=True)


def refuse_unknown(data: Path, name: str, unseen: str, seed: int = 0) -> None:
    """Print a row of a set and a type."""
    adata = read(data / f"{name}.h5ad")
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    is_unseen = (adata.obs["label"] == unseen).to_numpy()
    known, new = order[~is_unseen[order]][:2_200], order[is_unseen[order]][:N_TYPE]
    n = int(0.7 * len(known))
    genes = variable_genes(adata[known[:n]])
    reference, held_out, new_cells = (adata[cells][:, genes].copy() for cells in (known[:n], known[n:], new))
    batches = {"batch_key": "batch"} if name == "kang_muscat" else {}
    scpln.model.setup_anndata(reference, labels_key="label", **batches)
    model = scpln.model.CountGMVAE(reference)
    model.train(progress=False)
    confident = float(np.median(model.get_cluster_probabilities(new_cells).max(1)))
    row = [100 * (model.predict(cells, reject=0.05) == "unknown").mean() for cells in (held_out, new_cells)]
    print(f"  {name:14}{unseen:22}{confident:10.2f}{row[0]:12.1f}{row[1]:12.1f}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="directory of the .h5ad files; those that are absent are skipped"
    )
    parser.add_argument("--quick", action="store_true", help="one set and one type of each table")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("scpln").setLevel(logging.ERROR)
    n, effects = (1, [0.0]) if arguments.quick else (None, [0.0, 0.3, 0.7])
    for title, chosen in list(QUERIES.items())[:n]:
        if (arguments.data / f"{chosen.name}.h5ad").exists():
            compare_compositions(title, chosen, arguments.data, effects)
    print(f"\n  {'':14}{'unseen type':22}{'probability':>10}{'held out':>12}{'unseen':>12}  (refused, %)")
    for name, kinds in list(UNSEEN.items())[:n]:
        for unseen in kinds[:n] if (arguments.data / f"{name}.h5ad").exists() else []:
            refuse_unknown(arguments.data, name, unseen)


if __name__ == "__main__":
    main()
