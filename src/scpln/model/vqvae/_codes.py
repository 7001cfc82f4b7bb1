"""What codes cells have, and what they are used for."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi

from scpln.data import cell_positions
from scpln.inference.codes import code_bounds, summed_bound
from scpln.model.abilities import LatentModel, conditions
from scpln.utils import as_bool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import CountData
    from scpln.data import Data
    from scpln.model.base import Evaluated
    from scpln.module.codes import VQVAEModule

    from ._options import CodeOptions

#: Name of the row of all positions together.
JOINT = "joint"


class Codes(LatentModel):
    """Models whose cells have codes."""

    module: VQVAEModule
    options: CodeOptions

    @abstractmethod
    def _data_and_codes(
        self,
        adata: AnnData | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> tuple[CountData, NDArray[np.int64]]:
        """Counts of the chosen cells, and their codes (n, M)."""

    @abstractmethod
    def _groups_of(self, data: CountData) -> NDArray[np.int64] | None:
        """Groups (n,) that the prior of codes is given in bounds."""

    def get_codes(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        batch_size: int | None = None,
        refine: int = 0,
    ) -> pd.DataFrame:
        """Codes of cells.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`.
        refine
            Passes over all positions, in which each cell takes the code under which its bound is the highest, in place of the nearest one.

        Returns
        -------
        Cells × positions, categorical: the numbers 0 to K − 1, which have no order.

        Raises
        ------
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.CountVQVAE(adata, n_codes=1, codebook_size=4, n_hidden=16)
        >>> model.train(max_epochs=5, progress=False)
        >>> model.get_codes()[0].cat.categories.to_list()
        [0, 1, 2, 3]
        """
        _, codes = self._data_and_codes(adata, indices, batch_size=batch_size, refine=refine)
        names = self._data_or_own(adata).obs_names
        positions = cell_positions(indices, len(names))
        return pd.DataFrame(
            {m: pd.Categorical(codes[:, m], list(range(self.options.codebook_size))) for m in range(codes.shape[1])},
            index=names if positions is None else names[positions],
        ).rename_axis(columns="position")

    def get_code_usage(
        self, adata: AnnData | None = None, indices: Sequence[int] | ArrayLike | None = None
    ) -> pd.DataFrame:
        r"""How many codes are in use, and how evenly.

        Parameters
        ----------
        adata, indices
            As in `get_posterior`.

        Returns
        -------
        Table with one row for each position, and one for ``"joint"`` states of all:

        ``used``
            Codes, or joint states, of some cell.
        ``dead``
            Codes of none.
        ``perplexity``
            :math:`e^{H}` with the entropy H of the shares of all cells: K where all codes are used alike, 1 where one is used alone. Over all cells at once: that of a batch is at most
            its size.
        ``share``
            The same divided by K, or by the smaller one of :math:`K^M` and the number of cells.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        _, codes = self._data_and_codes(adata, indices)
        return self._usage_table(codes)

    def _status(self) -> dict[str, str]:
        """State of training, and the use of codes."""
        status, usage = super()._status(), self.training_
        if not self.is_trained_ or "perplexity" not in usage:
            return status
        words = f"{usage['n_dead_codes']} dead, perplexity {usage['perplexity']:.1f} of {self.options.codebook_size}, {usage['n_joint_states']:,} joint states"
        return {**status, "codes": words}

    def _usage_table(self, codes: NDArray[np.int64]) -> pd.DataFrame:
        size, n_codes = self.options.codebook_size, codes.shape[1]
        rows = {}
        for m in range(n_codes):
            counts = np.bincount(codes[:, m], minlength=size)
            rows[str(m)] = _use(counts, size)
        _, joint = np.unique(codes, axis=0, return_counts=True)
        most = min(len(codes), float(size) ** n_codes)
        rows[JOINT] = {**_use(joint, most), "dead": np.nan}
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("position")
        return table[["used", "dead", "perplexity", "share"]].astype({"used": int})

    def _usage(self, codes: NDArray[np.int64]) -> dict[str, Any]:
        table = self._usage_table(codes)
        own = table.drop(JOINT)
        return {
            "n_dead_codes": int(own["dead"].sum()),
            "perplexity": float(own["perplexity"].mean()),
            "n_joint_states": int(table.loc[JOINT, "used"]),
        }

    def get_summed_bound(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        return_mean: bool = True,
        *,
        batch_size: int | None = None,
        refine: int = 0,
    ) -> float | NDArray[np.float64]:
        r"""A closer bound of each cell's log-likelihood than `get_elbo`: the sum over its codes and all that differ from them at one position, in nats.

        .. math:: \log p(y_i) \ge \log \sum_{k \in S_i} p(k) \, p(y_i \mid z(k))

        With one position, S has all codes, and this is the log-likelihood itself. No draws are taken. It takes about K·M times as long as `get_elbo`.

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_codes`.
        return_mean
            Whether to return the mean over cells, or one value for each (n,).

        Raises
        ------
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.CountVQVAE(adata, n_codes=2, codebook_size=4, n_hidden=16)
        >>> model.train(max_epochs=5, progress=False)
        >>> model.get_summed_bound() > model.get_elbo()
        True
        """
        as_mean = as_bool("return_mean", return_mean)
        data, codes = self._data_and_codes(adata, indices, batch_size=batch_size, refine=refine)
        n_threads = scvi.settings.num_threads or 1
        values = summed_bound(data, self.module, codes, self._groups_of(data), n_threads=n_threads)
        return float(values.mean()) if as_mean else values

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """Bounds, what they are made of, and the use of codes."""
        found = super()._evaluation(adata, indices, n_samples, seed)
        data, codes = self._data_and_codes(adata, indices)
        groups, n_threads = self._groups_of(data), scvi.settings.num_threads or 1
        bounds = code_bounds(data, self.module, codes, groups, n_threads=n_threads)
        names = adata.obs_names if indices is None else adata.obs_names[cell_positions(indices, adata.n_obs)]
        cells = pd.DataFrame(
            {
                "elbo": bounds.elbo,
                "reconstruction": bounds.log_likelihood,
                "kl": -bounds.log_prior,
                "summed_bound": summed_bound(data, self.module, codes, groups, n_threads=n_threads),
            },
            index=names,
        )
        unit = f"nats per cell{conditions(self)}"
        summary = {
            **cells.mean().to_dict(),
            "elbo_se": cells["elbo"].std() / np.sqrt(len(cells)),
            **self._usage(codes),
        }
        return found.plus(summary, cells, notes={"elbo": unit, "summed_bound": unit})


def _use(counts: NDArray[np.intp], most: float) -> dict[str, float]:
    """Use of codes that so many cells have."""
    shares = counts[counts > 0] / counts.sum()
    perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
    return {
        "used": len(shares),
        "dead": len(counts) - len(shares),
        "perplexity": perplexity,
        "share": perplexity / most,
    }
