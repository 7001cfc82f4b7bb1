"""A picture of a latent space: neighbours, Leiden clusters and UMAP, through scanpy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ._checks import require
from ._errors import CommandError
from ._files import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

    from scpln.data import Data

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
FEWEST_CELLS = 10


def require_cells(adata: Data) -> None:
    """Raise if there are too few cells for a neighbour graph."""
    if adata.n_obs < FEWEST_CELLS:
        msg = f"a UMAP needs at least {FEWEST_CELLS} cells, and there are {adata.n_obs}; leave --figure out"
        raise CommandError(msg)


def cluster_and_embed(adata: Data, key: str, *, seed: int) -> None:
    """Add ``obs["{key}_leiden"]`` and ``obsm["X_{key}_umap"]``, both made from ``obsm["X_{key}"]``.

    The neighbour graph is made aside, so that one already in `adata` stays.
    """
    import scanpy as sc

    from scpln.model.base import claim

    from ._neighbors import with_neighbors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP says that a seed means one thread, which is what a seed is for
        aside = with_neighbors(adata.obsm[f"X_{key}"], seed=seed)
        sc.tl.umap(aside, random_state=seed)
        sc.tl.leiden(aside, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    adata.obs[f"{key}_leiden"] = aside.obs["leiden"].array
    adata.obsm[f"X_{key}_umap"] = aside.obsm["X_umap"]
    claim(adata, key, [f"obs['{key}_leiden']", f"obsm['X_{key}_umap']"])


def umap(adata: AnnData, *, key: str, color: str | Sequence[str] | None = None, save: Path) -> None:
    """Draw the UMAP of a latent space, made if there is none yet, in the way of the functions of `scpln.pl`."""
    if f"X_{key}_umap" not in adata.obsm:
        require_cells(adata)
        cluster_and_embed(adata, key, seed=0)
    known = [*adata.obs, *adata.var_names]
    colors = [color] if isinstance(color, str) else [*(color or default_colors(adata, key))]
    for name in colors:
        require("--color", name, known, "obs or the genes")
    draw_umap(adata, key, save, colors=colors)


def default_colors(adata: Data, key: str) -> list[str]:
    """The clusters that the model has found, or else Leiden's."""
    names = [name for name in (f"{key}_cluster", f"{key}_leiden") if name in adata.obs]
    return names[:1]


def draw_umap(adata: Data, key: str, path: Path, *, colors: Sequence[str]) -> None:
    """Draw ``obsm["X_{key}_umap"]``, one panel for each of `colors`, or one without, into `path`."""
    import anndata as ad
    import matplotlib as mpl

    mpl.use("Agg")  # pipelines have no screen
    import matplotlib.pyplot as plt
    import scanpy as sc

    if not isinstance(adata, ad.AnnData):  # scanpy draws an AnnData: of a MuData, the cells without their genes
        adata = ad.AnnData(obs=adata.obs, obsm={f"X_{key}_umap": adata.obsm[f"X_{key}_umap"]})
    shown: list[str | None] = [*colors] or [None]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.5 * columns, 4.2 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat[len(shown) :]:
        ax.remove()
    size = min(60.0, 60_000 / adata.n_obs)  # half of scanpy's, so that cells of several kinds in one place show
    for ax, color in zip(axes.flat, shown, strict=False):
        sc.pl.embedding(adata, basis=f"X_{key}_umap", color=color, ax=ax, show=False, frameon=False, size=size)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")
    plt.close(figure)
