"""Own clusters of PLN-PCA with a mixture prior beside k-means and Leiden on the same latent states; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
from autoencoder_data import DATA_SETS, UNKNOWN, read
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

#: Cells of a data set, at most; resolutions of Leiden's algorithm, of which the best by the labels is shown, too.
CELLS, RESOLUTIONS = 4000, (0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0)


def leiden(states: np.ndarray, resolution: float, seed: int) -> np.ndarray:
    """Leiden's groups on the graph of 15 neighbours."""
    cells = ad.AnnData(np.zeros((len(states), 1), np.float32), obsm={"states": states})
    sc.pp.neighbors(cells, use_rep="states")
    sc.tl.leiden(cells, resolution=resolution, random_state=seed, flavor="igraph", n_iterations=2, directed=False)
    return cells.obs["leiden"].astype(int).to_numpy()


def run(name: str, folder: Path, n_latent: int, seed: int) -> None:
    """Print the agreement of each method's clusters with the labels."""
    import scpln

    adata = read(name, folder)
    if adata.n_obs > CELLS:
        adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, CELLS, replace=False))].copy()
    labels = adata.obs["labels"].astype(str)
    known = ~labels.str.lower().isin(UNKNOWN).to_numpy()
    k = labels[known].nunique()
    scpln.model.setup_anndata(adata, batch_key=DATA_SETS[name])
    states, found, seconds = np.empty(0), {}, {}
    for n_components in (1, k, None):
        start = time.perf_counter()
        model = scpln.model.PLNPCA(adata, n_latent=n_latent, n_components=n_components)
        model.train(seed=seed, progress=False)
        took = time.perf_counter() - start
        if n_components == 1:
            states, alone = model.get_latent_representation(), took
        else:
            key = "mixture, K chosen" if n_components is None else "mixture"
            found[key], seconds[key] = model.predict().astype(int), took - alone
    found["k-means"] = KMeans(k, n_init=10, random_state=seed).fit_predict(states)
    found["GaussianMixture"] = GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit_predict(states)
    by_resolution = {resolution: leiden(states, resolution, seed) for resolution in RESOLUTIONS}
    found["Leiden, 1"] = by_resolution[1.0]
    found["Leiden, best"] = max(by_resolution.values(), key=lambda c: adjusted_rand_score(labels[known], c[known]))
    for method, clusters in found.items():
        pair = labels[known], clusters[known]
        scores = f"{adjusted_rand_score(*pair):.3f} | {normalized_mutual_info_score(*pair):.3f}"
        took = f"{seconds[method]:.1f}" if method in seconds else ""
        print(
            f"| {name} | {n_latent} | {seed} | {method} | {len(np.unique(clusters))} of {k} | {scores} | {took} |",
            flush=True,
        )


def main() -> None:
    """Run all data sets, dimensions and seeds."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--n-latent", nargs="+", type=int, default=[10, 20])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    print("| data set | q | seed | clusters | K | ARI | NMI | seconds beyond PLN-PCA |\n|" + "---|" * 8)
    for n_latent in args.n_latent:
        for name in args.data_sets:
            for seed in args.seeds:
                run(name, args.data, n_latent, seed)


if __name__ == "__main__":
    main()
