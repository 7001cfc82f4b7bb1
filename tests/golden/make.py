"""Save small models, as this version of scpln saves them, with what they give: ``python tests/golden/make.py``.

Run once for each release. What it writes stays in the repository, so that every later version can be tested to read it:

- ``v{version}/cells.csv``: cells with counts, batch, a covariate and labels, the last of them new to the models;
- ``v{version}/{name}/``: a saved model, and `outputs.json`, what it gives for these cells.
"""

import argparse
import json
import shutil
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

import scpln

HERE = Path(__file__).parent
N_TRAINED, N_NEW, N_GENES = 60, 5, 20

NEWTON = {"progress": False}
FLOW = {"progress": False, "n_steps": 20, "seed": 0}
AUTOENCODER = {"progress": False, "max_epochs": 30, "seed": 0, "accelerator": "cpu"}
MODALITIES = {"modalities": ["rna", "prot"], "batch_key": "batch"}
COVARIATES = {"batch_key": "batch", "continuous_covariate_keys": ["age"]}

MODELS = {
    "plnpca": ("PLNPCA", {}, {}, NEWTON),
    "plnpca_meanfield": ("PLNPCA", {}, {"posterior": "meanfield"}, NEWTON),
    "plnpca_nb": ("PLNPCA", COVARIATES, {"likelihood": "nb"}, NEWTON),
    "plnpca_flow": ("PLNPCA", {}, {"posterior": "flow", "n_transforms": 2, "flow_hidden": [4]}, FLOW),
    "plnpca_amortized": ("PLNPCA", COVARIATES, {"amortized": True, "encoder_hidden": [8]}, FLOW),
    "plnpca_joint": ("PLNPCA", MODALITIES, {"likelihood": {"rna": "poisson", "prot": "nb"}}, NEWTON),
    "countvae": ("CountVAE", COVARIATES, {"n_hidden": 8}, AUTOENCODER),
    "countgmvae": ("CountGMVAE", {}, {"n_hidden": 8, "n_components": 3, "likelihood": "poisson"}, AUTOENCODER),
    "countgmvae_labels": ("CountGMVAE", {"labels_key": "label"}, {"n_hidden": 8}, AUTOENCODER),
}
"""Name of each model: its class, and the arguments of `setup_anndata` or `setup_mudata`, of the class and of `train`."""

OUTPUTS = {
    "latent": lambda model, adata: model.get_latent_representation(adata),
    "elbo": lambda model, adata: model.get_elbo(adata, return_mean=False),
    "iw_bound": lambda model, adata: model.get_iw_bound(adata, n_samples=20, seed=0, return_mean=False),
    "gene_parameters": lambda model, _: model.get_gene_parameters().to_numpy(),
    "loadings": lambda model, _: model.get_loadings().to_numpy(),
    "coefficients": lambda model, _: model.get_coefficients().to_numpy(),
    "cluster_probabilities": lambda model, adata: model.get_cluster_probabilities(adata).to_numpy(),
}
"""What is compared. A later version may add to it, but goes on to compute what an earlier one has stored."""

ALL = ["latent", "elbo", "iw_bound"]
MORE = {"PLNPCA": ["loadings", "coefficients"], "CountVAE": [], "CountGMVAE": ["cluster_probabilities"]}


def simulate() -> pd.DataFrame:
    """Cells as a table: counts of genes, batch, age, and labels of the first cells."""
    adata = scpln.datasets.simulate(N_TRAINED + N_NEW, N_GENES, n_latent=2, n_batches=2, density=0.6, seed=0)
    table = adata.to_df().astype(int)
    table.insert(0, "batch", "b" + adata.obs["batch"].astype(str))
    table.insert(1, "age", np.random.default_rng(0).normal(size=adata.n_obs).round(3))
    table.insert(2, "label", np.where(adata.obsm["true_latent"][:, 0] > 0, "high", "low"))
    table.loc[table.index[30:], "label"] = np.nan
    return table


def read_cells(path: Path, *, joint: bool = False) -> tuple[AnnData | MuData, AnnData | MuData]:
    """The cells that models were trained on, and new ones."""
    table = pd.read_csv(path, index_col=0)
    obs = ["batch", "age", "label"]
    adata = AnnData(table.drop(columns=obs).astype(np.float32), obs=table[obs].astype({"label": "category"}))
    trained, new = adata[:N_TRAINED].copy(), adata[N_TRAINED:].copy()
    return (as_modalities(trained), as_modalities(new)) if joint else (trained, new)


def as_modalities(adata: AnnData) -> MuData:
    """The last five genes as a modality of their own, which every fourth cell lacks."""
    proteins = adata[np.arange(adata.n_obs) % 4 != 3, -5:].copy()
    with mudata.set_options(pull_on_update=False):  # as mudata will do by itself from version 0.4
        mdata = MuData({"rna": adata[:, :-5].copy(), "prot": proteins})
    mdata.obs["batch"] = adata.obs["batch"]
    return mdata


def compute(
    names: list[str], model: object, trained: AnnData | MuData, new: AnnData | MuData
) -> dict[str, dict[str, list]]:
    """Outputs of a model for both groups of cells, as JSON takes them."""
    cells = {"trained": trained, "new": new}
    return {
        group: {name: np.asarray(OUTPUTS[name](model, adata), dtype=float).tolist() for name in names}
        for group, adata in cells.items()
    }


def make(name: str, folder: Path) -> None:
    """Train a model on the folder's cells, save it there and write down what it gives."""
    kind, setup, arguments, training = MODELS[name]
    joint = "modalities" in setup
    trained, new = read_cells(folder / "cells.csv", joint=joint)
    (scpln.model.setup_mudata if joint else scpln.model.setup_anndata)(trained, **setup)
    model = getattr(scpln.model, kind)(trained, n_latent=2, **arguments)
    model.train(**training)
    model.save(folder / name)
    names = ALL + MORE[kind] + ["gene_parameters"] * (model.get_gene_parameters().size > 0)
    outputs = compute(names, model, trained, new)
    rounded = json.loads(json.dumps(outputs), parse_float=lambda number: float(f"{float(number):.6g}"))
    (folder / name / "outputs.json").write_text(json.dumps(rounded) + "\n", encoding="utf-8")


def main() -> None:
    """Write the folder of this version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--force", action="store_true", help="replace the folder, of a version that is not released yet"
    )
    arguments = parser.parse_args()
    folder = HERE / f"v{scpln.__version__}"
    if folder.exists():
        if not arguments.force:
            parser.error(f"{folder} is there; --force replaces it")
        shutil.rmtree(folder)
    folder.mkdir()
    simulate().to_csv(folder / "cells.csv", lineterminator="\n")
    for name in MODELS:
        make(name, folder)


if __name__ == "__main__":
    main()
