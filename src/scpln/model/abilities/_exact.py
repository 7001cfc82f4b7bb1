"""Draws from exact posteriors: the ground truth that approximate ones are judged by."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.utils import track

from scpln.data import cell_positions
from scpln.inference import FEWEST_DRAWS, sample_exact
from scpln.utils import MOST_DRAWS, as_bool, deprecated, one_of, positive_integer, resolve_seed

from ._latent import LatentModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


logger = logging.getLogger("scpln")

Method = Literal["nuts"]

#: R̂ above which a chain has not converged.
_LARGEST_R_HAT = 1.05


class ExactSampling(LatentModel):
    """Models whose exact posterior p(z | y) can be sampled, given log p(y, z)."""

    @overload
    def sample_exact_posterior(
        self,
        adata: AnnData | MuData | None = ...,
        indices: Sequence[int] | ArrayLike | None = ...,
        *,
        method: Method = ...,
        n_samples: int = ...,
        n_warmup: int = ...,
        seed: int | None = ...,
        progress: bool = ...,
        return_diagnostics: Literal[False] = ...,
    ) -> NDArray[np.float64]: ...

    @overload
    def sample_exact_posterior(
        self,
        adata: AnnData | MuData | None = ...,
        indices: Sequence[int] | ArrayLike | None = ...,
        *,
        method: Method = ...,
        n_samples: int = ...,
        n_warmup: int = ...,
        seed: int | None = ...,
        progress: bool = ...,
        return_diagnostics: Literal[True],
    ) -> tuple[NDArray[np.float64], pd.DataFrame]: ...

    def sample_exact_posterior(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        method: Method = "nuts",
        n_samples: int = 1000,
        n_warmup: int = 500,
        seed: int | None = None,
        progress: bool = False,
        return_diagnostics: bool = False,
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], pd.DataFrame]:
        """Draw latent states of some cells from their exact posterior p(z | y), with all parameters as they are.

        A Markov chain for each cell, which takes seconds: the ground truth for the posteriors of `get_posterior`, whose
        own draws (``get_posterior().sample(n)``) are quick.

        Parameters
        ----------
        adata
            Annotated data with the model's genes; by default the model's own.
        indices
            Positions of cells, or a mask over them; by default all.
        method
            ``"nuts"``, the no-U-turn sampler.
        n_samples, n_warmup
            Draws of each cell, at least 4, and draws before these that are left out.
        seed
            Of the chains; by default ``scvi.settings.seed``, or 0. A cell's chain depends on this and on its position
            in `adata`, not on the other cells.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.
        return_diagnostics
            Whether to return a table too, with one row for each cell: ``r_hat`` (split R̂, the largest over dimensions),
            ``ess`` (effective number of independent draws, the smallest) and ``divergences`` (of the numerical
            integration). Cells with R̂ above 1.05 or with divergences are warned of in any case.

        Returns
        -------
        Latent states (n_samples, cells, q), in the coordinates of `get_posterior`.

        Raises
        ------
        ValueError
            If there are fewer than 4 draws, or `indices` are not positions of cells.

        References
        ----------
        M. Hoffman and A. Gelman (2014), The no-U-turn sampler, JMLR 15: 1593-1623.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> model.sample_exact_posterior(indices=[0, 7], n_samples=100, n_warmup=100).shape
        (100, 2, 2)
        """
        one_of("method", method, get_args(Method))
        progress, return_diagnostics = as_bool("progress", progress), as_bool("return_diagnostics", return_diagnostics)
        n_samples, n_warmup = (
            positive_integer(name, n, most=MOST_DRAWS) for name, n in (("n_samples", n_samples), ("n_warmup", n_warmup))
        )
        if n_samples < FEWEST_DRAWS:
            msg = f"n_samples={n_samples}, but a chain must have at least {FEWEST_DRAWS} draws."
            raise ValueError(msg)
        seed = resolve_seed(seed)
        posterior, _ = self._infer(adata, indices)
        adata = self._data_or_own(adata)
        positions = cell_positions(indices, adata.n_obs)
        chains = sample_exact(
            self._with_own(self._read(adata, positions).data, posterior),
            copy.deepcopy(self.module.generative).cpu().double(),
            posterior,
            n_samples=n_samples,
            n_warmup=n_warmup,
            seed=seed,
            positions=positions,
        )
        done = list(track(chains, description="Sampling cells", disable=not progress, total=len(posterior)))
        names = adata.obs_names if positions is None else adata.obs_names[positions]
        columns = {name: [getattr(chain, name) for chain in done] for name in ("r_hat", "ess", "divergences")}
        table = pd.DataFrame(columns, index=names)
        _warn_of(table)
        z = np.stack([chain.z for chain in done], axis=1)
        return (z, table) if return_diagnostics else z

    def sample_posterior(
        self, first: Any = None, second: Any = None, /, **options: Any
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], pd.DataFrame]:
        """Deprecated name of `sample_exact_posterior`, with `indices` before or after `adata`."""
        deprecated("sample_posterior(indices, adata)", "sample_exact_posterior(adata, indices)")
        if _is_data(second) or not (first is None or _is_data(first)):
            first, second = second, first
        given = {name: value for name, value in {"adata": first, "indices": second}.items() if value is not None}
        return self.sample_exact_posterior(**given, **options)


def _is_data(value: object) -> bool:
    return isinstance(value, AnnData | MuData)


def _warn_of(table: pd.DataFrame) -> None:
    """Say which chains cannot be trusted."""
    bad = table.index[(table["r_hat"] > _LARGEST_R_HAT) | (table["divergences"] > 0)]
    if len(bad):
        logger.warning(
            "The chains of %s of %s cells have not converged (R̂ > %s) or diverged: %s. Take more draws with n_samples "
            "and n_warmup.",
            f"{len(bad):,}",
            f"{len(table):,}",
            _LARGEST_R_HAT,
            ", ".join(map(repr, bad[:5])) + (", …" if len(bad) > 5 else ""),
        )
