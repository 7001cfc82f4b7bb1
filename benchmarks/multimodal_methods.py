"""CITE-seq: the cells, and the methods that give them latent states."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from autoencoder_data import Split

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData
    from numpy.typing import NDArray

DATA_SET = "cbmc_citeseq.h5mu"
N_CELLS, N_GENES, N_LATENT = 3000, 1000, 15


@dataclass
class Fitted:
    """A method after training."""

    latent: NDArray[np.float64]
    #: Expected counts of proteins in every cell, up to a factor of the cell, of a method that has them.
    proteins: NDArray[np.float64] | None = None


def draw(folder: Path, seed: int) -> Split:
    """Some of the cells: counts of the most variable genes, counts of proteins in `obsm`; half are held out for imputation."""
    import mudata
    import scanpy as sc

    mudata.set_options(pull_on_update=False)
    both = mudata.read_h5mu(folder / DATA_SET)
    rna = both["rna"]
    logs = normalized(rna)
    sc.pp.highly_variable_genes(logs, n_top_genes=N_GENES)
    random = np.random.default_rng(seed)
    cells = np.sort(random.choice(rna.n_obs, N_CELLS, replace=False))
    obs = rna.obs.iloc[cells][["labels"]].assign(total=np.asarray(rna.X[cells].sum(1)).ravel())
    chosen = logs.var["highly_variable"].to_numpy()
    counts = sp.csr_matrix(rna.X)[cells][:, chosen].astype(np.float32)
    drawn = ad.AnnData(counts, obs=obs, var=rna.var[chosen][[]])
    drawn.layers["logs"] = logs.X[cells][:, chosen]
    drawn.obsm["proteins"] = both["prot"][cells].to_df()
    return Split(drawn, random.permutation(N_CELLS) < N_CELLS // 2, None, seed)


def normalized(rna: ad.AnnData) -> ad.AnnData:
    """A copy with log-normalised counts."""
    import scanpy as sc

    rna = ad.AnnData(rna.X.astype(np.float32), obs=rna.obs, var=rna.var)
    sc.pp.normalize_total(rna)
    sc.pp.log1p(rna)
    return rna


def clr(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Centred log-ratios log(1 + y) of each cell."""
    logs = np.log1p(np.asarray(counts, dtype=np.float64))
    return logs - logs.mean(1, keepdims=True)


def joint(cells: Split, measured: NDArray[np.bool_]) -> MuData:
    """Both modalities; cells that are not `measured` lack proteins."""
    from mudata import MuData

    rna = cells.cells.copy()
    table = rna.obsm.pop("proteins")[measured]
    prot = ad.AnnData(sp.csr_matrix(table.to_numpy(np.float32)), obs=rna.obs[measured][[]])
    prot.var_names = table.columns
    return MuData({"rna": rna, "prot": prot})


def fit_pca(cells: Split, _measured: NDArray[np.bool_]) -> Fitted:
    """Principal components of log-normalised RNA."""
    from sklearn.decomposition import PCA

    return Fitted(PCA(N_LATENT, random_state=cells.seed).fit_transform(cells.cells.layers["logs"].toarray()))


def fit_proteins(cells: Split, _measured: NDArray[np.bool_]) -> Fitted:
    """Centred log-ratios of the proteins, without RNA."""
    return Fitted(clr(cells.cells.obsm["proteins"].to_numpy()))


def fit_pca_and_proteins(cells: Split, measured: NDArray[np.bool_]) -> Fitted:
    """Principal components of RNA beside centred log-ratios of the proteins, each of total variance one."""
    spaces = (fit_pca(cells, measured).latent, fit_proteins(cells, measured).latent)
    return Fitted(np.hstack([space / np.sqrt(space.var(0).sum()) for space in spaces]))


def fit_mofa(cells: Split, measured: NDArray[np.bool_]) -> Fitted:
    """MOFA+ of log-normalised RNA and centred log-ratios of the proteins, with muon's defaults."""
    import muon

    mdata = joint(cells, measured)
    mdata["rna"].X = mdata["rna"].layers["logs"]
    mdata["prot"].X = clr(mdata["prot"].X.toarray())
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = str(Path(folder) / "mofa.hdf5")
        muon.tl.mofa(mdata, n_factors=N_LATENT, use_var=None, seed=cells.seed, outfile=file)
    return Fitted(np.asarray(mdata.obsm["X_mofa"], dtype=np.float64))


def fit_plnpca_rna(cells: Split, _measured: NDArray[np.bool_], *, likelihood: str) -> Fitted:
    """PLN-PCA of RNA."""
    import scpln

    adata = cells.cells.copy()
    scpln.model.setup_anndata(adata, size_factor_key="total")
    model = scpln.model.PLNPCA(adata, n_latent=N_LATENT, likelihood=likelihood)
    model.train(seed=cells.seed, n_threads=1, progress=False)
    return Fitted(model.get_latent_representation())


def fit_plnpca(cells: Split, measured: NDArray[np.bool_], *, likelihood: str | dict[str, str]) -> Fitted:
    """PLN-PCA of both."""
    import scpln

    mdata = joint(cells, measured)
    scpln.model.setup_mudata(mdata, modalities={"rna": {"size_factor_key": "total"}, "prot": None})
    model = scpln.model.PLNPCA(mdata, n_latent=N_LATENT, likelihood=likelihood)
    model.train(seed=cells.seed, n_threads=1, progress=False)
    order = mdata.obs_names.get_indexer(cells.cells.obs_names)
    proteins = list(mdata["prot"].var_names)
    rates = model.get_normalized_expression(gene_list=proteins, return_numpy=True)
    return Fitted(model.get_latent_representation()[order], rates[order])


MIXED = {"rna": "poisson", "prot": "nb"}
#: Every method, by what it sees. MOFA+ is left out where mofapy2 is not installed.
METHODS: dict[str, Callable[[Split, NDArray[np.bool_]], Fitted]] = {
    "RNA: PCA": fit_pca,
    "RNA: PLN-PCA, Poisson": partial(fit_plnpca_rna, likelihood="poisson"),
    "RNA: PLN-PCA, NB": partial(fit_plnpca_rna, likelihood="nb"),
    "proteins: CLR": fit_proteins,
    "both: PCA beside CLR": fit_pca_and_proteins,
    **({"both: MOFA+": fit_mofa} if find_spec("mofapy2") else {}),
    "both: PLN-PCA, Poisson": partial(fit_plnpca, likelihood="poisson"),
    "both: PLN-PCA, Poisson + NB": partial(fit_plnpca, likelihood=MIXED),
    "both: PLN-PCA, NB": partial(fit_plnpca, likelihood="nb"),
}
#: Methods of the second part, in which half of the cells lack proteins.
IMPUTING = tuple(name for name in METHODS if name not in ("proteins: CLR", "both: PCA beside CLR", "both: MOFA+"))
