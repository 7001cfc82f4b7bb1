"""A picture of a latent space: neighbours, Leiden clusters and UMAP, through scanpy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ._errors import CommandError
from ._files import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
FEWEST_CELLS = 10


def require_cells(adata: AnnData) -> None:
    """Raise if there are too few cells for a neighbour graph."""
    if adata.n_obs < FEWEST_CELLS:
        msg = f"a UMAP needs at least {FEWEST_CELLS} cells, and there are {adata.n_obs}; leave --figure out"
        raise CommandError(msg)


def cluster_and_embed(adata: AnnData, key: str, *, seed: int) -> None:
    """Add ``obs["{key}_leiden"]`` and ``obsm["X_{key}_umap"]``, both made from ``obsm["X_{key}"]``.

    The neighbour graph is made aside, so that one already in `adata` stays.
    """
    import anndata as ad
    import scanpy as sc

    aside = ad.AnnData(obs=adata.obs[[]], obsm={"latent": adata.obsm[f"X_{key}"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP says that a seed means one thread, which is what a seed is for
        sc.pp.neighbors(aside, n_neighbors=min(15, adata.n_obs - 1), use_rep="latent", random_state=seed)
        sc.tl.umap(aside, random_state=seed)
        sc.tl.leiden(aside, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    adata.obs[f"{key}_leiden"] = aside.obs["leiden"]
    adata.obsm[f"X_{key}_umap"] = aside.obsm["X_umap"]


def draw_umap(adata: AnnData, key: str, path: Path, *, colors: Sequence[str]) -> None:
    """Draw ``obsm["X_{key}_umap"]``, one panel for each of `colors`, into `path`."""
    import matplotlib as mpl

    mpl.use("Agg")  # pipelines have no screen
    import matplotlib.pyplot as plt
    import scanpy as sc

    columns = min(3, len(colors))
    rows = -(-len(colors) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.5 * columns, 4.2 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat[len(colors) :]:
        ax.remove()
    size = min(60.0, 60_000 / adata.n_obs)  # half of scanpy's, so that cells of several kinds in one place show
    for ax, color in zip(axes.flat, colors, strict=False):
        sc.pl.embedding(adata, basis=f"X_{key}_umap", color=color, ax=ax, show=False, frameon=False, size=size)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")
    plt.close(figure)
