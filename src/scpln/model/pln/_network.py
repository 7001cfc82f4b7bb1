"""Sparse networks of genes."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scpln.inference.genespace.network import MOST_MORE, N_PENALTIES, checked_penalties, checked_rule
from scpln.utils import warn

from ._covariances import Covariances

if TYPE_CHECKING:
    from scpln.inference.genespace.network import Rule


class Networks(Covariances):
    """Models whose precision may be sparse."""

    penalty: float | list[float] | Rule | None

    @property
    def _is_network(self) -> bool:
        return self.penalty is not None

    def get_network(self) -> pd.DataFrame:
        r"""Edges of the network: pairs of genes whose log-rates depend on each other given those of all others.

        Returns
        -------
        A row for each edge, the strongest first: ``gene_1`` and ``gene_2``, ``partial_correlation``,
        :math:`-\Omega_{jk} / \sqrt{\Omega_{jj} \Omega_{kk}}`, and ``precision``, :math:`\Omega_{jk}`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If it was made without `penalty`.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=8, n_latent=2, density=0.8)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLN(adata, penalty="ebic")
        >>> model.train(progress=False)
        >>> list(model.get_network())
        ['gene_1', 'gene_2', 'partial_correlation', 'precision']
        >>> len(model.network_path) >= 30
        True
        """
        self._require_network()
        precision = self.module.parts.cpu().numpy()
        first, second = np.nonzero(np.triu(precision, 1))
        values, partial = precision[first, second], self._partial_correlations()[first, second]
        names = np.asarray(self.genes, dtype=object)
        columns = {
            "gene_1": names[first],
            "gene_2": names[second],
            "partial_correlation": partial,
            "precision": values,
        }
        return pd.DataFrame(columns).iloc[np.argsort(-np.abs(partial), kind="stable")].reset_index(drop=True)

    @property
    def network_path(self) -> pd.DataFrame:
        """What was found at each penalty, from the largest down.

        Columns are ``penalty``, ``n_edges``, ``bound`` (the sum over cells, nats), ``bic`` and ``ebic`` (the higher, the better), ``stability`` (1 if
        subsamples agree, 0 if they are coin flips; with ``penalty="stars"``), ``converged`` and ``reason``. What was not computed is NaN.
        """
        self._require_network()
        return pd.DataFrame(self.training_["network_path"])

    def _partial_correlations(self) -> np.ndarray:
        precision = self.module.parts.cpu().numpy()
        deviation = np.sqrt(np.diagonal(precision))
        partial = -precision / deviation[:, None] / deviation
        np.fill_diagonal(partial, 0)
        return partial

    def _network_table(self) -> dict[str, pd.DataFrame]:
        """Partial correlations of edges, in sparse columns, for annotated data; nothing without a network."""
        if not self._is_network:
            return {}
        matrix = sp.csr_matrix(self._partial_correlations())
        return {"network": pd.DataFrame.sparse.from_spmatrix(matrix, index=self.genes, columns=self.genes)}

    def _require_network(self) -> None:
        self._require_trained()
        if not self._is_network:
            msg = "This PLN has no network: its precision is not sparse. Make it with penalty='ebic', or a number."
            raise ValueError(msg)


def checked_penalty(
    penalty: Any, covariance: str, inference: str, zero_inflation: str | None
) -> float | list[float] | Rule | None:
    """What a model's penalty is, after checking that it may be one, and goes with what else the model is."""
    if penalty is None:
        return None
    if inference != "variational" or zero_inflation not in (None, "gene"):
        other = f"inference={inference!r}" if inference != "variational" else f"zero_inflation={zero_inflation!r}"
        msg = f"penalty= does not go with {other}. Leave one of both out."
        raise ValueError(msg)
    if covariance != "full":
        msg = f"penalty= is for covariance='full', and this is {covariance!r}. Leave it out."
        raise ValueError(msg)
    if isinstance(penalty, str):
        return checked_rule(penalty)
    values = checked_penalties(penalty)
    return float(values[0]) if isinstance(penalty, Real) else values.tolist()


def warn_of_end(penalty: float | list[float] | Rule | None, path: dict[str, list], chosen: float) -> None:
    """Say that a criterion is the best at the smallest penalty that was tried."""
    if penalty in ("bic", "ebic") and len(path["penalty"]) == N_PENALTIES + MOST_MORE and chosen == path["penalty"][-1]:
        warn(
            f"{penalty!r} is the best at {chosen:.3g}, the smallest of {len(path['penalty'])} penalties: with smaller ones there would be more edges "
            "than these data can tell apart. Take penalty='stars', or a number."
        )


def n_penalties(penalty: float | list[float] | Rule | None) -> int:
    """How many fits there are at most."""
    if isinstance(penalty, str):
        return N_PENALTIES + MOST_MORE * (penalty != "stars")
    return len(penalty) if isinstance(penalty, list) else 1
