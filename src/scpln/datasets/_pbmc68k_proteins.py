"""The real RNA counts of the small PBMC set, with surface proteins that are drawn from what is known of its cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scpln.utils import LARGEST_SEED, positive_integer

from ._pbmc68k import pbmc68k_reduced

if TYPE_CHECKING:
    from mudata import MuData

ANTIBODIES = (
    *("CD3", "CD4", "CD8", "CD25", "CD127", "CD45RA", "CD45RO", "CD56"),
    *("CD16", "CD19", "CD14", "CD11c", "HLA-DR", "CD34", "IgG1", "IgG2a"),
)
"""What the antibodies bind; IgG1 and IgG2a are isotype controls, which bind nothing."""

# Columns are in the order of ANTIBODIES: T cells, then NK, B and myeloid cells, then progenitors, then controls.
LEVELS = {
    "CD4+/CD45RA+/CD25- Naive T": (3, 3, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "CD4+/CD45RO+ Memory": (3, 3, 0, 1, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "CD4+/CD25 T Reg": (3, 3, 0, 3, 0, 1, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0),
    "CD8+/CD45RA+ Naive Cytotoxic": (3, 0, 3, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "CD8+ Cytotoxic T": (3, 0, 3, 0, 1, 1, 2, 1, 0, 0, 0, 0, 1, 0, 0, 0),
    "CD56+ NK": (0, 0, 1, 0, 0, 2, 0, 3, 3, 0, 0, 1, 0, 0, 0, 0),
    "CD19+ B": (0, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 3, 0, 0, 0),
    "CD14+ Monocyte": (0, 1, 0, 0, 0, 0, 2, 0, 1, 0, 3, 3, 2, 0, 0, 0),
    "Dendritic": (0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 3, 3, 0, 0, 0),
    "CD34+": (0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0),
}
"""How much of each protein the cells of a type carry: 0 none, 1 little, 2 some, 3 much."""

BACKGROUND, STEP = 5.0, 4.0
"""Mean count where there is none of a protein, and what each level multiplies it by: 5, 20, 80, 320."""

SIZE_FACTOR_SD = 0.3
INVERSE_DISPERSION = 5.0


def pbmc68k_simulated_proteins(*, seed: int = 0) -> MuData:
    r"""Blood cells with real counts of RNA and simulated counts of surface proteins, in the form of CITE-seq; no download.

    **Real** are the cells, their RNA and their labels, which are those of `pbmc68k_reduced`. **Drawn** are the counts of 16
    antibodies, two of them isotype controls: no protein was measured in these cells. Cell i of type t gets of antibody j

    .. math:: y_{ij} \sim \text{NB}(s_i \cdot 5 \cdot 4^{l_{tj}},\ \theta = 5), \qquad \log s_i \sim N(0, 0.3^2)

    where the level :math:`l_{tj}`, from 0 to 3, says how much of a protein cells of this type are known to carry: T cells have
    CD3, and either CD4 or CD8; naive ones have CD45RA and others CD45RO; regulatory ones CD25 and no CD127; NK cells have
    CD56 and CD16, B cells CD19, monocytes CD14, dendritic cells CD11c and HLA-DR, and progenitors CD34.

    Proteins therefore depend on a cell's label and not on its RNA: that they agree with the labels is by construction. They show
    what a joint model does with cells that RNA does not tell apart, and not how well it does on a real experiment.

    Parameters
    ----------
    seed
        Same seed, same counts of proteins.

    Returns
    -------
    MuData with

    ``mod["rna"]``
        `pbmc68k_reduced`, whose counts are in ``layers["counts"]`` and depths in ``obs["n_counts"]``: 765 genes.
    ``mod["prot"]``
        Counts of 16 antibodies in ``X`` (CSR, int32), their means in ``layers["true_rate"]``, and s in
        ``obs["size_factor"]``, whose geometric mean is 1.
    ``obs["bulk_labels"]``
        Cell types, their colours in ``uns["bulk_labels_colors"]``.

    Examples
    --------
    >>> import scpln
    >>> mdata = scpln.datasets.pbmc68k_simulated_proteins()
    >>> {name: adata.shape for name, adata in mdata.mod.items()}
    {'rna': (700, 765), 'prot': (700, 16)}
    >>> monocytes = mdata["prot"][mdata.obs["bulk_labels"] == "CD14+ Monocyte"].to_df()
    >>> monocytes[["anti-CD14", "anti-CD19", "IgG1"]].mean().round().to_dict()
    {'anti-CD14': 339.0, 'anti-CD19': 6.0, 'IgG1': 5.0}
    """
    positive_integer("seed", seed, least=0, most=LARGEST_SEED)
    import mudata

    rna = pbmc68k_reduced()
    labels = rna.obs["bulk_labels"]
    levels = pd.DataFrame(LEVELS, index=[_name(antibody) for antibody in ANTIBODIES]).T
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0.0, SIZE_FACTOR_SD, rna.n_obs)
    offsets -= offsets.mean()
    rate = np.exp(offsets)[:, None] * BACKGROUND * STEP ** levels.loc[labels].to_numpy(dtype=np.float64)
    noise = rng.standard_gamma(INVERSE_DISPERSION, rate.shape) / INVERSE_DISPERSION
    proteins = AnnData(
        X=sp.csr_matrix(rng.poisson(rate * noise).astype(np.int32)),
        obs=pd.DataFrame({"size_factor": np.exp(offsets)}, index=rna.obs_names),
        var=pd.DataFrame(index=levels.columns),
        layers={"true_rate": rate},
    )
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"rna": rna, "prot": proteins})
    mdata.obs["bulk_labels"] = labels
    mdata.uns["bulk_labels_colors"] = rna.uns["bulk_labels_colors"]
    return mdata


def _name(antibody: str) -> str:
    """Of a feature: names of proteins must differ from those of genes, such as CD4."""
    return antibody if antibody.startswith("IgG") else f"anti-{antibody}"
