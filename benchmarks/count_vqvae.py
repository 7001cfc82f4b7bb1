"""CountVQVAE beside CountVAE and CountGMVAE: bounds of held-out cells, use of codes, learning by heart, and new cells like old ones.

``python count_vqvae.py --data FOLDER --out results.jsonl``: one line for each fit as soon as it is there; what is there is not done again. ``--report`` prints tables of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from autoencoder_data import DATA_SETS, read
from report import show_table
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import scpln
from scpln.module.codes import CodePrior

if TYPE_CHECKING:
    import anndata as ad
    from numpy.typing import NDArray

SETS = ("pbmc_facs", "pbmc3k", "kang_muscat", "brain_mop_dot")
#: Models, and their arguments beside the defaults.
METHODS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "CountVAE": (scpln.model.CountVAE, {}),
    "CountVQVAE": (scpln.model.CountVQVAE, {}),
    "CountVQVAE, one code": (scpln.model.CountVQVAE, {"n_codes": 1, "codebook_size": 32}),
    "CountVQVAE, rotation": (scpln.model.CountVQVAE, {"gradient": "rotation"}),
    "CountVQVAE, fsq": (scpln.model.CountVQVAE, {"quantizer": "fsq"}),
    "CountVQVAE, eight codes": (scpln.model.CountVQVAE, {"n_codes": 8}),
    "CountGMVAE": (scpln.model.CountGMVAE, {}),
}
HELD_OUT, DRAWS, COMPONENTS = 0.2, 20, 20


def split(name: str, folder: Path, seed: int, n_cells: int, n_genes: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Training and held-out cells, of so many at most, with the genes that are the most variable and the totals over all."""
    cells = read(name, folder)
    random = np.random.default_rng(seed)
    cells.obs["total"] = np.asarray(cells.X.sum(1)).ravel()
    if cells.n_obs > n_cells:
        cells = cells[np.sort(random.choice(cells.n_obs, n_cells, replace=False))].copy()
    variance = np.asarray(sp.csr_matrix(cells.X).power(2).mean(0)).ravel() - np.asarray(cells.X.mean(0)).ravel() ** 2
    mean = np.asarray(cells.X.mean(0)).ravel()
    chosen = np.sort(np.argsort(-variance / np.maximum(mean, 1e-3))[:n_genes])
    held = np.isin(np.arange(cells.n_obs), random.choice(cells.n_obs, int(HELD_OUT * cells.n_obs), replace=False))
    return cells[~held, chosen].copy(), cells[held, chosen].copy()


def fit(method: str, name: str, seed: int, folder: Path, n_cells: int, n_genes: int, threads: int) -> dict[str, Any]:
    """Fit a model, and look at the cells that it has not seen, and at new ones that it makes."""
    train, test = split(name, folder, seed, n_cells, n_genes)
    scpln.model.setup_anndata(train, size_factor_key="total", batch_key=DATA_SETS[name])
    model_class, arguments = METHODS[method]
    model = model_class(train, **arguments)
    begin = time.process_time()
    model.train(progress=False, n_threads=threads, seed=seed)
    found: dict[str, Any] = {
        "method": method,
        "set": name,
        "seed": seed,
        "cells": train.n_obs,
        "genes": train.n_vars,
        "seconds": time.process_time() - begin,
        "seconds_of_epoch": time_of_epoch(model),
        "epochs": model.training_["n_epochs"],
        "train": float(model.get_elbo()),
        "elbo": float(model.get_elbo(test)),
        **(of_codes(model, test) if "VQ" in method else {"iw_bound": float(model.get_iw_bound(test, n_samples=100))}),
    }
    return found | like_cells(new_cells(model, seed), sp.csr_matrix(train.X).toarray(), sp.csr_matrix(test.X).toarray())


def time_of_epoch(model: Any) -> float:
    """Seconds of the processor that the steps of an epoch take: median of three."""
    from scpln.train import Minibatches

    module = model._make_module()
    optimizer = torch.optim.Adam(module.parameters())
    data, times = model._read(None).data, []
    torch.set_num_threads(1)
    module.train()
    for _ in range(3):
        batches = iter(Minibatches(data, 128))
        begin = time.process_time()
        for _ in range(-(-data.n_cells // 128)):
            optimizer.zero_grad()
            module.loss(next(batches)[1]).value.backward()
            optimizer.step()
        times.append(time.process_time() - begin)
    return median(times)


def of_codes(model: Any, test: ad.AnnData) -> dict[str, float]:
    """Closer bounds, what each prior gives, and the use of codes."""
    prior = model.module.states.codes
    independent = CodePrior(prior.n_codes, prior.codebook_size, prior.n_groups)
    independent.load_state_dict({name: prior.state_dict()[name] for name in independent.state_dict()})
    codes = torch.from_numpy(model.get_codes(test).to_numpy(dtype=int))
    usage = model.get_code_usage()
    own = usage.drop("joint")
    return {
        "summed": float(model.get_summed_bound(test)),
        "refined": float(model.get_elbo(test, refine=3)),
        "uniform": -model.module.log_states,
        "independent": float(independent.log_prob(codes).mean()),
        "autoregressive": float(prior.log_prob(codes).mean()),
        "dead": float(own["dead"].sum()),
        "share": float(own["share"].mean()),
        "joint": float(usage.loc["joint", "used"]),
    }


@torch.no_grad()
def new_cells(model: Any, seed: int) -> NDArray[np.float64]:
    """As many cells as there are to train on, from the prior, with the depths and batches of these."""
    n = model.adata.n_obs
    if hasattr(model, "get_codes"):
        return model.sample(n, seed=seed).X.toarray()
    data = model._read(None).data
    z = model.module.generative.prior.sample(n, torch.Generator().manual_seed(seed))
    eta, deviations = model.module.decode(z.cpu().numpy(), data.design, data.batches)
    return model.module.draw(eta + torch.as_tensor(data.gene_offsets(slice(None))), seed, deviations=deviations)


def like_cells(new: NDArray[Any], train: NDArray[Any], test: NDArray[Any]) -> dict[str, float]:
    """How new cells differ from held-out ones; ½ is the accuracy of a classifier that cannot tell them apart."""
    totals = train.sum(1).mean()

    def logged(counts: NDArray[Any]) -> NDArray[np.float64]:
        return np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * totals)

    pca = PCA(20, random_state=0).fit(logged(train))
    random = np.random.default_rng(0)
    real, made = pca.transform(logged(test)), pca.transform(logged(new[random.permutation(len(new))[: len(test)]]))
    energy = 2 * cdist(real, made).mean() - cdist(real, real).mean() - cdist(made, made).mean()
    labels = np.repeat([0, 1], len(real))
    accuracy = cross_val_score(LogisticRegression(max_iter=1000), np.vstack([real, made]), labels, cv=5).mean()
    seen = test.mean(0) > 0.01
    spread = np.log(new.var(0)[seen] + 1e-3) - np.log(test.var(0)[seen] + 1e-3)
    center = np.log(new.mean(0)[seen] + 1e-3) - np.log(test.mean(0)[seen] + 1e-3)
    return {
        "energy": float(energy),
        "accuracy": float(accuracy),
        "log_mean": float(np.median(np.abs(center))),
        "log_variance": float(np.median(np.abs(spread))),
    }


def report(path: Path) -> None:
    """Medians over seeds, by set and method."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    columns = [
        "train", "elbo", "iw_bound", "summed", "refined", "uniform", "independent", "autoregressive", "dead", "share", "joint",
        "energy", "accuracy", "log_mean", "log_variance", "seconds", "seconds_of_epoch",
    ]  # fmt: skip
    table = []
    for key in dict.fromkeys((row["set"], row["method"]) for row in rows):
        own = [row for row in rows if (row["set"], row["method"]) == key]
        values = [median(row[name] for row in own) if name in own[0] else float("nan") for name in columns]
        table.append([*key, str(len(own)), *(f"{value:.3f}" for value in values)])
    show_table("medians over seeds", ["set", "method", "seeds", *columns], table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("count_vqvae.jsonl"))
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--cells", type=int, default=4000, help="most cells of a set")
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="print what is there")
    args = parser.parse_args()
    if not args.report:
        logging.getLogger("scpln").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        lines = args.out.read_text().splitlines() if args.out.exists() else []
        done = {(row["method"], row["set"], row["seed"]) for row in map(json.loads, lines)}
        for seed in args.seeds:
            for name in args.sets:
                for method in args.methods:
                    if (method, name, seed) not in done:
                        row = fit(method, name, seed, args.data, args.cells, args.genes, args.threads)
                        with args.out.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    report(args.out)


if __name__ == "__main__":
    main()
