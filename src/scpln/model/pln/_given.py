"""Matrices of genes that a user gives, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scpln.model.abilities import Loadings

from ._covariances import Covariances

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data
    from scpln.model.base import ScplnModel

#: Standard deviation of a direction that does not count as one, as a share of the largest.
LEAST_SHARE = 1e-4
#: Families of Σ that need one.
OF_MATRICES = ("fixed", "kernel")


def given_matrix(
    given: pd.DataFrame | ArrayLike | str | None, covariance: str, adata: Data, genes: list[str]
) -> NDArray[np.float64] | None:
    """The matrix for a model's genes, (p, p); None for families that need none. What it has to be, the family checks."""
    if covariance not in OF_MATRICES:
        if given is not None:
            msg = f"given= is for {' and '.join(f'covariance={name!r}' for name in OF_MATRICES)}, and this is {covariance!r}. Leave it out."
            raise ValueError(msg)
        return None
    if given is None:
        msg = f"covariance={covariance!r} is that of a matrix of genes × genes. Pass given='its name in adata.varp'."
        raise ValueError(msg)
    if isinstance(given, str):
        if given not in adata.varp:
            msg = f"given={given!r} is not in adata.varp, which has {list(adata.varp)}."
            raise ValueError(msg)
        values = adata.varp[given]
        dense = values.toarray() if sp.issparse(values) else np.asarray(values)
        given = pd.DataFrame(dense, index=adata.var_names, columns=adata.var_names)
    if isinstance(given, pd.DataFrame):
        missing = [gene for gene in genes if gene not in given.index or gene not in given.columns]
        if missing:
            msg = f"given= lacks {len(missing):,} of {len(genes):,} genes, first {missing[0]!r}: rows and columns go by name."
            raise ValueError(msg)
        given = given.loc[genes, genes].to_numpy()
    try:
        matrix = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        msg = f"given={given!r} is no matrix of numbers."
        raise TypeError(msg) from None
    return matrix


def given_basis(
    basis: pd.DataFrame | ArrayLike | str | ScplnModel | None, covariance: str, adata: Data, genes: list[str]
) -> NDArray[np.float64] | None:
    """Directions for a model's genes, (p, q); None for other families. What they have to be, `Basis` checks."""
    if covariance != "basis":
        if basis is not None:
            msg = f"basis= is for covariance='basis', and this is {covariance!r}. Leave it out."
            raise ValueError(msg)
        return None
    if basis is None:
        msg = "covariance='basis' is that of known directions. Pass basis='their name in adata.varm'."
        raise ValueError(msg)
    if isinstance(basis, str):
        if basis not in adata.varm:
            msg = f"basis={basis!r} is not in adata.varm, which has {list(adata.varm)}."
            raise ValueError(msg)
        basis = pd.DataFrame(np.asarray(adata.varm[basis]), index=adata.var_names)
    if isinstance(basis, Covariances | Loadings):
        basis = _eigenvectors(basis)
    if isinstance(basis, pd.DataFrame):
        missing = [gene for gene in genes if gene not in basis.index]
        if missing:
            msg = f"basis= lacks {len(missing):,} of {len(genes):,} genes, first {missing[0]!r}: rows go by name."
            raise ValueError(msg)
        basis = basis.loc[genes].to_numpy()
    try:
        return np.asarray(basis, np.float64)
    except (TypeError, ValueError):
        msg = f"basis={basis!r} is no matrix of numbers."
        raise TypeError(msg) from None


def _eigenvectors(model: Covariances | Loadings) -> pd.DataFrame:
    """Directions in which a fitted model's log-rates vary, (p, q), without those in which they do not."""
    if isinstance(model, Loadings):
        loadings = model.get_loadings()
        covariance = model.module.generative.prior.total_covariance().numpy()
        root = loadings.to_numpy() @ np.linalg.cholesky(covariance)
    else:
        loadings = model.get_covariance()
        values, vectors = np.linalg.eigh(loadings.to_numpy())
        root = vectors * np.sqrt(np.maximum(values, 0))
    vectors, sizes, _ = np.linalg.svd(root, full_matrices=False)
    return pd.DataFrame(vectors[:, sizes > LEAST_SHARE * sizes[0]], index=loadings.index)
