"""Names beside points, none of which covers another: deterministic, so that the same data give the same figure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.text import Text
    from numpy.typing import NDArray

logger = logging.getLogger("scpln")

#: Directions in which a name may lie from its point, as turns away from the preferred one; and distances, in heights of a line.
_TURNS = np.pi / 9 * np.array([0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 9])
_DISTANCES = np.arange(0.4, 9.0, 0.6)
#: What is given up for a better place: a line or point that a name covers, a distance of one line, a turn of 20 degrees.
_COVERED, _FAR, _TURNED = 1.0, 0.5, 0.25
#: Pixels around a name: text does not scale exactly with the resolution at which a figure is saved.
_MARGIN = 2.5
#: Heights of a line beyond which a name is tied to its point.
_TIED = 1.2


def place_labels(
    ax: Axes,
    points: NDArray[np.float64],
    names: Sequence[str],
    *,
    centre: tuple[float, float] = (0.0, 0.0),
    avoid: NDArray[np.float64] | None = None,
    fontsize: float = 8.0,
) -> None:
    """Write a name beside each point, outwards from the centre, so that none covers another.

    Parameters
    ----------
    ax
        Axes; names stay inside.
    points
        Places, in data coordinates (n × 2), the most important first.
    names
        What to write.
    centre
        From where outwards is, in data coordinates.
    avoid
        More places (m × 2) that names should rather not cover, in data coordinates; the points are avoided anyway.
    fontsize
        In points.
    """
    texts = [
        ax.text(x, y, name, fontsize=fontsize, ha="center", va="center")
        for (x, y), name in zip(points, names, strict=True)
    ]
    for text in texts:
        text.set(zorder=5, in_layout=False, path_effects=[withStroke(linewidth=2, foreground="white")])
    ax.add_artist(_Placement(ax, points, texts, centre, points if avoid is None else np.vstack([points, avoid])))


class _Placement(Artist):
    """Puts names into their places whenever the axes are drawn, since only then it is known how large these are.

    Each name takes the best of a few hundred places around its point, one after the other. One for which there is no
    free place is not shown, and the log says so.
    """

    def __init__(
        self,
        ax: Axes,
        points: NDArray[np.float64],
        texts: list[Text],
        centre: tuple[float, float],
        avoid: NDArray[np.float64],
    ) -> None:
        super().__init__()
        self.set(zorder=0, in_layout=False)  # drawn before the names
        self._points, self._texts, self._centre, self._avoid = points, texts, centre, avoid
        self._ties = LineCollection([], colors="0.7", linewidths=0.5, zorder=1)
        self._ties.set_in_layout(False)
        ax.add_collection(self._ties, autolim=False)
        self._has_warned = False

    def draw(self, renderer: RendererBase) -> None:
        """Move the names, and the lines that tie those far away to their points."""
        assert self.axes is not None
        to_pixels, frame = self.axes.transData, np.array(self.axes.get_window_extent(renderer).extents)
        tips, avoid = to_pixels.transform(self._points), to_pixels.transform(self._avoid)
        outwards = tips - to_pixels.transform(self._centre)
        taken: list[NDArray[np.float64]] = []
        ties = []
        for text, tip, direction in zip(self._texts, tips, outwards, strict=True):
            extent = text.get_window_extent(renderer)
            boxes, effort = _candidates(tip, direction, np.array([extent.width, extent.height]) / 2 + _MARGIN)
            free = _inside(boxes, frame) & ~_overlaps(boxes, taken)
            text.set_alpha(float(free.any()))
            if not free.any():
                continue
            box = boxes[np.where(free, effort + _COVERED * _covered(boxes, avoid), np.inf).argmin()]
            taken.append(box)
            x, y = to_pixels.inverted().transform((box[:2] + box[2:]) / 2)
            text.set_position((x, y))
            end = np.clip(tip, box[:2], box[2:])
            if np.linalg.norm(end - tip) > _TIED * extent.height:
                ties.append(to_pixels.inverted().transform([tip, end]))
        self._ties.set_segments(ties)
        self._warn(len(self._texts) - len(taken))

    def _warn(self, n_hidden: int) -> None:
        if n_hidden and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "There was no room for %d of %d names: draw fewer, or pass the axes of a larger figure as ax.",
                n_hidden,
                len(self._texts),
            )


def _candidates(
    tip: NDArray[np.float64], direction: NDArray[np.float64], half: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes around a point (m × 4: left, bottom, right, top) and how far-fetched each is."""
    angle = np.arctan2(direction[1], direction[0]) if np.any(direction) else np.pi / 2
    turns, distances = (grid.ravel() for grid in np.meshgrid(_TURNS, _DISTANCES))
    unit = np.column_stack([np.cos(angle + turns), np.sin(angle + turns)])
    with np.errstate(divide="ignore"):
        to_edge = (half / np.abs(unit)).min(1)  # from the middle of a box to its edge, in that direction
    middle = tip + unit * (to_edge + distances * 2 * half[1])[:, None]
    effort = _FAR * distances + _TURNED * np.abs(turns) / _TURNS[1]
    return np.hstack([middle - half, middle + half]), effort


def _inside(boxes: NDArray[np.float64], frame: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes are in the frame."""
    return np.logical_and.reduce([*(boxes[:, :2] >= frame[:2]).T, *(boxes[:, 2:] <= frame[2:]).T])


def _overlaps(boxes: NDArray[np.float64], taken: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Which boxes overlap one of those taken."""
    overlaps = np.zeros(len(boxes), dtype=bool)
    for left, bottom, right, top in taken:
        overlaps |= (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < top) & (boxes[:, 3] > bottom)
    return overlaps


def _covered(boxes: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many places each box covers."""
    return ((places >= boxes[:, None, :2]) & (places <= boxes[:, None, 2:])).all(2).sum(1).astype(float)
