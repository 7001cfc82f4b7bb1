"""A table of samples by cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from mudata import MuData

from scpln.data import Coding, as_list, get_column
from scpln.utils import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Joins the values of several columns into the name of a sample.
JOINT = "_"
#: Counts that are the largest, and cells of it, from which on types seem to have been cut off at a number of cells.
_MANY, _CELLS = 3, 10
#: Share of the largest count that the next ones have at least.
_NEAR = 0.75


def composition(
    adata: ad.AnnData | MuData,
    sample_key: str | Sequence[str],
    label_key: str | Sequence[str],
    *,
    covariate_keys: str | Sequence[str] | None = None,
) -> ad.AnnData:
    """Count the cells of each type in each sample: a table that every model of counts reads.

    Types that a sample lacks are zeros of its row. What is known of samples, such as their condition, comes along.

    Parameters
    ----------
    adata
        Annotated data of cells.
    sample_key
        Column of ``obs`` with samples (donors, libraries), or several columns whose combinations are samples.
    label_key
        Column of ``obs`` with cell types; or several, nested, from coarse to fine, such as ``["class", "subclass"]``: the last gives
        the columns of the table, and the others are kept in its ``var``.
    covariate_keys
        Columns of ``obs`` that describe samples. By default all that have one value in each sample. One that is named here must.

    Returns
    -------
    AnnData of samples × types with counts in ``X`` (CSR), covariates and ``n_cells`` in ``obs``, coarser labels in ``var``, and
    ``uns["composition"]`` that says what it was made of. Cells without sample or label are left out, with a warning.

    Raises
    ------
    TypeError
        If `adata` is something else.
    ValueError
        If there is no such column, or one is named twice; no cell has a sample and a label; a covariate of `covariate_keys` has two values in one sample; or labels
        are not nested.

    Examples
    --------
    >>> import numpy as np, scpln
    >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=20, n_latent=2)
    >>> adata.obs["donor"] = np.resize(["d1", "d2", "d3"], 300)
    >>> adata.obs["condition"] = np.where(adata.obs["donor"] == "d1", "control", "case")
    >>> adata.obs["type"] = np.where(adata.X[:, 0].toarray().ravel() > 0, "B", "T")
    >>> table = scpln.tl.composition(adata, "donor", "type")
    >>> table.shape, int(table.X.sum()), table.obs["condition"].tolist()
    ((3, 2), 300, ['control', 'case', 'case'])
    >>> scpln.model.setup_anndata(table, size_factor_key="n_cells", categorical_covariate_keys=["condition"])
    """
    sample_keys, label_keys = as_list(sample_key), as_list(label_key)
    _check(adata, sample_keys, label_keys)
    obs = adata.obs
    known = obs[[*sample_keys, *label_keys]].notna().all(axis=1).to_numpy()
    if not known.all():
        if not known.any():
            msg = f"No cell has a value in all of {[*sample_keys, *label_keys]}, so that there is nothing to count."
            raise ValueError(msg)
        warn(
            f"{(~known).sum():,} of {len(known):,} cells lack a value of {[*sample_keys, *label_keys]} and are not counted."
        )
    obs = obs.loc[known]
    samples, types = _sample_of(obs, sample_keys), _codes(obs[label_keys[-1]])
    var = _lineages(obs, label_keys, types)
    ones = np.ones(len(obs), np.float32)
    shape = len(samples.categories), len(types.categories)
    counts = sp.csr_matrix((ones, (samples.codes, types.codes)), shape=shape)
    counts.sum_duplicates()
    _warn_of_limit(counts)
    table = ad.AnnData(counts, obs=_covariates(obs, samples, sample_keys, covariate_keys, label_keys), var=var)
    table.obs["n_cells"] = np.asarray(counts.sum(1)).ravel().astype(np.int64)
    table.uns["composition"] = {"sample_key": sample_keys, "label_key": label_keys}
    return table


def _check(adata: ad.AnnData | MuData, sample_keys: list[str], label_keys: list[str]) -> None:
    """Refuse what has no cells, or no such columns."""
    if not isinstance(adata, ad.AnnData | MuData):
        msg = f"adata must be an AnnData or MuData of cells, not {type(adata).__name__}. Read one: `anndata.read_h5ad(path)`."
        raise TypeError(msg)
    if not adata.n_obs:
        msg = "adata has no cells, so that there is nothing to count. If it was filtered or subset before, that removed all of them."
        raise ValueError(msg)
    for name, keys in (("sample_key", sample_keys), ("label_key", label_keys)):
        if not keys:
            msg = f"{name}={keys!r}, but it must name one column of obs or more."
            raise ValueError(msg)
        for key in keys:
            get_column(adata.obs, key, name)
    both = pd.Index([*sample_keys, *label_keys])
    if both.has_duplicates:
        msg = f"{both[both.duplicated()][0]!r} is named twice in sample_key and label_key. Name each column once."
        raise ValueError(msg)


def _warn_of_limit(counts: sp.csr_matrix) -> None:
    """Say that cells seem to have been left out of what is frequent, so that counts are no composition."""
    largest = counts.max()
    number = int((counts.data == largest).sum())
    # Of counts that were not cut off, there are more below the largest than are it.
    below = int((counts.data >= _NEAR * largest).sum()) - number
    if largest >= _CELLS and number >= _MANY and number > below:
        warn(
            f"{number} of {counts.shape[0] * counts.shape[1]} counts are {largest:.0f}, the largest: it seems that at most so many cells of each type and sample were kept. Such counts "
            "say nothing of how frequent types are. Count all cells, before any are left out."
        )


def _codes(column: pd.Series) -> pd.Categorical:
    """As categories that occur, with names as text."""
    coding = Coding.of(column)
    return pd.Categorical.from_codes(coding.codes, coding.categories)


def _sample_of(obs: pd.DataFrame, keys: list[str]) -> pd.Categorical:
    """Sample of each cell; combinations of several columns in the order of these."""
    parts = [_codes(obs[key]) for key in keys]
    if len(parts) == 1:
        return parts[0]
    codes = pd.DataFrame({i: part.codes for i, part in enumerate(parts)})
    found = codes.drop_duplicates().sort_values(list(codes.columns))
    names = [JOINT.join(parts[i].categories[code] for i, code in enumerate(row)) for row in found.to_numpy()]
    twice = pd.Index(names)[pd.Index(names).duplicated()]
    if len(twice):
        msg = f"Two combinations of {keys} (sample_key) would both be named {twice[0]!r}. Rename a category of one of these columns."
        raise ValueError(msg)
    rows = pd.MultiIndex.from_frame(found).get_indexer(pd.MultiIndex.from_frame(codes))
    return pd.Categorical.from_codes(rows, names)


def _lineages(obs: pd.DataFrame, keys: list[str], types: pd.Categorical) -> pd.DataFrame:
    """Coarser labels of each type."""
    var = pd.DataFrame(index=pd.Index(types.categories.astype(str), name=keys[-1]))
    for finer, coarser in zip(keys[:0:-1], keys[-2::-1], strict=True):
        pairs = obs[[coarser, finer]].drop_duplicates()
        twice = pairs[pairs[finer].duplicated()]
        if len(twice):
            label = twice[finer].iloc[0]
            parents = [str(value) for value in pairs.loc[pairs[finer] == label, coarser]]
            msg = (
                f"Labels are not nested: {finer}={str(label)!r} is in {coarser}={parents[0]!r} and {parents[1]!r}. Name them from coarse to fine "
                "(label_key), and rename what has one name in two places."
            )
            raise ValueError(msg)
    for key in keys[:-1]:
        of_type = obs[key].groupby(np.asarray(types), observed=True).first()
        var[key] = of_type.set_axis(of_type.index.astype(str)).reindex(var.index).to_numpy()
        var[key] = var[key].astype(str).astype("category")
    return var


def _covariates(
    obs: pd.DataFrame,
    samples: pd.Categorical,
    sample_keys: list[str],
    wanted: str | Sequence[str] | None,
    label_keys: list[str],
) -> pd.DataFrame:
    """What is known of samples: columns with one value in each, or those that are wanted."""
    names = pd.Index(samples.categories.astype(str), name=JOINT.join(sample_keys))
    first = np.full(len(names), -1)
    first[samples.codes[::-1]] = np.arange(len(obs))[::-1]
    keys = [key for key in obs.columns if key not in label_keys]
    if wanted is not None:
        keys = list(dict.fromkeys([*sample_keys, *as_list(wanted)]))
    kept = {}
    for key in keys:
        column = get_column(obs, key, "covariate_keys")
        values = pd.factorize(column)[0]
        differs = values != values[first][samples.codes]
        if not differs.any():
            kept[key] = column.iloc[first].set_axis(names)
        elif wanted is not None:
            cell = min(np.flatnonzero(differs), key=lambda position: samples.codes[position])
            sample = samples.codes[cell]
            two = sorted([str(column.iloc[first[sample]]), str(column.iloc[cell])])
            msg = (
                f"{key!r} (covariate_keys) has two values in sample {names[sample]!r}, {two[0]} and {two[1]}: it does not describe samples. "
                "Leave it out, or add it to sample_key."
            )
            raise ValueError(msg)
    found = pd.DataFrame(kept, index=names)
    for key in found.columns:
        if isinstance(found[key].dtype, pd.CategoricalDtype):
            found[key] = found[key].cat.remove_unused_categories()
    if found.index.name in found:  # files have one column of a name
        found.index.name = None
    return found
