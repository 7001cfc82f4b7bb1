# ruff: noqa: T201 (a script answers on standard output)
"""The synthetic experiments that scVAE was first tried on, with `scpln.model.CountVAE` and `scpln.model.CountGMVAE`.

1. Ten Poisson features with rates 1 to 10, 2,000 samples. There is no structure in them to find, so a model of them should
   use none of its three latent dimensions, and reconstruct each feature by its rate.
2. Five classes of counts that overlap, 10,000 samples of 50 features. The mixture model should find the classes, with
   as many components as there are, and if it has to choose their number.

    python tutorials/scvae_synthetic.py --seeds 5 --figure scvae_synthetic.png

The reference is C. Grønbech, M. Vording, P. Timshel, C. Sønderby, T. Pers and O. Winther (2020), scVAE: variational
auto-encoders for single-cell gene expression data, Bioinformatics 36(16): 4415-4422.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

import scpln

RATES = np.arange(1.0, 11.0)
N_CLASSES, N_FEATURES = 5, 50
#: Standard deviation over classes of a feature's log-rate, and mean rate of a feature.
SPREAD, LEVEL = 0.65, 1.0


def poisson_features(n_obs: int = 2000, seed: int = 0) -> AnnData:
    """Ten independent Poisson features with rates 1 to 10."""
    counts = np.random.default_rng(seed).poisson(RATES, (n_obs, len(RATES)))
    return AnnData(counts.astype(np.float32), var=pd.DataFrame({"rate": RATES}, index=_names("feature", len(RATES))))


def five_classes(n_obs: int = 10_000, seed: int = 0) -> AnnData:
    """Five classes of Poisson counts, with rates of each class in ``varm["rates"]``.

    ``uns["best_ari"]`` is the adjusted Rand index of the most probable classes when rates and shares of the classes are
    known: nothing that has to learn them does better.
    """
    rng = np.random.default_rng(seed)
    level = rng.gamma(2.0, LEVEL / 2, N_FEATURES)
    rates = level[:, None] * np.exp(rng.normal(0.0, SPREAD, (N_FEATURES, N_CLASSES)))
    shares = np.arange(N_CLASSES, 0, -1) / np.arange(1, N_CLASSES + 1).sum()
    classes = rng.choice(N_CLASSES, n_obs, p=shares)
    counts = rng.poisson(rates.T[classes])
    log_joint = counts @ np.log(rates) - rates.sum(0) + np.log(shares)
    adata = AnnData(
        counts.astype(np.float32),
        obs=pd.DataFrame({"class": pd.Categorical(classes.astype(str))}, index=_names("sample", n_obs)),
        var=pd.DataFrame(index=_names("feature", N_FEATURES)),
        varm={"rates": rates},
    )
    adata.uns["best_ari"] = float(adjusted_rand_score(classes, log_joint.argmax(1)))
    return adata


@dataclass(frozen=True)
class Clustering:
    """How well a mixture model found the classes."""

    seed: int
    asked: int | None
    n_components: int
    n_used: int
    smallest: int
    ari: float
    best_ari: float
    seconds: float


def reconstruct(adata: AnnData, *, seed: int = 0, **training: Any) -> tuple[scpln.model.CountVAE, pd.DataFrame]:
    """A three-dimensional autoencoder of Poisson features, and the mean reconstruction of each beside its rate."""
    scpln.model.setup_anndata(adata)
    model = scpln.model.CountVAE(adata, n_latent=3, n_hidden=100, likelihood="poisson", size_factors=False)
    # To the end of the schedule: there is nothing to learn, so that the validation cells would stop it by their noise.
    model.train(seed=seed, progress=False, **{"early_stopping": False, **training})
    expected = model.get_normalized_expression()
    table = pd.DataFrame(
        {"rate": adata.var["rate"], "sample mean": adata.X.mean(0), "reconstruction": expected.mean(0)}
    )
    return model, table.assign(**{"sd over samples": expected.std(0)})


def cluster(
    adata: AnnData, *, n_components: int | None = N_CLASSES, seed: int = 0, **training: Any
) -> tuple[scpln.model.CountGMVAE, Clustering]:
    """A mixture autoencoder of the classes, and how well `predict` finds them."""
    scpln.model.setup_anndata(adata)
    started = time.perf_counter()
    model = scpln.model.CountGMVAE(adata, n_components=n_components, likelihood="poisson")
    model.train(seed=seed, progress=False, **training)
    seconds = time.perf_counter() - started
    sizes = model.get_cluster_summary()["n_cells"]
    found = Clustering(
        seed=seed,
        asked=n_components,
        n_components=len(sizes),
        n_used=int((sizes > 0).sum()),
        smallest=int(sizes.min()),
        ari=float(adjusted_rand_score(adata.obs["class"], model.predict())),
        best_ari=adata.uns["best_ari"],
        seconds=seconds,
    )
    return model, found


def draw(table: pd.DataFrame, adata: AnnData, model: scpln.model.CountGMVAE, path: Path) -> None:
    """Reconstructions against rates, and the latent space of the classes on its first two principal axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    left.axline((0, 0), slope=1, color="0.7")
    left.errorbar(table["rate"], table["reconstruction"], 2 * table["sd over samples"], fmt="o")
    left.set(xlabel="rate", ylabel="mean reconstruction (± 2 sd over samples)", title="Ten Poisson features")
    latent = model.get_latent_representation()
    assert isinstance(latent, np.ndarray)
    centered = latent - latent.mean(0)
    plane = centered @ np.linalg.svd(centered, full_matrices=False)[2][:2].T
    right.scatter(*plane.T, s=2, c=adata.obs["class"].cat.codes, cmap="tab10", vmax=9)
    right.set(xlabel="first axis", ylabel="second axis", title="Latent states of five classes")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Run both experiments and print what came out."""
    parser = argparse.ArgumentParser(description="The synthetic experiments of scVAE.")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="sets of five classes (default: 5)")
    parser.add_argument("--samples", type=int, default=10_000, metavar="N", help="samples in each (default: 10,000)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the results into this file")
    args = parser.parse_args(argv)

    started = time.perf_counter()
    vae, table = reconstruct(poisson_features())
    print(f"1. ten Poisson features, 2,000 samples, {time.perf_counter() - started:.0f} s")
    print(table.to_string(float_format="{:.3f}".format))
    print(f"   active latent dimensions: {vae.get_latent_dimensions()['active'].sum()} of 3\n")

    print(f"2. five classes, {args.samples:,} samples of {N_FEATURES} features")
    rows = []
    for n_components in (N_CLASSES, None):
        for seed in range(args.seeds):
            adata = five_classes(args.samples, seed)
            model, found = cluster(adata, n_components=n_components, seed=seed)
            rows.append(found)
            if args.figure is not None and n_components == N_CLASSES and seed == 0:
                draw(table, adata, model, args.figure)
    print(pd.DataFrame(rows).fillna({"asked": 0}).astype({"asked": int}).to_string(float_format="{:.3f}".format))
    print("   asked: n_components, 0 where a held-out bound chooses; smallest: samples in the smallest component;")
    print("   best_ari: with the rates known")


def _names(kind: str, n: int) -> list[str]:
    return [f"{kind}_{i}" for i in range(1, n + 1)]


if __name__ == "__main__":
    main()
