# ruff: noqa: PT028 -- it is what users test, not a test
"""Genes whose expression goes with a covariate, where scanpy looks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike

    from scpln.inference.uncertainty import ErrorMethod
    from scpln.model import PLN, PLNPCA

#: Tables that scanpy knows, with the types of their values.
_FIELDS = {
    "names": "O",
    "scores": "float32",
    "logfoldchanges": "float32",
    "pvals": "float64",
    "pvals_adj": "float64",
}


def test_covariates(
    model: PLN | PLNPCA,
    contrast: str | dict[str, float] | ArrayLike | Sequence[Any],
    *,
    method: ErrorMethod = "hc3",
    donor_key: str | None = None,
    reference: str | Sequence[str] | None = None,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Wald tests of a covariate's coefficients, gene by gene, as a table and, if wanted, where scanpy looks for them.

    Parameters
    ----------
    model
        A trained `PLN` or `PLNPCA`, with the cells that it was trained on.
    contrast, method, donor_key, reference
        As in :meth:`scpln.model.PLNPCA.test_covariates`. A covariate that donors differ in has to have `donor_key`.
    key_added
        Name in ``adata.uns`` under which the table is written as ``scanpy.tl.rank_genes_groups`` does, with one group that has the
        contrast's name; nothing is written if None. Tests of several contrasts at once have no fold change there.

    Returns
    -------
    As :meth:`scpln.model.PLNPCA.test_covariates`.

    Raises
    ------
    TypeError
        If the model is not a PLN or PLNPCA.
    ValueError
        If there is no such coefficient.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2, n_batches=2)
    >>> scpln.model.setup_anndata(adata, batch_key="batch")
    >>> model = scpln.model.PLNPCA(adata, n_latent=2)
    >>> model.train(progress=False)
    >>> table = scpln.tl.test_covariates(model, "batch[T.1]", key_added="batch")
    >>> sc.get.rank_genes_groups_df(adata, group="batch[T.1]", key="batch").columns.to_list()
    ['names', 'scores', 'logfoldchanges', 'pvals', 'pvals_adj']
    """
    from scpln.data import as_list
    from scpln.model.abilities import StandardErrors
    from scpln.utils import storable_name

    if not isinstance(model, StandardErrors):
        msg = f"model must be a trained PLN or PLNPCA, not {type(model).__name__}."
        raise TypeError(msg)
    key = None if key_added is None else storable_name("key_added", key_added)
    table = model.test_covariates(contrast, method=method, donor_key=donor_key, reference=reference)
    if key is not None:
        group = contrast if isinstance(contrast, str) else "contrast"
        params = {"groupby": "", "reference": "", "method": f"scpln, {method}", "use_raw": False}
        given = {"donor_key": donor_key, "relative_to": as_list(reference) or None}
        params |= {
            "corr_method": "benjamini-hochberg",
            **{name: value for name, value in given.items() if value is not None},
        }
        model.adata.uns[key] = {"params": params, **_records(table, group)}
    return table


def _records(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """Each column with one group, in scanpy's form."""
    records: dict[str, Any] = {}
    for field, dtype in _FIELDS.items():
        record = np.empty(len(table), dtype=[(name, dtype)])
        record[name] = table[field].to_numpy() if field in table else np.nan
        records[field] = record.view(np.recarray)
    return records
