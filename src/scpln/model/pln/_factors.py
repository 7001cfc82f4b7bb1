"""Factors of log-rates in gene space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from scpln.data import gene_positions
from scpln.module.covariances import Factor
from scpln.utils import positive_integer

from ._covariances import Covariances

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from scpln.model.pln_mixture import PLNMixture


class Factors(Covariances):
    """Models whose covariance may be of few factors and a variance of each gene."""

    n_factors: int | None

    def get_factor_loadings(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Loadings C and uniquenesses ψ of :math:`\Sigma = C C^T + \text{diag}(\psi)` (genes × factors and one more).

        Factors are orthogonal, :math:`C^T C` diagonal, the one of most variance first, and of each the largest loading is positive. Columns are
        ``factor_1``, … and ``uniqueness``, the variance of a gene's log-rate that it does not share.

        Parameters
        ----------
        genes
            As in `get_covariance`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If its covariance is not ``"factor"``.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=8, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLN(adata, "factor", n_factors=2)
        >>> model.train(progress=False)
        >>> list(model.get_factor_loadings())
        ['factor_1', 'factor_2', 'uniqueness']
        """
        self._require_trained()
        return factor_table(self, self.module.parts, genes)

    def _factor_tables(self) -> dict[str, pd.DataFrame]:
        """Loadings, for annotated data; nothing without factors."""
        return {} if self.n_factors is None else {"loadings": self.get_factor_loadings().iloc[:, :-1]}


def factor_table(model: Factors | PLNMixture, parts: torch.Tensor, genes: Sequence[str] | None) -> pd.DataFrame:
    """C and ψ of a model's genes (genes × factors and one more), of a covariance with these parts (p, q + 1)."""
    if model.n_factors is None:
        msg = f"This {type(model).__name__} has no factors. Make it with covariance='factor' and n_factors=3, for instance."
        raise ValueError(msg)
    columns = [*(f"factor_{number}" for number in range(1, model.n_factors + 1)), "uniqueness"]
    table = pd.DataFrame(parts.cpu().numpy(), index=model.genes, columns=columns)
    positions = gene_positions(genes, model.genes, "genes")
    return table if positions is None else table.iloc[positions]


def checked_factors(n_factors: Any, covariance: str, n_genes: int) -> int | None:
    """The number of factors, after checking that it may be one, and that this covariance has any."""
    if covariance != "factor":
        if n_factors is not None:
            msg = f"n_factors= is for covariance='factor', and this is {covariance!r}. Leave it out."
            raise ValueError(msg)
        return None
    if n_factors is None:
        msg = "covariance='factor' has a number of factors. Pass n_factors=3, for instance."
        raise ValueError(msg)
    return Factor(n_genes, positive_integer("n_factors", n_factors)).n_factors
