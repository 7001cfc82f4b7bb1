"""Rates and counts that a model expects of each cell."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import sparse
import torch

from scpln.data import (
    DESIGN_KEY,
    Design,
    as_list,
    block_ranges,
    cell_positions,
    gene_positions,
    get_codes,
    setup_args,
    states,
)
from scpln.module import ABSENT, reaches_bound, soft_clamp
from scpln.utils import (
    MOST_DRAWS,
    as_bool,
    positive_integer,
    positive_integer_or_none,
    positive_number,
    resolve_seed,
    watched,
)

from ._beyond import Beyond
from ._latent import LatentModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from scpln.module import LatentModule, Likelihood, Posterior

#: Latent states that rates are averaged over where their mean has no closed form.
DRAWS = 100


@dataclass(frozen=True)
class _Rates:
    """Rates of some cells and genes under their posteriors, block by block, averaged over designs.

    Parameters
    ----------
    designs
        Design matrices (n × d) and codes of the batches (n,): the cells' own, or one pair for each batch to transform
        to.
    offsets
        What is added to each cell's log-rates, (n, 1), or (n, G) for the modality of each gene, or (n, genes).
    groups
        Codes of the genes' modalities (genes,), if it is by modality.
    factor
        What all rates are then multiplied by.
    """

    module: LatentModule
    posterior: Posterior
    designs: list[tuple[NDArray[np.float64], NDArray[np.int64] | None]]
    offsets: NDArray[np.float64]
    groups: NDArray[np.int64] | None
    genes: NDArray[np.intp] | None
    factor: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.offsets), self.module.n_genes if self.genes is None else len(self.genes)

    def blocks(self) -> Iterator[tuple[slice, Posterior]]:
        """Cells of consecutive blocks, with their posteriors, and a bar if they take long."""
        n_cells, n_genes = self.shape
        for start, stop in watched(block_ranges(n_cells, n_genes), "Rates", n_cells, lambda each: each[1] - each[0]):
            yield slice(start, stop), self.posterior[start:stop]

    def at(self, cells: slice, z: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Rates (…, cells, genes) at latent states, and whether each is beyond the bound of log-rates.

        Of real-valued data, the expected values, to which log size factors are added; of counts in categories, their
        mean, since these have no one rate.
        """
        likelihood = self._likelihood()
        offsets, values, beyond = torch.from_numpy(self._offsets(cells)), [], []
        for number in range(len(self.designs)):
            eta, deviations = self._decode(cells, z, number)
            eta = eta + offsets
            beyond.append(reaches_bound(eta, upper=likelihood.largest_log_rate))
            if likelihood.cell_parameter_names:
                values.append(likelihood.mean(eta, deviations).detach())
            else:
                values.append(soft_clamp(eta, upper=likelihood.largest_log_rate).exp() if likelihood.is_count else eta)
        mean = sum(values[1:], values[0]) / len(values)
        return self._scaled(cells, mean.numpy()), torch.stack(beyond).any(0).numpy()

    def from_log_rates(self, cells: slice, eta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rates (cells, genes) at log-rates without offsets; of real-valued data, expected values."""
        likelihood, bounded = self._likelihood(), torch.from_numpy(eta + self._offsets(cells))
        if likelihood.is_count:
            bounded = soft_clamp(bounded, upper=likelihood.largest_log_rate).exp()
        return self._scaled(cells, bounded.numpy())

    def expected(self, cells: slice, posterior: Posterior) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """Posterior mean of the rates in closed form, and the same; None where it has none."""
        offsets = self._offsets(cells)
        found = [self.module.expected_rates(x[cells], posterior, self.genes, offsets) for x, _ in self.designs]
        known = [each for each in found if each is not None]
        if not known:
            return None
        mean = sum((rates for rates, _ in known[1:]), known[0][0]) / len(known)
        return self._scaled(cells, mean), np.any([beyond for _, beyond in known], axis=0)

    def draw(self, cells: slice, z: NDArray, seed: int) -> NDArray:
        """Counts (cells, genes) at latent states."""
        decoded = [self._decode(cells, z, number) for number in range(len(self.designs))]
        etas, deviations = [eta for eta, _ in decoded], [some for _, some in decoded]
        eta = etas[0]
        if len(etas) > 1:
            is_count = self.module.generative.likelihood.is_count
            stacked = torch.stack(etas)
            eta = torch.logsumexp(stacked, 0) - np.log(len(etas)) if is_count else stacked.mean(0)
        deviation = {name: torch.stack([some[name] for some in deviations]).mean(0) for name in deviations[0]}
        eta = eta + torch.from_numpy(self._offsets(cells))
        return self.module.draw(eta, seed, self.genes, deviation)

    def _decode(self, cells: slice, z: NDArray, number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        design, batches = self.designs[number]
        return self.module.decode(z, design[cells], None if batches is None else batches[cells], self.genes)

    def _likelihood(self) -> Likelihood:
        """That of the chosen genes."""
        likelihood = copy.deepcopy(self.module.generative.likelihood).cpu()
        return likelihood if self.genes is None else likelihood.subset(self.genes)

    @property
    def _is_scaled(self) -> bool:
        """Whether the factor is one of rates, and not added to log-rates or to real values."""
        likelihood = self.module.generative.likelihood
        return likelihood.is_count and not likelihood.cell_parameter_names

    def _offsets(self, cells: slice) -> NDArray[np.float64]:
        """What is added to log-rates, (cells, genes), or (cells, 1) where it is the same for all genes."""
        offsets = self.offsets[cells] if self.groups is None else self.offsets[cells][:, self.groups]
        return offsets if self._is_scaled else offsets + np.log(self.factor)

    def _scaled(self, cells: slice, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rates times the factor, NaN where a cell lacks the modality."""
        if not self._is_scaled:
            return rates
        return self.factor * np.where(self._offsets(cells) == ABSENT, np.nan, rates)


class Predictive(LatentModel):
    """Models that decode latent states to rates and counts."""

    def get_normalized_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        transform_batch: str | float | Sequence[str | float] | None = None,
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

        The posterior mean :math:`E_{q(z_i)}[e^{\eta_{ij} - o_i}]`, times `library_size`. It is computed from draws, or in
        closed form where the decoder is linear and posteriors are Gaussian:

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
            Factor of all rates; ``"latent"`` for each cell's own size factor, and offsets of its entries, which gives its
            expected counts (before zero inflation, and of presence, its rate), of entries that were not observed, too. Of modalities, each has its own, and is NaN where a cell lacks it:
            a number gives what would be expected there. Counts in categories (``k_max``) have no rate: their mean is
            given, with this as the size factor.
        n_samples
            Draw so many latent states in place of the closed form; by default 100 where there is none.
        return_mean
            Whether to average over these draws, or return them all: (draws, cells, genes).
        return_numpy
            Whether to return an array in place of a DataFrame with names; always for separate draws.
        seed
            Seed of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Cells × genes, float32. Finite: log-rates are bounded as in the likelihood, which lets rates grow linearly beyond
        e²⁵. A warning names the cells and genes whose rates come from there, which counts do not determine.
        """
        as_numpy, seed = as_bool("return_numpy", return_numpy), resolve_seed(seed)
        rates, names = self._rates_of(adata, indices, transform_batch, gene_list, batch_size, library_size)
        n_samples = positive_integer_or_none("n_samples", n_samples, most=MOST_DRAWS)
        separate = not as_bool("return_mean", return_mean) and n_samples is not None
        shape: tuple[int, ...] = (n_samples or 1, *rates.shape) if separate else rates.shape
        result = np.empty(shape, dtype=np.float32)
        far, columns = Beyond(rates.shape), self.genes if gene_list is None else as_list(gene_list)
        for cells, posterior in rates.blocks():
            expected = rates.expected(cells, posterior) if n_samples is None else None
            if expected is not None:
                result[cells], beyond = expected
            else:
                n_draws = n_samples or DRAWS
                total = np.zeros((len(posterior), len(columns)))
                beyond = np.zeros(total.shape, dtype=bool)
                for number, z in enumerate(posterior.sample(n_draws, seed=_block_seed(seed, cells))):
                    drawn, is_beyond = rates.at(cells, z)
                    beyond |= is_beyond
                    if separate:
                        result[number, cells] = drawn
                    else:
                        total += drawn
                if not separate:
                    result[cells] = total / n_draws
            far.add(cells, beyond)
        far.report(names, columns)
        if as_numpy or separate:
            return result
        return pd.DataFrame(result, index=names, columns=columns)

    def posterior_predictive_sample(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        transform_batch: str | float | Sequence[str | float] | None = None,
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
        n_samples = positive_integer("n_samples", n_samples, most=MOST_DRAWS)
        rates, _ = self._rates_of(adata, indices, transform_batch, gene_list, batch_size, "latent")
        blocks = []
        for cells, posterior in rates.blocks():
            block_seed = _block_seed(seed, cells)
            draws = [
                sparse.COO.from_numpy(rates.draw(cells, z, _stream(block_seed, number)))
                for number, z in enumerate(posterior.sample(n_samples, seed=block_seed))
            ]
            blocks.append(draws[0] if n_samples == 1 else sparse.stack(draws, axis=2))
        return sparse.GCXS.from_coo(sparse.concatenate(blocks, axis=0), compressed_axes=(0,))

    def _rates_of(
        self,
        adata: AnnData | MuData | None,
        indices: Any,
        transform_batch: str | float | Sequence[str | float] | None,
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
        known = states(self.registry)
        design = Design.from_state(known[DESIGN_KEY])
        batch_key = setup_args(self.registry)["batch_key"]
        if transform_batch is None:
            codes = None if batch_key is None else get_codes(obs, batch_key, "batch_key", design.factors[batch_key])
            designs = [(design.matrix(obs), codes)]
        elif batch_key is None:
            msg = "transform_batch needs batches, and setup_anndata was called without batch_key."
            raise ValueError(msg)
        else:
            designs = [
                (design.matrix(obs, {batch_key: batch}), np.full(len(obs), design.code(batch_key, batch)))
                for batch in as_list(transform_batch)
            ]
        if library_size != "latent" and not isinstance(library_size, int | float | np.number):
            msg = f"library_size={library_size!r}, but it must be a number or 'latent'."
            raise ValueError(msg)
        if library_size != "latent":
            factor = positive_number("library_size", library_size)
            zeros = np.zeros((len(posterior), 1))
            return _Rates(self.module, posterior, designs, zeros, None, genes, factor), obs.index
        data = self._read(adata, positions).data
        offsets, groups = data.expected_offsets(genes)
        return _Rates(self.module, posterior, designs, offsets, groups, genes), obs.index


def _stream(seed: int, number: int) -> int:
    """Seed of one draw's counts, which share no random numbers with its latent states."""
    return int(np.random.SeedSequence([seed, 1, number]).generate_state(1)[0])


def _block_seed(seed: int | None, cells: slice) -> int:
    """A seed for each block, so that blocks do not repeat each other's draws."""
    return int(np.random.SeedSequence([resolve_seed(seed), cells.start]).generate_state(1)[0])
