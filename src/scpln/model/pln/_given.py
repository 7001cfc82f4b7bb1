"""A matrix of genes that a user gives, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data

#: Families of Σ that need one.
OF_MATRICES = ("fixed", "kernel")


def given_matrix(
    given: pd.DataFrame | ArrayLike | str | None, covariance: str, adata: Data, genes: list[str]
) -> NDArray[np.float64] | None:
    """The matrix for a model's genes, (p, p), after checking it; None for families that need none."""
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
    if matrix.shape != (len(genes), len(genes)):
        msg = f"given= has shape {matrix.shape}, but there are {len(genes):,} genes: it must be genes × genes."
        raise ValueError(msg)
    scale = np.abs(matrix).max(initial=0.0)
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9 * scale):
        msg = "given= must be finite and symmetric."
        raise ValueError(msg)
    if np.linalg.eigvalsh(matrix)[0] < (0 if covariance == "fixed" else -1e-8 * scale):
        msg = "given= has a negative eigenvalue, so that it is no covariance."
        raise ValueError(msg)
    return matrix
