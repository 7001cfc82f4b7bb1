"""The order of samples, from columns of ``obs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scpln.data import Coding, get_column
from scpln.inference.genespace.series import Order

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

#: A day in nanoseconds.
DAY = 86_400 * 10**9


def read_order(adata: AnnData, order_key: str, group_key: str | None, time_step: float | None = None) -> Order:
    """Which samples follow each other, after how many time steps.

    Raises
    ------
    ValueError
        There is no such column, times are missing or no numbers, a series has a time twice, or a group is missing.
    """
    times = _times(get_column(adata.obs, order_key, "order_key"), order_key)
    groups = np.zeros(adata.n_obs, np.int64)
    if group_key is not None:
        groups = Coding.of(get_column(adata.obs, group_key, "group_key")).codes
        if (groups < 0).any():
            first = adata.obs_names[np.flatnonzero(groups < 0)[0]]
            msg = f"adata.obs[{group_key!r}] (group_key) is missing for {(groups < 0).sum():,} of {len(groups):,} samples, first for {first!r}: say which series they are of."
            raise ValueError(msg)
    return Order.of(groups, times, time_step, list(adata.obs_names))


def _times(column: pd.Series, key: str) -> NDArray[np.float64]:
    """Numbers; of dates, days."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    missing = column.isna()
    if missing.any():
        msg = f"adata.obs[{key!r}] (order_key) is missing for {missing.sum():,} of {len(column):,} samples, first for {column.index[missing.to_numpy().argmax()]!r}."
        raise ValueError(msg)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        start = column.min()
        return ((column - start) / pd.Timedelta(DAY)).to_numpy(np.float64)
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return (column / pd.Timedelta(DAY)).to_numpy(np.float64)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(np.float64)
    msg = f"adata.obs[{key!r}] (order_key) has values such as {column.iloc[0]!r}, but times are numbers or dates: turn them into these."
    raise ValueError(msg)
