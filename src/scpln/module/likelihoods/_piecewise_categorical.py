"""Counts whose small values have probabilities of their own."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import nn

from scpln.module._count_batch import CountBatch

from ._base import CountLikelihood, Likelihood
from ._blocks import LogProbBlock
from ._poisson_lognormal import PoissonLogNormal
from ._zero_inflated import ZeroInflated

if TYPE_CHECKING:
    from torch import Tensor


class PiecewiseCategorical(Likelihood):
    r"""Counts below k_max have probabilities of their own; from k_max on, what exceeds it follows a base distribution.

    As in scVAE [1]_. With categories 0, …, k_max − 1 and "k_max or more", probabilities π, and base distribution p₀,

    .. math::
        p(y | η) = π_y \text{ for } y < k_{max}, \quad p(y | η) = π_{k_{max}}\, p_0(y - k_{max} | η) \text{ otherwise.}

    The logits of π relative to that of the last category are parameters. They are meant to vary by cell
    (`cell_parameter_names`): η says nothing about small counts.

    Parameters
    ----------
    base
        Likelihood of what counts exceed k_max by: Poisson or negative binomial, zero-inflated or not, or Poisson log-normal.
    k_max
        Number of counts with a probability of their own, 1 or more.

    References
    ----------
    .. [1] Grønbech et al. (2020), scVAE: variational auto-encoders for single-cell gene expression data. Bioinformatics
       36, 4415-4422.

    Examples
    --------
    >>> import torch
    >>> from scpln.module.likelihoods import Poisson
    >>> likelihood = PiecewiseCategorical(Poisson(3), k_max=2)
    >>> likelihood.parameter_names
    ('category_logit_0', 'category_logit_1')
    >>> likelihood.log_prob(torch.zeros(3), torch.tensor([0, 1, 2])).exp().detach()
    tensor([0.3333, 0.3333, 0.1226])
    >>> more_zeros = {"category_logit_0": torch.tensor([2.0, 0.0, 0.0])}
    >>> likelihood.log_prob(torch.zeros(3), torch.zeros(3), more_zeros).exp().detach()
    tensor([0.7870, 0.3333, 0.3333])
    """

    def __init__(self, base: Likelihood, k_max: int) -> None:
        super().__init__(base.n_genes)
        if not isinstance(base, CountLikelihood | ZeroInflated | PoissonLogNormal):
            msg = f"k_max={k_max!r} needs a likelihood of counts, zero-inflated or not; {type(base).__name__} is none."
            raise ValueError(msg)
        if k_max < 1:
            msg = (
                f"k_max={k_max!r}, but one count or more needs a probability of its own; without any, leave k_max out."
            )
            raise ValueError(msg)
        self.base, self.k_max = base, k_max
        for name in self.cell_parameter_names:
            self.register_parameter(name, nn.Parameter(torch.zeros(base.n_genes)))

    @property
    def cell_parameter_names(self) -> tuple[str, ...]:
        """``category_logit_0`` to that of k_max − 1."""
        return tuple(f"category_logit_{k}" for k in range(self.k_max))

    def gene_parameters(self) -> dict[str, Tensor]:
        """Those of the base distribution, and probabilities of small counts, ``probability_0`` to that of k_max − 1."""
        logits = [getattr(self, name).detach() for name in self.cell_parameter_names]
        probabilities = _log_probabilities(logits).exp()
        return {**self.base.gene_parameters(), **{f"probability_{k}": probabilities[k] for k in range(self.k_max)}}

    def _unconstrained(self) -> dict[str, Tensor]:
        return {**self.base._unconstrained(), **super()._unconstrained()}

    def _constrain(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        of_base, logits = self._split(parameters)
        return *self.base._constrain(*of_base), *logits

    def _split(self, parameters: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Parameters of the base distribution, and logits."""
        return parameters[: -self.k_max], parameters[-self.k_max :]

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> PiecewiseCategoricalBlock:
        of_base, logits = self._split(parameters)
        return PiecewiseCategoricalBlock(self.base, batch, rows, of_base, logits)

    def _constants(self, batch: CountBatch, *parameters: Tensor) -> Tensor | None:
        """Those of the base distribution."""
        at = (batch.values >= self.k_max).nonzero()[:, 0]
        excess = _as_one_cell(batch.values[at] - self.k_max)
        cells, genes = batch.cells[at], batch.genes[at]
        of_base, _ = self._split(parameters)
        constants = self.base._constants(
            excess, *(each[genes] if each.ndim == 1 else each[:, None, cells, genes] for each in of_base)
        )
        if constants is None:
            return None
        nothing = constants.new_zeros(*constants.shape[:-1], len(batch.values))
        return nothing.index_add(-1, at[excess.genes], constants)

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        of_base, logits = self._split(parameters)
        eta, y = torch.broadcast_tensors(eta, y)
        log_pi = _log_probabilities([logit.expand(y.shape) for logit in logits])
        of_category = log_pi.gather(0, y.clamp(max=self.k_max).long()[None])[0]
        base = self.base._log_prob(eta, (y - self.k_max).clamp(min=0), *of_base)
        return of_category + torch.where(y >= self.k_max, base, 0.0)

    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        r"""E[y] = :math:`\sum_{k<k_{max}} k π_k + π_{k_{max}} (k_{max} + E_0[y])`."""
        of_base, logits = self._split(parameters)
        *small, large = _log_probabilities(logits).exp()
        mean = large * (self.k_max + self.base._mean(eta, *of_base))
        return mean + sum(k * small[k] for k in range(1, self.k_max))

    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        r"""Var[y]: that within the last category, :math:`π_{k_{max}} Var_0[y]`, and that between all of them."""
        of_base, logits = self._split(parameters)
        *small, large = _log_probabilities(logits).exp()
        mean = self._mean(eta, *parameters)
        distance = self.k_max + self.base._mean(eta, *of_base) - mean
        variance = large * (self.base._variance(eta, *of_base) + distance.square())
        return variance + sum(small[k] * (k - mean).square() for k in range(self.k_max))

    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        of_base, logits = self._split(parameters)
        uniform = torch.rand(eta.shape, generator=generator, dtype=eta.dtype, device=eta.device)
        category = torch.zeros_like(uniform)
        for at_most in _log_probabilities(logits).exp().cumsum(0)[:-1]:
            category += uniform >= at_most
        excess = self.base._sample(eta, generator, *of_base)
        return torch.where(category == self.k_max, self.k_max + excess, category)

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        """Numbers of each category, and sums of the base distribution over counts that exceed k_max alone."""
        is_large = batch.values > self.k_max
        excess = CountBatch(
            (batch.dense - self.k_max).clamp(min=0),
            batch.cells[is_large],
            batch.genes[is_large],
            batch.values[is_large] - self.k_max,
        )
        at = batch.dense >= self.k_max
        expected_excess = torch.zeros_like(expected)
        expected_excess[at] = _expected_excess(expected[at], self.k_max)
        of_base = self.base._sums(excess, expected_excess)
        categories = batch.dense.clamp(max=self.k_max).long()
        numbers = torch.stack([(categories == k).sum(0).double() for k in range(self.k_max + 1)])
        return {"categories": numbers, **{f"base.{name}": value for name, value in of_base.items()}}

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Start the base at counts that exceed k_max, and logits at the categories' fractions, one cell more each."""
        self.base._start({name.removeprefix("base."): value for name, value in sums.items() if name != "categories"})
        *small, large = (sums["categories"] + 1).log()
        for name, number in zip(self.cell_parameter_names, small, strict=True):
            getattr(self, name).copy_(number - large)

    def extra_repr(self) -> str:
        """The number of categories; the base distribution is shown as a submodule."""
        return f"k_max={self.k_max}"


class PiecewiseCategoricalBlock(LogProbBlock):
    r""":math:`\log π_y` of small counts, :math:`\log π_{k_{max}} + \ell` of others, from the base distribution's ℓ.

    The base is evaluated only where it counts: its entries are those of one cell, whose "genes" they are. Slopes by
    the logits are :math:`1[y = k] - π_k`.
    """

    def __init__(
        self,
        base: Likelihood,
        batch: CountBatch,
        rows: slice,
        of_base: tuple[Tensor, ...],
        logits: tuple[Tensor, ...],
    ) -> None:
        self.logits, self.n_parameters, k_max = logits, len(of_base), len(logits)
        nonzeros = batch.positions(rows)
        y = batch.dense[rows].view(-1).index_select(0, nonzeros)
        self.small = [nonzeros[(y >= k) & (y < k + 1)] for k in range(1, k_max)]
        is_large = y >= k_max
        self.large = nonzeros[is_large]
        self.base = base._block(
            _as_one_cell(y[is_large] - k_max), slice(0, 1), *(_entries(each, self.large) for each in of_base)
        )

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability; keeps that of the last category."""
        peak = reduce(torch.maximum, self.logits).clamp(min=0)
        total = (-peak).exp_()
        for logit in self.logits:
            total.add_((logit - peak).exp_())
        kept.copy_(total.log_().add_(peak).neg_())
        value = kept + self.logits[0]
        flat = value.view(-1)
        for logit, at in zip(self.logits[1:], self.small, strict=True):
            flat[at] = _entries(kept, at) + _entries(logit, at)
        rates = _entries(eta, self.large)[None]
        flat[self.large] = _entries(kept, self.large) + self.base.value(rates, torch.empty_like(rates))[0]
        return value

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives by η, the base distribution's parameters, and the logits."""
        rates = _entries(eta, self.large)[None]
        scratch = torch.empty_like(rates)
        self.base.value(rates, scratch)
        by_base = [torch.zeros_like(eta) for _ in range(1 + self.n_parameters)]
        for slope, of_entries in zip(by_base, self.base.slopes(rates, scratch), strict=True):
            slope.view(-1)[self.large] = of_entries[0]
        by_logits = [(kept + logit).exp_().neg_() for logit in self.logits]
        of_zero = by_logits[0].add_(1).view(-1)
        of_zero[self.large] -= 1
        for slope, at in zip(by_logits[1:], self.small, strict=True):
            of_zero[at] -= 1
            slope.view(-1)[at] += 1
        return [*by_base, *by_logits]


def _log_probabilities(logits: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Log π of all categories, (k_max + 1, ...), from logits relative to the last one."""
    logits = torch.broadcast_tensors(*logits)
    return torch.stack([*logits, torch.zeros_like(logits[0])]).log_softmax(0)


def _as_one_cell(y: Tensor) -> CountBatch:
    """Batch of one cell that has these counts, (m,)."""
    genes = y.nonzero()[:, 0]
    return CountBatch(y[None], torch.zeros_like(genes), genes, y[genes])


def _entries(values: Tensor, at: Tensor) -> Tensor:
    """Some entries, by position, of an array (cells, p), or of one that is (p,) and the same for all cells."""
    return values.reshape(-1).index_select(0, at if values.ndim == 2 else at % len(values))


def _expected_excess(rate: Tensor, k: int) -> Tensor:
    r"""E[y − k | y ≥ k] of Poisson counts: :math:`λ P(y \ge k - 1) / P(y \ge k) - k`, at most rounding below 0."""
    at_least = [torch.special.gammainc(torch.full_like(rate, float(m)), rate) if m else 1.0 for m in (k - 1, k)]
    return (rate * at_least[0] / at_least[1] - k).nan_to_num(0.0, 0.0).clamp(min=0)
