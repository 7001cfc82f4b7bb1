"""Tables and the figure of the CITE-seq comparison."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from multimodal_scores import HARD
from report import show_facts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autoencoder_data import Split
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Result = dict[str, Any]

#: What methods see, in the order of the tables.
SEEN = ("RNA", "proteins", "both")
NEIGHBOUR_COLUMNS = {
    "neighbours": "neighbours",
    "neighbours_by_label": "by label",
    "neighbours_hard": HARD,
}
CLUSTER_COLUMNS = {**NEIGHBOUR_COLUMNS, "leiden": "ARI, best Leiden", "kmeans": "ARI, k-means", "cpu_seconds": "cpu s"}


def report(path: Path, facts: dict[str, Any]) -> None:
    """Print a Markdown table for each part: the median over seeds."""
    show_facts(facts)
    newest = {one["key"]: one for one in map(json.loads, path.read_text().splitlines())}
    results = [one for one in newest.values() if "error" not in one]
    results.sort(key=lambda one: SEEN.index(one["method"].split(":")[0]))
    clusters, imputations = ([r for r in results if r["part"] == part] for part in ("clusters", "imputation"))
    if clusters:
        show_clusters(clusters)
    if imputations:
        show_imputation(imputations)
    for one in newest.values():
        if "error" in one:
            print(f"failed: {one['key']}: {one['error'].strip().splitlines()[-1]}")


def show_clusters(results: Sequence[Result]) -> None:
    """Labels of neighbours and clusters in each latent space of cells with both modalities."""
    first = results[0]
    print(f"{first['n_cells']:,} cells with both, {first['n_genes']:,} genes, {first['n_labels']} labels\n")
    _head("method", "seeds", *CLUSTER_COLUMNS.values())
    for method, own in _by_method(results).items():
        _row(method, len(own), *(_median(own, key) for key in CLUSTER_COLUMNS))
    print()


def show_imputation(results: Sequence[Result]) -> None:
    """Proteins of the cells that lack them, and labels of these cells' neighbours."""
    targets = list(results[0]["imputation"])
    print("half of the cells without proteins: Spearman correlation with the truth, mean over proteins\n")
    _head("latent states", "proteins from", *targets, *NEIGHBOUR_COLUMNS.values(), "cpu s")
    for method, own in _by_method(results).items():
        rest = [_median(own, key) for key in (*NEIGHBOUR_COLUMNS, "cpu_seconds")]
        for way in own[0]["imputation"][targets[0]]:
            means = ([np.mean(list(r["imputation"][target][way].values())) for r in own] for target in targets)
            _row(method, way, *(f"{median(values):.3f}" for values in means), *rest)
    print()


def _by_method(results: Sequence[Result]) -> dict[str, list[Result]]:
    return {
        method: [r for r in results if r["method"] == method] for method in dict.fromkeys(r["method"] for r in results)
    }


def _median(results: Sequence[Result], key: str) -> str:
    return f"{median(r[key] for r in results):.{0 if key == 'cpu_seconds' else 3}f}"


def _head(*columns: str) -> None:
    _row(*columns)
    print("|---" * len(columns) + "|")


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def draw_figure(path: Path, cells: Split, spaces: dict[str, NDArray[np.float32]]) -> None:
    """UMAPs of latent spaces, a row each, coloured by cell type and by two proteins; a PNG of few colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    proteins = np.log1p(cells.cells.obsm["proteins"][["CD4", "CD8"]])
    figure = Figure(figsize=(9.5, 5.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(spaces), 1 + proteins.shape[1])
    for row, (title, latent) in zip(axes, spaces.items(), strict=True):
        places = _umap(latent)
        row[0].set_ylabel(title)
        _scatter_labels(row[0], places, cells)
        for axis, values in zip(row[1:], proteins.to_numpy().T, strict=True):
            shown = axis.scatter(*places.T, c=values, s=3, linewidths=0, vmin=2, vmax=9)
    for axis, name in zip(axes[0], ("cell type", *(f"protein {name}" for name in proteins)), strict=True):
        axis.set_title(name)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[:, 1:], label="log(1 + counts)", aspect=40)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right", markerscale=4, frameon=False)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(256).save(path, optimize=True)


def _umap(latent: NDArray[np.float32]) -> NDArray[np.float32]:
    import anndata as ad
    import scanpy as sc

    space = ad.AnnData(latent)
    sc.pp.neighbors(space, use_rep="X", random_state=0)
    sc.tl.umap(space, random_state=0)
    return space.obsm["X_umap"]


def _scatter_labels(axis: Axes, places: NDArray[np.float32], cells: Split) -> None:
    """Cells of unknown type in grey, below the others."""
    from scanpy.plotting.palettes import default_20

    axis.scatter(*places[~cells.known].T, s=3, linewidths=0, color="0.75", label="unknown")
    for label, colour in zip(np.unique(cells.labels), default_20, strict=False):
        axis.scatter(*places[cells.known][cells.labels == label].T, s=3, linewidths=0, color=colour, label=label)
