"""A network of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from matplotlib.collections import LineCollection
from scipy.optimize import minimize
from scipy.sparse.csgraph import shortest_path

from scpln.pl._axes import SIGNED, axes_or_new, finish
from scpln.pl._labels import place_labels
from scpln.pl._stored import find_genes, pairs_by, short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Inches of the figure's side, widths of the weakest and strongest edge in points, and the area of a gene with one edge.
_SIDE, _WIDTHS, _AREA = 5.4, (0.6, 4.0), 22.0
#: Edges between the farthest genes of a network and those of another, and most steps of the layout.
_BETWEEN, _STEPS = 1.0, 400
#: Points along each edge that names should rather not cover.
_ALONG = 7


def network(
    adata: AnnData | Any,
    *,
    key: str = "pln",
    genes: Sequence[str] | str | None = None,
    n_edges: int | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    r"""Draw the network of genes that a model with a penalty has found.

    Each edge is a pair of genes whose log-rates depend on each other given those of all others, in the colour and width of their partial
    correlation. Genes lie as far apart as there are edges between them, as nearly as two dimensions allow [1]_; those without an edge are left out.

    Parameters
    ----------
    adata
        Annotated by ``PLN(adata, penalty=...)``, or the model itself.
    key
        Name of the results.
    genes
        Names of genes; edges between others are left out. By default all.
    n_edges
        How many edges to draw, the strongest; by default all.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"network.pdf"``.

    Returns
    -------
    The axes.

    References
    ----------
    .. [1] Kamada and Kawai (1989), An algorithm for drawing general undirected graphs. Information Processing Letters 31, 7-15.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=15, n_latent=3, density=0.7)
        >>> scpln.tl.pln(adata, penalty="ebic", progress=False)
        >>> ax = scpln.pl.network(adata, show=False)
        >>> ax.collections[0].get_array().shape[0] == adata.varp["pln_network"].nnz // 2
        True
    """
    names, matrix = _matrix_of(adata, key)
    if genes is not None:
        chosen = find_genes(genes, names)
        names, matrix = names[chosen], matrix[np.ix_(chosen, chosen)]
    first, second, values = _strongest(matrix, n_edges)
    ax = axes_or_new(ax, size=(_SIDE + 0.8, _SIDE))
    with_edges, ends = np.unique(np.concatenate([first, second]), return_inverse=True)
    ends = ends.reshape(2, -1)
    points = _layout(len(with_edges), ends)
    segments = points[ends].transpose(1, 0, 2)
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    strength = np.abs(values) / largest
    lines = LineCollection(
        list(segments),
        array=values,
        cmap=SIGNED,
        linewidths=_WIDTHS[0] + (_WIDTHS[1] - _WIDTHS[0]) * strength,
        zorder=1,
    )
    lines.set_clim(-largest, largest)
    ax.add_collection(lines)
    degree = np.bincount(ends.ravel(), minlength=len(points))
    ax.scatter(
        points[:, 0], points[:, 1], s=_AREA * np.sqrt(degree), c="0.25", edgecolors="white", linewidths=0.8, zorder=2
    )
    reach = 1.3 * max(float(np.abs(points).max(initial=0.0)), 1e-9)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    ax.set_xlabel(f"{len(values):,} edges between {len(points):,} of {len(names):,} genes")
    ax.spines[:].set_visible(False)
    if len(values):
        ax.figure.colorbar(lines, ax=ax, label="partial correlation", shrink=0.6)
        order = np.argsort(-degree, kind="stable")
        steps = np.linspace(0, 1, _ALONG)[:, None, None]
        along = (segments[:, 0] * (1 - steps) + segments[:, 1] * steps).reshape(-1, 2)
        place_labels(ax, points[order], [short(name) for name in names[with_edges][order]], avoid=along)
    return finish(ax, show=show, save=save)


def _matrix_of(adata: AnnData | Any, key: str) -> tuple[NDArray, NDArray[np.float64]]:
    """Names of genes, and their partial correlations (genes × genes), of a model or of what it stored."""
    if hasattr(adata, "get_network"):
        names = np.asarray(adata.genes, dtype=object)
        places = {name: place for place, name in enumerate(names)}
        edges, matrix = adata.get_network(), np.zeros((len(names), len(names)))
        first, second = (edges[column].map(places).to_numpy(dtype=int) for column in ("gene_1", "gene_2"))
        matrix[first, second] = matrix[second, first] = edges["partial_correlation"]
        return names, matrix
    line = f"scpln.tl.pln(adata, penalty='ebic', key_added={key!r})"
    stored = pairs_by(adata, key, f"{key}_network", model="PLN", line=line)
    dense = stored.toarray() if sp.issparse(stored) else np.asarray(stored)
    return adata.var_names.astype(str).to_numpy(dtype=object), dense.astype(float)


def _strongest(
    matrix: NDArray[np.float64], n_edges: int | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Ends and partial correlations of edges, the weakest first, so that stronger ones are drawn over them."""
    if n_edges is not None and n_edges < 1:
        msg = f"n_edges={n_edges}, but it must be at least 1."
        raise ValueError(msg)
    first, second = np.nonzero(np.triu(matrix, 1))
    values = matrix[first, second]
    order = np.argsort(np.abs(values), kind="stable")[-n_edges if n_edges is not None else None :]
    return first[order], second[order], values[order]


def _layout(n: int, ends: NDArray[np.intp]) -> NDArray[np.float64]:
    """Places of genes (n × 2) whose distances are as nearly those along edges as they can be, centred, from their principal coordinates."""
    if n == 0:
        return np.empty((0, 2))
    graph = sp.coo_matrix((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(n, n))
    distances = shortest_path(graph, directed=False, unweighted=True)
    known = np.isfinite(distances)
    distances[~known] = distances[known].max() + _BETWEEN
    centring = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ distances**2 @ centring)
    start = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))
    start = start + 1e-3 * np.column_stack(
        [np.cos(np.arange(n)), np.sin(np.arange(n))]
    )  # twins do not lie on each other
    target = distances + np.eye(n)

    def stress(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        apart = flat.reshape(n, 1, 2) - flat.reshape(1, n, 2)
        length = np.sqrt(np.square(apart).sum(2) + 1e-12)
        off = (length - distances) / target**2
        np.fill_diagonal(off, 0)
        slope = 2 * (off / length)[:, :, None] * apart
        return 0.5 * float((off * (length - distances)).sum()), slope.sum(1).ravel()

    points = minimize(stress, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x.reshape(n, 2)
    return np.asarray(points - points.mean(0))
