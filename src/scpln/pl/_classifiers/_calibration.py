"""Whether probabilities of labels are what they say, and how many cells can have a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.pl._axes import axes_or_new, bare, finish, legend_above
from scpln.pl._stored import stored

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

_BEFORE, _AFTER = "0.6", "#0072B2"


def reliability(
    adata: AnnData,
    *,
    key: str = "label",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the share of right labels against the probability that they were given, of held-out cells, before and after the temperature.

    On the diagonal, probabilities are what they say; below it, they are too sure. Areas of the points are by cells.

    Parameters
    ----------
    adata
        Annotated by :func:`scpln.tl.label_transfer`, or by a :class:`scpln.model.LabelClassifier` that is calibrated.
    key
        Name of the results.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"reliability.pdf"``.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        There are no results of this name, or their model was not calibrated.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> import scanpy as sc
        >>> adata = scpln.datasets.pbmc68k_reduced()
        >>> sc.pp.pca(adata, 30)
        >>> ref, query = adata[:500].copy(), adata[500:].copy()
        >>> model = scpln.tl.label_transfer(ref, query, "bulk_labels", use_rep="X_pca", progress=False)
        >>> ax = scpln.pl.reliability(query, show=False)
        >>> ax.get_xlabel()
        'probability'
    """
    found = _calibration(adata, key)
    ax = axes_or_new(ax, size=(3.8, 3.6))
    ax.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
    for name, color, label in (("_before", _BEFORE, "before"), ("", _AFTER, "after")):
        table = {column: np.asarray(values, dtype=float) for column, values in found[f"reliability{name}"].items()}
        share = table["n_cells"] / table["n_cells"].sum()
        ece = float(found[f"scores{name}"]["ece"])
        ax.plot(table["confidence"], table["accuracy"], color=color, linewidth=1, label=f"{label}: ECE {ece:.3f}")
        ax.scatter(table["confidence"], table["accuracy"], s=6 + 150 * share, color=color, linewidths=0, alpha=0.7)
    ax.set(xlabel="probability", ylabel="share of right labels", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    legend_above(ax)
    bare(ax)
    return finish(ax, show=show, save=save)


def risk_coverage(
    adata: AnnData,
    *,
    key: str = "label",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the share of errors among the surest cells against how many of the cells these are, of held-out cells.

    Dotted lines are where cells stop to get a label, if a share of errors was asked for.

    Parameters
    ----------
    adata
        Annotated by :func:`scpln.tl.label_transfer`, or by a :class:`scpln.model.LabelClassifier` that is calibrated.
    key
        Name of the results.
    ax
        Axes to draw on, instead of a new figure's.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"risk.pdf"``.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        There are no results of this name, or their model was not calibrated.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> import scanpy as sc
        >>> adata = scpln.datasets.pbmc68k_reduced()
        >>> sc.pp.pca(adata, 30)
        >>> ref, query = adata[:500].copy(), adata[500:].copy()
        >>> model = scpln.tl.label_transfer(ref, query, "bulk_labels", use_rep="X_pca", progress=False)
        >>> ax = scpln.pl.risk_coverage(query, show=False)
        >>> ax.get_ylabel()
        'share of errors'
    """
    found = _calibration(adata, key)
    table = {name: np.asarray(values, dtype=float) for name, values in found["risk_coverage"].items()}
    ax = axes_or_new(ax, size=(3.8, 3.2))
    ax.step(table["coverage"], table["risk"], where="post", color=_AFTER, linewidth=1.3)
    written = adata.uns[key]
    if "threshold" in written:
        ax.axhline(float(written["target_error"]), color="0.5", linewidth=1, linestyle=":")
        labelled = table["coverage"][table["threshold"] >= float(written["threshold"])]
        ax.axvline(labelled.max(initial=0.0), color="0.5", linewidth=1, linestyle=":")
    ax.set(xlabel="share of cells with a label", ylabel="share of errors", xlim=(0, 1.02))
    ax.set_ylim(bottom=0)
    bare(ax)
    return finish(ax, show=show, save=save)


def _calibration(adata: AnnData, key: str) -> dict[str, Any]:
    """What is stored of the calibration."""
    line = f"scpln.tl.label_transfer(ref, adata, labels_key, key_added={key!r})"
    training = stored(adata, key, "training", model="LabelClassifier", line=line)
    if "calibration" not in training:
        msg = f"adata.uns[{key!r}] has no calibration. Call model.calibrate() and model.annotate(adata, key_added={key!r}) first."
        raise KeyError(msg)
    return dict(training["calibration"])
