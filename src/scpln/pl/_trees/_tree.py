"""A tree with what is known of its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection

from scpln.pl._axes import SEQUENTIAL, SIGNED, axes_or_new, finish, inches, name_rows
from scpln.pl._stored import short, stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Inches of a leaf's row and of a level, and the least of the figure.
_ROW, _LEVEL, _LEAST = 0.17, 1.3, 2.2
#: Areas of the smallest and largest node, in square points.
_AREAS = 8.0, 180.0
#: Font of inner nodes in points, width of a character in heights of it, and by how many rows a name stands above its branch.
_FONT, _CHARACTER, _ABOVE = 7.0, 0.6, 0.12


def tree(
    adata: AnnData,
    *,
    key: str = "treewalk",
    color: str | Mapping[str, float] | Sequence[float] | None = None,
    size: str | Mapping[str, float] | Sequence[float] | None = "mean_counts",
    color_label: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    r"""Draw the tree of a model, with sizes and colours of its nodes.

    The root is at the left, leaves are at the right, one a row.

    Parameters
    ----------
    adata
        Annotated by a model with a tree, `scpln.model.TreeWalk` or `scpln.model.PLNTree`.
    key
        Name of the results, such as ``"plntree"``.
    color
        Values of nodes: a mapping from their names (a Series; nodes that it lacks are white), an array in the order of
        ``uns[key]["tree"]["names"]``, or the name of an entry of ``uns[key]["nodes"]``: ``"mean_counts"`` or ``"proportions"`` (of totals). Values of both signs are drawn around 0.
    size
        Values that areas of nodes are in proportion to, in the same ways; by default mean counts. All alike if None.
    color_label
        What `color` is, for the colour bar.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"tree.pdf"``.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        If there are not as many values as nodes.
    KeyError
        If nothing is stored under the key.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=60, n_vars=12, n_latent=2, density=0.7)
        >>> adata.var["clade"] = [f"clade {i // 4 + 1}" for i in range(12)]
        >>> scpln.tl.tree_walk(adata, tree="clade", progress=False)
        >>> clr = adata.obsm["treewalk_proportions"]
        >>> ax = scpln.pl.tree(
        ...     adata, color=clr[:30].mean(0) - clr[30:].mean(0), color_label="difference of halves", show=False
        ... )
        >>> len(ax.get_yticklabels())
        12
    """
    names, parents, nodes = _tree_of(adata, key)
    sizes, colors = _values(size, names, nodes, "size"), _values(color, names, nodes, "color")
    is_leaf = ~np.isin(np.arange(len(names)), parents)
    points = _places(parents, is_leaf)
    depth, n_leaves = int(points[:, 0].max()), int(is_leaf.sum())
    ax = axes_or_new(ax, size=(max(_LEVEL * (depth + 1.5), 2 * _LEAST), max(_ROW * n_leaves + 0.6, _LEAST)))
    ax.add_collection(LineCollection(_branches(points, parents), colors="0.6", linewidths=0.9, zorder=1))
    largest = float(np.nanmax(sizes, initial=0.0)) if sizes is not None else 0.0
    shares = np.full(len(names), 0.15) if sizes is None or largest <= 0 else np.nan_to_num(sizes) / largest
    areas = _AREAS[0] + (_AREAS[1] - _AREAS[0]) * shares
    drawn: dict[str, Any] = {"edgecolors": "0.25", "linewidths": 0.6, "zorder": 2}
    if colors is None:
        ax.scatter(points[:, 0], points[:, 1], s=areas, c="0.45", **drawn)
    else:
        reach = float(np.nanmax(np.abs(colors), initial=0.0)) or 1.0
        signed = bool((colors < 0).any())
        of_values: dict[str, Any] = {
            "cmap": SIGNED if signed else SEQUENTIAL,
            "vmin": -reach if signed else 0,
            "vmax": reach,
        }
        dots = ax.scatter(points[:, 0], points[:, 1], s=areas, c=colors, plotnonfinite=True, **of_values, **drawn)
        dots.cmap = dots.cmap.with_extremes(bad="white")
        label = color_label or (color if isinstance(color, str) else None)
        ax.figure.colorbar(dots, ax=ax, label=label, shrink=min(1.0, 2.4 / max(inches(ax)[1], 2.4)), pad=0.02)
    ax.set(xlim=(-0.5, depth + 0.12), ylim=(n_leaves - 0.4, -0.6), xticks=[])
    ax.spines[:].set_visible(False)
    rows = np.flatnonzero(is_leaf)[np.argsort(points[is_leaf, 1])]
    name_rows(ax, [short(names[node]) for node in rows], "leaves")
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.tick_params(axis="y", length=0)
    _name_inner(ax, names, points, np.flatnonzero(~is_leaf), n_leaves)
    return finish(ax, show=show, save=save)


def _tree_of(adata: AnnData, key: str) -> tuple[list[str], NDArray[np.intp], Mapping[str, Any]]:
    """Names of nodes, the position of each one's parent, and what is known of them, as a model stored it."""
    found = stored(adata, key, "tree", model="TreeWalk")
    names, parents = [str(name) for name in found["names"]], np.asarray(found["parents"], dtype=int)
    return names, parents, adata.uns[key].get("nodes", {})


def _values(given: Any, names: list[str], nodes: Mapping[str, Any], what: str) -> NDArray[np.float64] | None:
    """Values of all nodes, NaN where there is none; None if nothing is asked for."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in nodes:
            msg = f"{what}={given!r}, but of nodes there are {list(nodes)}. Name one of these, or pass values of nodes."
            raise KeyError(msg)
        given = nodes[given]
    if hasattr(given, "keys"):
        return np.array([float(given[name]) if name in given else np.nan for name in names])
    values = np.asarray(given, dtype=float)
    if values.shape != (len(names),):
        msg = f"{what} must have one value for each of the {len(names):,} nodes, or a mapping from their names, not shape {values.shape}."
        raise ValueError(msg)
    return values


def _places(parents: NDArray[np.intp], is_leaf: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Level and row of each node: leaves at the last level, in the order of the tree, inner nodes in the middle of their children."""
    children: list[list[int]] = [[] for _ in parents]
    depths = np.zeros(len(parents))
    for node, parent in enumerate(parents[1:], 1):
        children[parent].append(node)
        depths[node] = depths[parent] + 1
    points = np.column_stack([np.where(is_leaf, depths.max(), depths), np.zeros(len(parents))])
    row, waiting = 0, [0]
    while waiting:
        node = waiting.pop()
        waiting += children[node][::-1]
        if is_leaf[node]:
            points[node, 1] = row
            row += 1
    for node in range(len(parents) - 1, -1, -1):
        if children[node]:
            points[node, 1] = points[children[node], 1][[0, -1]].mean()
    return points


def _branches(points: NDArray[np.float64], parents: NDArray[np.intp]) -> list[NDArray[np.float64]]:
    """From each parent along its level to the row of the child, and on to it."""
    pairs = zip(points[1:], points[parents[1:]], strict=True)
    return [np.array([above, (above[0], below[1]), below]) for below, above in pairs]


def _name_inner(
    ax: Axes, names: list[str], points: NDArray[np.float64], inner: NDArray[np.intp], n_leaves: int
) -> None:
    """Names of inner nodes above the branches that lead to them, as long as these."""
    width, height = inches(ax)
    row, level = height / n_leaves, width / (points[:, 0].max() + 0.62)
    font = min(_FONT, 72 * row)
    if font < _FONT / 2:
        return
    longest = max(int(72 * level / (_CHARACTER * font)) - 1, 3)
    for node in inner:
        name = names[node] if len(names[node]) <= longest else f"{names[node][: longest - 1]}…"
        x, y = points[node]
        shift = 0.5 if node == 0 else 0.9
        ax.text(
            x - shift + 0.03,
            y - _ABOVE,
            name,
            fontsize=font,
            ha="left",
            va="bottom",
            zorder=3,
        )
