"""Bounds of the log-likelihood of cells with codes, by sums over codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from scpln.train import Minibatches, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import Batch
    from scpln.module.codes import VQVAEModule

    Codes = NDArray[np.int64]
    Groups = NDArray[np.int64] | None

#: Cells that are computed together, and codes × cells × genes of log-rates at a time.
_CELLS, _ENTRIES = 128, 4 * 1024 * 1024


class CodeBounds(NamedTuple):
    """Two terms of each cell's bound, (n,) each in nats: log p(y | z) of the state z of its codes, and log p(k)."""

    log_likelihood: NDArray[np.float64]
    log_prior: NDArray[np.float64]

    @property
    def elbo(self) -> NDArray[np.float64]:
        """Their sum."""
        return self.log_likelihood + self.log_prior


def code_bounds(
    data: CountData, module: VQVAEModule, codes: Codes, groups: Groups = None, *, n_threads: int | None = 1
) -> CodeBounds:
    r"""Bounds :math:`\log p(y_i) \ge \log p(y_i \mid z(k_i)) + \log p(k_i)` of cells, whatever their codes.

    Parameters
    ----------
    data
        Counts of n cells.
    module
        Decoder, likelihood, and prior of codes.
    codes
        Codes k, (n, M).
    groups
        Group of each cell (n,) that the prior is given; −1 or None where it is not known.
    n_threads
        Threads.
    """
    found = CodeBounds(np.empty(data.n_cells), np.empty(data.n_cells))
    for cells, batch, own, group in _blocks(data, module, codes, groups, n_threads):
        found.log_likelihood[cells] = _log_likelihood(module, batch, own[None])[0]
        found.log_prior[cells] = _log_prior(module, own, group)
    return found


def improve_codes(
    data: CountData,
    module: VQVAEModule,
    codes: Codes,
    groups: Groups = None,
    *,
    n_sweeps: int,
    n_threads: int | None = 1,
) -> Codes:
    """Codes with higher bounds: at one position after the other, each cell takes the code under which its bound is the highest.

    Parameters
    ----------
    data, module, codes, groups, n_threads
        As in `code_bounds`.
    n_sweeps
        Passes over all positions, at most; what does not change any more is at an optimum.
    """
    better = codes.copy()
    for cells, batch, own, group in _blocks(data, module, codes, groups, n_threads):
        for _ in range(n_sweeps):
            before = own.clone()
            for position in range(own.shape[1]):
                values = _by_code(module, batch, own, group, position)
                own[:, position] = torch.from_numpy(values.argmax(0)).to(own.device)
            if torch.equal(before, own):
                break
        better[cells] = own.cpu().numpy()
    return better


def summed_bound(
    data: CountData, module: VQVAEModule, codes: Codes, groups: Groups = None, *, n_threads: int | None = 1
) -> NDArray[np.float64]:
    r"""Bounds :math:`\log p(y_i) \ge \log \sum_{k \in S_i} p(k) \, p(y_i \mid z(k))`, (n,) in nats: S has a cell's codes, and all that differ from them at one position.

    With one position, S has all codes, and this is the log-likelihood.

    Parameters
    ----------
    data, module, codes, groups, n_threads
        As in `code_bounds`.
    """
    total = np.empty(data.n_cells)
    for cells, batch, own, group in _blocks(data, module, codes, groups, n_threads):
        total[cells] = -np.inf
        for position in range(own.shape[1]):
            values = _by_code(module, batch, own, group, position)
            if position > 0:  # a cell's own codes count once
                values[own[:, position].cpu().numpy(), np.arange(len(own))] = -np.inf
            total[cells] = np.logaddexp(total[cells], np.logaddexp.reduce(values, axis=0))
    return total


def _blocks(
    data: CountData, module: VQVAEModule, codes: Codes, groups: Groups, n_threads: int | None
) -> Iterator[tuple[NDArray[np.intp], Batch, torch.Tensor, torch.Tensor | None]]:
    """Cells with their batch, codes and groups, where the module is."""
    with torch.no_grad(), torch_threads(n_threads):
        for cells, batch in Minibatches(data, _CELLS).in_order():
            group = None if groups is None else torch.from_numpy(groups[cells]).to(module.device)
            yield cells, batch.to(module.device), torch.from_numpy(codes[cells]).to(module.device), group


def _by_code(
    module: VQVAEModule, batch: Batch, own: torch.Tensor, groups: torch.Tensor | None, position: int
) -> NDArray[np.float64]:
    """Log p(y, k) of cells with every code at a position, and their own at the others, (K, n)."""
    size = module.quantizer.codebook_size
    some = own.expand(size, *own.shape).clone()
    some[..., position] = torch.arange(size, device=own.device)[:, None]
    return _log_likelihood(module, batch, some) + _log_prior(module, some, groups)


def _log_likelihood(module: VQVAEModule, batch: Batch, codes: torch.Tensor) -> NDArray[np.float64]:
    """Log p(y | z), (S, n), of codes (S, n, M)."""
    at_a_time = max(1, _ENTRIES // (len(batch) * module.n_genes))
    decode: Callable[[torch.Tensor], torch.Tensor] = module.quantizer.lookup
    values = [module.generative.log_likelihood(decode(some), batch) for some in codes.split(at_a_time)]
    return torch.cat(values).cpu().double().numpy()


def _log_prior(module: VQVAEModule, codes: torch.Tensor, groups: torch.Tensor | None) -> NDArray[np.float64]:
    return module.states.codes.log_prob(codes, groups).cpu().double().numpy()
