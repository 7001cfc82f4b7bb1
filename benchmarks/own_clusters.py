"""Own clusters of PLN-PCA with a mixture prior beside k-means and Leiden on the same latent states; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
from autoencoder_scores import NEIGHBOURS, RESOLUTIONS, agreement
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsTransformer
from usefulness import warm_up
from usefulness_data import DATA_SETS, TOTAL, Limits, read

#: Halvings of the interval of resolutions in which Leiden's is sought that gives K groups.
HALVINGS = 12


class Leiden:
    """Leiden's groups on the graph of 15 neighbours, at any resolution."""

    def __init__(self, states: np.ndarray, seed: int) -> None:
        self._cells, self._seed = ad.AnnData(np.asarray(states, np.float32)), seed
        exact = KNeighborsTransformer(n_neighbors=NEIGHBOURS)
        sc.pp.neighbors(self._cells, use_rep="X", transformer=exact, random_state=seed)

    def at(self, resolution: float) -> np.ndarray:
        """The groups."""
        options = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": self._seed}
        sc.tl.leiden(self._cells, resolution=resolution, **options)
        return self._cells.obs["leiden"].astype(int).to_numpy()

    def with_groups(self, k: int) -> np.ndarray:
        """The groups at the resolution that gives K of them, or as near to K as was found."""
        low, high, found = 0.01, 5.0, []
        for _ in range(HALVINGS):
            found.append(self.at(float(np.sqrt(low * high))))
            n_groups = len(np.unique(found[-1]))
            if n_groups == k:
                break
            low, high = (low, np.sqrt(low * high)) if n_groups > k else (np.sqrt(low * high), high)
        return min(found, key=lambda groups: abs(len(np.unique(groups)) - k))


def run(name: str, folder: Path, limits: Limits, n_latent: int, seed: int) -> None:
    """Print the agreement of each method's clusters with the labels."""
    import scpln

    split = read(name, folder, limits, seed)
    k, adata = split.n_labels, split.cells.copy()
    scpln.model.setup_anndata(adata, batch_key=split.batch_key, size_factor_key=TOTAL)
    found, seconds, alone, spaces = {}, {}, 0.0, {}
    for n_components in (1, k, None):
        start = time.process_time()
        model = scpln.model.PLNPCA(adata, n_latent=n_latent, n_components=n_components)
        model.train(seed=seed, n_threads=1, progress=False)
        took = time.process_time() - start
        if n_components == 1:
            spaces = {space: model.get_latent_representation(space=space) for space in ("state", "expression")}
            alone = took
        else:
            key = "mixture, K chosen" if n_components is None else "mixture"
            found[key], seconds[key] = model.predict().astype(str), took - alone
    for space, states in spaces.items():
        leiden = Leiden(states, seed)
        found[f"k-means, {space}"] = KMeans(k, n_init=10, random_state=seed).fit_predict(states)
        gaussians = GaussianMixture(k, reg_covar=1e-3, random_state=seed)
        found[f"GaussianMixture, {space}"] = gaussians.fit_predict(states.astype(np.float64))
        found[f"Leiden, K groups, {space}"] = leiden.with_groups(k)
        found[f"Leiden, 1, {space}"] = leiden.at(1.0)
        by_resolution = [leiden.at(resolution) for resolution in RESOLUTIONS]
        found[f"Leiden, best, {space}"] = max(by_resolution, key=lambda groups: agreement(groups, split)["ari"])
    for method, clusters in found.items():
        one = agreement(clusters, split)
        took = f"{seconds[method]:.1f}" if method in seconds else ""
        numbers = f"{one['n_clusters']} of {k} | {one['ari']:.3f} | {one['nmi']:.3f} | {took}"
        print(f"| {name} | {n_latent} | {seed} | {method} | {numbers} |", flush=True)


def main() -> None:
    """Run all data sets, dimensions and seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--n-latent", nargs="+", type=int, default=[10, 20])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--cells", type=int, default=4000, help="cells of a set, at most (default %(default)s)")
    parser.add_argument("--genes", type=int, default=2000, help="genes, at most (default %(default)s)")
    args = parser.parse_args()
    warm_up()
    print("| data set | q | seed | clusters | K | ARI | NMI | seconds beyond PLN-PCA |\n|" + "---|" * 8)
    for n_latent in args.n_latent:
        for name in (name for name in args.data_sets if (args.data / DATA_SETS[name][0]).exists()):
            for seed in args.seeds:
                run(name, args.data, Limits(args.cells, args.genes, batches=True), n_latent, seed)


if __name__ == "__main__":
    main()
