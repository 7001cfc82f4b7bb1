"""Cells in latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

from ._axes import finish, panels, point_size
from ._stored import check_pair, component_names, latent_states, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Panels in a row of a new figure.
_COLUMNS = 3

#: Values of a column that can be told apart by colour at all.
_MOST_VALUES = 200


def latent(
    adata: AnnData,
    *,
    key: str = "plnpca",
    components: tuple[int, int] = (1, 2),
    color: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Axes | NDArray[np.object_]:
    """Draw cells in two dimensions of the latent space, through :func:`scanpy.pl.embedding`.

    Parameters
    ----------
    adata
        Annotated by a model.
    key
        Name of the results.
    components
        The two latent dimensions, numbered from 1. Of PLN-PCA the axes say how much of the variance of log-rates each
        explains.
    color
        Column of ``obs`` or gene whose values colour the cells; several for one panel each. Missing values are light
        grey. By default the clusters of a mixture model, or none.
    ax
        Axes to draw on, instead of a new figure's: one for each panel.
    show
        Show the figure; by default, if the session is interactive and the figure is not saved.
    save
        File to write, for instance ``"latent.pdf"``.
    **kwargs
        Passed to :func:`scanpy.pl.embedding`: ``layer``, ``use_raw``, ``palette``, ``cmap``, ``legend_loc``, ``size``, …

    Returns
    -------
    The axes; an array of them if `color` is a list.

    Examples
    --------
    .. plot::

        >>> import scpln
        >>> adata = scpln.datasets.pbmc68k_reduced()[:, :300].copy()
        >>> scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=5, progress=False)
        >>> ax = scpln.pl.latent(adata, color="bulk_labels", show=False)
        >>> ax.get_xlabel()
        'component 1 (... %)'
    """
    n_latent = latent_states(adata, key).shape[1]
    first, second = check_pair(components, n_latent, key)
    if color is None and f"{key}_cluster" in adata.obs:
        color = f"{key}_cluster"
    colors = [color] if color is None or isinstance(color, str) else list(color)
    _check_colors(adata, colors, kwargs)
    legend = max(_legend_inches(adata, name) for name in colors)
    axes = panels(ax, len(colors), columns=_COLUMNS, size=(4.2 + legend, 4.0))
    across, up = component_names(adata, key, (first, second))
    for one, name in zip(axes, colors, strict=True):
        shown, is_date = _drawable(adata, name, f"X_{key}")
        draw_embedding(shown, one, basis=f"X_{key}", dimensions=(first - 1, second - 1), color=name, **kwargs)
        if is_date and (bar := one.collections[0].colorbar) is not None:
            bar.ax.yaxis.set_major_locator(locator := AutoDateLocator())
            bar.ax.yaxis.set_major_formatter(ConciseDateFormatter(locator))
        one.set(xlabel=across, ylabel=up)
    return finish(axes[0] if color is None or isinstance(color, str) else axes, show=show, save=save)


def draw_embedding(adata: AnnData, ax: Axes, **kwargs: Any) -> None:
    """Draw cells of an embedding with scanpy, with points and a legend that suit their number."""
    import scanpy as sc

    _make_current(ax)
    settings = {"size": point_size(adata.n_obs), "legend_fontsize": "small", **kwargs}
    sc.pl.embedding(adata, ax=ax, show=False, **settings)


def _drawable(adata: AnnData, name: str | None, basis: str) -> tuple[AnnData, bool]:
    """Data whose column scanpy can draw, and whether it is dates, as days: not all kinds of columns are known there."""
    column = None if name is None else adata.obs.get(name)
    if column is None:
        return adata, False
    is_date = pd.api.types.is_datetime64_any_dtype(column)
    if is_date:
        values = column.dt.tz_localize(None) if column.dt.tz is not None else column
        drawn = pd.Series(date2num(values.to_numpy()), index=column.index)
    elif isinstance(column.dtype, pd.BooleanDtype):
        drawn = column.astype(object).map({True: "True", False: "False"}).astype("category")
    elif isinstance(column.dtype, pd.Int64Dtype | pd.Float64Dtype | pd.Int32Dtype | pd.Float32Dtype):
        drawn = column.astype(float)
    elif (
        not isinstance(column.dtype, pd.CategoricalDtype) and pd.api.types.is_string_dtype(column) and column.is_unique
    ):
        drawn = column.astype("category")  # scanpy does this itself, but not where all texts differ
    else:
        return adata, False
    return type(adata)(obs=pd.DataFrame({name: drawn}), obsm={basis: adata.obsm[basis]}), is_date


def _check_colors(adata: AnnData, colors: Sequence[str | None], kwargs: dict[str, Any]) -> None:
    """Refuse colours that there are not, where scanpy would look for them."""
    if not colors:
        msg = "color is empty. Pass columns of adata.obs or genes, or leave it out."
        raise ValueError(msg)
    genes = adata.var_names
    if kwargs.get("gene_symbols") is not None:
        genes = genes.append(pd.Index(adata.var[kwargs["gene_symbols"]]))
    raw = getattr(adata, "raw", None)
    if raw is not None:
        genes = genes.append(raw.var_names)
    for name in colors:
        if name is not None and name not in adata.obs and name not in genes:
            near = suggestion(name, [*adata.obs, *genes])
            msg = f"color={name!r} is neither a column of adata.obs nor a gene.{near}"
            raise KeyError(msg)
        column = None if name is None else adata.obs.get(name)
        if column is not None and not pd.api.types.is_numeric_dtype(column.dtype):
            n_values = 0 if pd.api.types.is_datetime64_any_dtype(column) else column.nunique()
            if n_values > _MOST_VALUES:
                msg = f"adata.obs[{name!r}] (color) has {n_values:,} different values: pass a column of labels, or of numbers."
                raise ValueError(msg)


def _legend_inches(adata: AnnData, name: str | None) -> float:
    """Room for the legend of a column of ``obs``, which scanpy draws beside the axes in one to three columns."""
    if name is None:
        return 0.0
    column = adata.obs.get(name)
    if column is None or (pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)):
        return 0.5
    if pd.api.types.is_datetime64_any_dtype(column):
        return 0.9
    names = column.dropna().astype(str).unique()
    longest = max(map(len, names), default=0)
    return (1 if len(names) <= 14 else 2 if len(names) <= 30 else 3) * (0.4 + 0.075 * longest)


def _make_current(ax: Axes) -> None:
    """Make axes pyplot's current ones, which is where scanpy draws colour bars."""
    figure = ax.get_figure(root=True)
    if figure is not None and figure.canvas.manager is not None:
        plt.sca(ax)
