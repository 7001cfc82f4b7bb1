"""Rates and counts that PLN-PCA expects of each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import sparse

from scpln.module import GaussianPosterior

from ._arguments import positive_integer, positive_integer_or_none, resolve_seed
from ._data import cell_positions, gene_positions
from ._design import Design, as_list
from ._fields import DESIGN_KEY
from ._latent import LatentModel
from ._manager import setup_args, states
from ._rows import block_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scpln.module import PLNPCAModule, Posterior

#: Latent states that rates are averaged over where their mean has no closed form.
FLOW_DRAWS = 100


@dataclass(frozen=True)
class _Rates:
    """Rates of some cells and genes under their posteriors, block by block, averaged over designs.

    Parameters
    ----------
    designs
        Design matrices (n × d): the cells' own, or one for each batch to transform to.
    scale
        Factor of each cell's rates (n,).
    """

    module: PLNPCAModule
    posterior: Posterior
    designs: list[NDArray[np.float64]]
    scale: NDArray[np.float64]
    genes: NDArray[np.intp] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.scale), len(self.module.coefficients) if self.genes is None else len(self.genes)

    def blocks(self) -> Iterator[tuple[slice, Posterior]]:
        """Cells of consecutive blocks, with their posteriors."""
        for start, stop in block_ranges(*self.shape):
            yield slice(start, stop), self.posterior[start:stop]

    def at(self, cells: slice, mean: NDArray, covariance: NDArray | None = None) -> NDArray[np.float64]:
        """Rates (…, cells, genes) at latent states, or their posterior mean if a covariance is given.

        Of real-valued data, the expected values, to which log size factors are added.
        """
        rates = [self.module.rates(x[cells], mean, covariance, self.genes) for x in self.designs]
        average = sum(rates[1:], rates[0]) / len(rates)
        scale = self.scale[cells, None]
        return average * scale if self.module.generative.likelihood.is_count else average + np.log(scale)


class Predictive(LatentModel):
    """Models that decode latent states to rates and counts."""

    def get_normalized_expression(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        transform_batch: str | Sequence[str] | None = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1,
        n_samples: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        *,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame | NDArray[np.float32]:
        r"""Expected rates of each cell without its size factor.

        The posterior mean, in closed form, times `library_size`:

        .. math::
            E_{q(z_i)}\left[e^{x_i \cdot B_j + z_i \cdot C_j}\right]
            = e^{x_i \cdot B_j + m_i \cdot C_j + \frac12 C_j^T V_i C_j}

        Size factors are centred, so with ``library_size=1`` this is the expected count of gene j in a cell of average
        (geometric mean) size factor in the state of cell i. It does not add up to 1 over genes, unlike that of
        `scvi.model.SCVI`.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`.
        transform_batch
            Batch to which all cells are moved in the design; of several, the mean. By default each cell's own.
        gene_list
            Names of genes, in the order to return; by default all, which is a dense array of all cells and genes.
        library_size
            Factor of all rates; ``"latent"`` for each cell's own size factor, which gives its expected counts.
        n_samples
            Draw so many latent states in place of the closed form; by default 100 where there is none, under a flow.
        return_mean
            Whether to average over these draws, or return them all: (draws, cells, genes).
        return_numpy
            Whether to return an array in place of a DataFrame with names; always for separate draws.
        seed
            Seed of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Cells × genes, float32.
        """
        rates, names = self._rates_of(adata, indices, transform_batch, gene_list, batch_size, library_size)
        n_samples = positive_integer_or_none("n_samples", n_samples)
        if n_samples is None and not isinstance(rates.posterior, GaussianPosterior):
            n_samples = FLOW_DRAWS
        separate = n_samples is not None and not return_mean
        shape: tuple[int, ...] = (n_samples or 1, *rates.shape) if separate else rates.shape
        result = np.empty(shape, dtype=np.float32)
        for cells, posterior in rates.blocks():
            if n_samples is None:
                result[cells] = rates.at(cells, posterior.mean, posterior.packed_covariance)
                continue
            draws = (rates.at(cells, z) for z in posterior.sample(n_samples, seed=_block_seed(seed, cells)))
            if separate:
                for number, drawn in enumerate(draws):
                    result[number, cells] = drawn
            else:
                result[cells] = sum(draws) / n_samples
        if return_numpy or separate:
            return result
        columns = self.genes if gene_list is None else as_list(gene_list)
        return pd.DataFrame(result, index=names, columns=columns)

    def posterior_predictive_sample(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        transform_batch: str | Sequence[str] | None = None,
        n_samples: int = 1,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
        *,
        seed: int | None = None,
    ) -> sparse.GCXS:
        """Draw counts from the posterior predictive distribution: a latent state, then counts given that.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`.
        transform_batch
            Batch to which all cells are moved in the design; rates are averaged over several.
        n_samples
            Draws of each cell.
        gene_list
            Names of genes, in the order to return; by default all.
        seed
            Seed; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Sparse array of cells × genes, or cells × genes × draws if there are several, as
        `scvi.criticism.PosteriorPredictiveCheck` expects.
        """
        n_samples = positive_integer("n_samples", n_samples)
        rates, _ = self._rates_of(adata, indices, transform_batch, gene_list, batch_size, "latent")
        blocks = []
        for cells, posterior in rates.blocks():
            block_seed = _block_seed(seed, cells)
            draws = [
                sparse.COO.from_numpy(self.module.draw(rates.at(cells, z), block_seed + number, rates.genes))
                for number, z in enumerate(posterior.sample(n_samples, seed=block_seed))
            ]
            blocks.append(draws[0] if n_samples == 1 else sparse.stack(draws, axis=2))
        return sparse.GCXS.from_coo(sparse.concatenate(blocks, axis=0), compressed_axes=(0,))

    def _rates_of(
        self,
        adata: AnnData | None,
        indices: Any,
        transform_batch: str | Sequence[str] | None,
        gene_list: Sequence[str] | None,
        batch_size: int | None,
        library_size: float | Literal["latent"],
    ) -> tuple[_Rates, pd.Index]:
        """Rates of the chosen cells and genes, and the names of the cells."""
        genes = gene_positions(gene_list, self.genes)
        posterior, _ = self._infer(adata, indices, batch_size=batch_size)
        adata = self._data_or_own(adata)
        positions = cell_positions(indices, adata.n_obs)
        obs = adata.obs if positions is None else adata.obs.iloc[positions]
        design = Design.from_state(states(self.registry)[DESIGN_KEY])
        batch_key = setup_args(self.registry)["batch_key"]
        if transform_batch is None:
            designs = [design.matrix(obs)]
        elif batch_key is None:
            msg = "transform_batch needs batches, and setup_anndata was called without batch_key."
            raise ValueError(msg)
        else:
            designs = [design.matrix(obs, {batch_key: batch}) for batch in as_list(transform_batch)]
        if isinstance(library_size, str) and library_size != "latent":
            msg = f"library_size={library_size!r}, but it must be a number or 'latent'."
            raise ValueError(msg)
        if library_size == "latent":
            scale = np.exp(self._read(adata, positions).data.offsets)
        else:
            scale = np.full(len(posterior), float(library_size))
        return _Rates(self.module, posterior, designs, scale, genes), obs.index


def _block_seed(seed: int | None, cells: slice) -> int:
    """A seed for each block, so that blocks do not repeat each other's draws."""
    return int(np.random.SeedSequence([resolve_seed(seed), cells.start]).generate_state(1)[0])
