"""Components, borders and labels of a mixture classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

from scpln.pl._axes import axes_or_new, bare, finish, point_size
from scpln.pl._stored import short, stored, stored_by, suggestion

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Colours of labels, which are told apart by people who see fewer (Okabe and Ito); of more labels, a colour map's.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
_MISSING = "0.7"
#: Standard deviations and line styles of the ellipses.
_ELLIPSES = ((1, "-"), (2, ":"))


def mixture_classifier(
    adata: AnnData,
    *,
    key: str = "mixture",
    color: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw rows by label, the components' ellipses, and the borders at which another label becomes the most probable.

    The plane is the embedding itself if it has two columns. Otherwise it is the one in which components and labels differ most, and shades and borders are
    at the place in all dimensions that rows there have on average. Ellipses are at one standard deviation (solid) and two (dotted) of a component's rows; numbers name
    components as in ``obs["mixture_component"]``.

    Parameters
    ----------
    adata
        Annotated by :func:`scpln.tl.mixture_classifier`.
    key
        Start of the names of the results.
    color
        Column of ``obs`` with labels of the rows; by default the one that the model was fitted to.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"classifier.pdf"``.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        There are no results of this name, or no such column.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.simulate_mixture_classifier(600, seed=2)
        >>> adata.obsm["X_pca"] = adata.X
        >>> model = scpln.tl.mixture_classifier(adata, "label", use_rep="X_pca", n_components=2)
        >>> ax = scpln.pl.mixture_classifier(adata, show=False)
        >>> sorted(text.get_text() for text in ax.texts)
        ['0', '1']
    """
    line = f"scpln.tl.mixture_classifier(adata, labels_key, key_added={key!r})"
    results = f"{key}_classifier"
    plane = stored(adata, results, "plane", model="MixtureClassifier", line=line)
    places = stored_by(adata, "obsm", key, f"{key}_plane", model="MixtureClassifier", line=line).astype(float)
    classes = [str(name) for name in adata.uns[results]["classes"]]
    column = str(adata.uns[results]["params"]["labels_key"]) if color is None else color
    if column not in adata.obs:
        msg = f"adata.obs has no {column!r} (color).{suggestion(column, list(adata.obs))}"
        raise KeyError(msg)
    labels = adata.obs[column].astype(str).to_numpy()
    colors = _colors(len(classes))
    ax = axes_or_new(ax, size=(5.6, 4.4))
    _shade(ax, plane, colors)
    _points(ax, places, labels, classes, colors)
    for number, (mean, covariance) in enumerate(zip(plane["means"], plane["covariances"], strict=True)):
        _component(ax, str(number), np.asarray(mean), np.asarray(covariance))
    first, second = (short(str(name)) for name in plane["axes"])
    ax.set(xlabel=first, ylabel=second, xlim=plane["x"][[0, -1]], ylim=plane["y"][[0, -1]])
    _legend(ax, column, classes, colors, is_missing=bool((~np.isin(labels, classes)).any()))
    bare(ax)
    return finish(ax, show=show, save=save)


def _colors(n: int) -> list[str]:
    if n <= len(_COLORS):
        return list(_COLORS[:n])
    return [mpl.colors.to_hex(color) for color in mpl.colormaps["turbo"](np.linspace(0.05, 0.95, n))]


def _shade(ax: Axes, plane: dict[str, NDArray], colors: list[str]) -> None:
    """The most probable label as a faint colour, the surer the stronger, and lines where it changes."""
    probabilities = np.asarray(plane["probabilities"])
    x, y, best = plane["x"], plane["y"], probabilities.argmax(2)
    rgb = np.array([mpl.colors.to_rgb(color) for color in colors])[best]
    chance = 1 / probabilities.shape[2]
    sure = (probabilities.max(2, keepdims=True) - chance) / (1 - chance)
    image = np.concatenate([rgb, 0.06 + 0.24 * np.clip(sure, 0, 1)], axis=2)
    ax.imshow(
        image, extent=(x[0], x[-1], y[0], y[-1]), origin="lower", aspect="auto", interpolation="bilinear", zorder=0
    )
    for label in np.unique(best) if len(colors) > 2 else [1]:
        others = np.delete(probabilities, label, axis=2).max(2)
        lead = probabilities[:, :, label] - others
        if lead.min() < 0 < lead.max():
            ax.contour(x, y, lead, levels=[0], colors="black", linewidths=1.2, zorder=3)


def _points(ax: Axes, places: NDArray, labels: NDArray, classes: list[str], colors: list[str]) -> None:
    """Rows in an order that has nothing to do with their labels."""
    of_label = dict(zip(classes, colors, strict=True))
    shown = [of_label.get(label, _MISSING) for label in labels]
    order = np.random.default_rng(0).permutation(len(places))
    ax.scatter(
        places[order, 0],
        places[order, 1],
        c=[shown[row] for row in order],
        s=point_size(len(places)) / 3,
        linewidths=0,
        alpha=0.75,
        zorder=2,
        rasterized=True,
    )


def _component(ax: Axes, name: str, mean: NDArray, covariance: NDArray) -> None:
    """Ellipses around a component's mean, and its name there."""
    variance, axes = np.linalg.eigh(covariance)
    angle = float(np.degrees(np.arctan2(axes[1, 0], axes[0, 0])))
    halo = [withStroke(linewidth=3.2, foreground="white", alpha=0.8)]
    for sds, style in _ELLIPSES:
        width, height = 2 * sds * np.sqrt(np.maximum(variance, 0))
        ax.add_patch(
            Ellipse(
                (mean[0], mean[1]),
                width,
                height,
                angle=angle,
                fill=False,
                linestyle=style,
                linewidth=1.3,
                path_effects=halo,
                zorder=4,
            )
        )
    ax.text(
        mean[0], mean[1], short(name), ha="center", va="center", fontsize=11, weight="bold", path_effects=halo, zorder=5
    )


def _legend(ax: Axes, title: str, classes: list[str], colors: list[str], *, is_missing: bool) -> None:
    """Colours of labels, and what lines are."""
    marks = [
        Line2D([], [], linestyle="", marker="o", color=color, markersize=5, label=short(name))
        for name, color in zip(classes, colors, strict=True)
    ]
    if is_missing:
        marks.append(Line2D([], [], linestyle="", marker="o", color=_MISSING, markersize=5, label="no label"))
    marks.append(Line2D([], [], color="black", linewidth=1.2, label="border"))
    marks.append(Line2D([], [], color="black", linewidth=1.3, linestyle=":", label="component, 2 s.d."))
    ax.legend(handles=marks, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize="small")
