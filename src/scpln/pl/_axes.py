"""What every figure does the same way: take axes or make them, style them, show and save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Colours of numbers from −1 to 1. The positive end is the darker one, so that the sign survives printing in grey.
SIGNED = ListedColormap(
    mpl.colormaps["PuOr"](np.concatenate([np.linspace(0.22, 0.5, 128, endpoint=False), np.linspace(0.5, 1, 128)])),
    name="signed",
)
#: Colours of probabilities: the positive half of those, so that most of a sparse table stays white.
SEQUENTIAL = ListedColormap(mpl.colormaps["PuOr"](np.linspace(0.5, 1, 256)), name="sequential")
#: Points of a font that is still read, and of the one to use where there is room.
_SMALLEST_FONT, _LARGEST_FONT = 4.5, 8.0
#: Width of a character, in heights of its font.
_CHARACTER = 0.62


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (4.8, 3.4)) -> Axes:
    """The given axes, or those of a new figure of `size` inches."""
    if ax is None:
        return without_grid(plt.subplots(figsize=size, layout="constrained")[1])
    if not isinstance(ax, Axes):
        msg = f"ax must be a matplotlib Axes, not {type(ax).__name__}: this figure has one panel."
        raise TypeError(msg)
    return without_grid(ax)


def panels(
    ax: Axes | Sequence[Axes] | NDArray | None, n: int, *, columns: int, size: tuple[float, float]
) -> NDArray[np.object_]:
    """Axes of `n` panels: the given ones, or those of a new figure, where each takes `size` inches."""
    if ax is not None:
        given = np.empty(0, dtype=object) if isinstance(ax, str) else np.ravel(np.asarray(ax, dtype=object))
        if len(given) != n or not all(isinstance(one, Axes) for one in given):
            msg = f"ax must be {n} matplotlib Axes, one for each panel, and {len(given)} were given."
            raise ValueError(msg)
        for one in given:
            without_grid(one)
        return given
    columns = min(columns, n)
    rows = -(-n // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, layout="constrained"
    )
    for spare in grid.flat[n:]:
        figure.delaxes(spare)
    for one in grid.flat[:n]:
        without_grid(one)
    return grid.ravel()[:n]


def without_grid(ax: Axes) -> Axes:
    """The same axes without grid lines, which ``scanpy.set_figure_params`` turns on, and which would cross bars and images."""
    ax.grid(False)
    return ax


def bare(ax: Axes) -> None:
    """Leave out the frame's upper and right sides."""
    ax.spines[["top", "right"]].set_visible(False)


def legend_above(ax: Axes) -> None:
    """Put the legend above the axes, where there are no data, in one row."""
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        frameon=False,
        fontsize="small",
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.6,
    )


def name_rows(ax: Axes, names: Sequence[str], what: str, *, columns: bool = False) -> None:
    """Label each row (or column) of an image or bar chart, as large as fits; if nothing does, say how many there are.

    Parameters
    ----------
    ax
        Axes with rows at 0, 1, ….
    names
        Of the rows, from the first one.
    what
        What the rows are, in the plural.
    columns
        Whether to label columns in place of rows.
    """
    if not names:
        return
    width, height = inches(ax)
    font = min(_LARGEST_FONT, 0.8 * 72 * (width if columns else height) / max(len(names), 1))
    axis = ax.xaxis if columns else ax.yaxis
    if font < _SMALLEST_FONT:
        axis.set_ticks([])
        axis.set_label_text(f"{len(names):,} {what}")
        return
    axis.set_ticks(range(len(names)), labels=list(names), fontsize=font)
    axis.set_tick_params(length=0)
    if columns and _CHARACTER * font * max(map(len, names)) > 0.8 * 72 * width / len(names):
        ax.tick_params(axis="x", rotation=90)


def inches(ax: Axes) -> tuple[float, float]:
    """Width and height of axes, as far as these are known before their labels are."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    place, (width, height) = ax.get_position(), figure.get_size_inches()
    return place.width * width, place.height * height


def side_for(n: int, *, each: float = 0.15, margin: float = 1.2, most: float = 12.0) -> float:
    """Inches of a figure's side with `n` labelled rows."""
    return float(np.clip(margin + each * n, 3.0, most))


def name_inches(names: Sequence[str]) -> float:
    """Width of the longest name, in inches."""
    return _CHARACTER * _LARGEST_FONT / 72 * max(map(len, names), default=0)


def point_size(n: int) -> float:
    """Area of a marker, in square points, with which `n` cells can be told apart."""
    return float(np.clip(100_000 / max(n, 1), 1.5, 60.0))


def finish(ax: Any, *, show: bool | None, save: str | Path | None) -> Any:
    """Save, show and return the axes.

    Parameters
    ----------
    ax
        What was drawn on: axes, or an array of them.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, in any format that matplotlib knows by its ending.
    """
    figure = np.ravel(np.asarray(ax, dtype=object))[0].get_figure(root=True)
    if save is not None:
        if isinstance(save, bool):
            msg = f"save={save}, but it must be the name of a file, for instance save='figure.pdf'."
            raise TypeError(msg)
        figure.savefig(Path(save).expanduser(), dpi=150, bbox_inches="tight")
    if plt.isinteractive() and save is None if show is None else show:
        plt.show()
    return ax
