"""Counts of several modalities, each with a likelihood of its own."""

from __future__ import annotations

from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ._base import Likelihood
from ._blocks import LogProbBlock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from scpln.module._count_batch import CountBatch


class JointLikelihood(Likelihood):
    r"""Counts of several modalities side by side: the genes of each have a likelihood of their own.

    .. math:: \log p(y_i | η_i) = \sum_m \sum_{j \in m} \log p_m(y_{ij} | η_{ij})

    Parameters go by modality and name, ``"rna.log_inverse_dispersion"``, and have the length of their modality.

    Parameters
    ----------
    parts
        Likelihood of each modality, by name, in the order of the genes; likelihoods of counts.

    Examples
    --------
    >>> import torch
    >>> from scpln.module.likelihoods import Bernoulli, NegativeBinomial
    >>> likelihood = JointLikelihood({"rna": NegativeBinomial(2), "atac": Bernoulli(1)})
    >>> likelihood.log_prob(torch.zeros(3), torch.tensor([0, 2, 1])).detach()
    tensor([-0.9531, -1.7416, -0.4587])
    >>> likelihood.gene_parameters()
    {'inverse_dispersion': tensor([10., 10., nan])}
    >>> list(likelihood.state_dict())
    ['_parts.of rna.log_inverse_dispersion']
    """

    def __init__(self, parts: Mapping[str, Likelihood]) -> None:
        super().__init__(sum(part.n_genes for part in parts.values()))
        for name, part in parts.items():
            if not part.is_count or part.cell_parameter_names:
                msg = (
                    f"The likelihood of {name!r} is {type(part).__name__}, but joint models need likelihoods of counts "
                    f"with parameters of genes: Poisson, NegativeBinomial, their zero-inflated forms, PoissonLogNormal, or Bernoulli."
                )
                raise ValueError(msg)
        self._names = tuple(parts)
        self._parts = nn.ModuleDict({_key(name): part for name, part in parts.items()})

    @property
    def parts(self) -> dict[str, Likelihood]:
        """Likelihood of each modality, by name."""
        return dict(zip(self._names, self._laws, strict=True))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of genes of each modality."""
        return tuple(part.n_genes for part in self._laws)

    @property
    def slices(self) -> list[slice]:
        """Genes of each modality."""
        return [slice(*ends) for ends in pairwise(accumulate(self.sizes, initial=0))]

    @property
    def _laws(self) -> list[Likelihood]:
        return list(self._parts.values())  # type: ignore[arg-type]

    def log_mean_offset(self) -> Tensor:
        """That of each gene's likelihood."""
        return torch.cat([part.log_mean_offset() for part in self._laws])

    def gene_parameters(self) -> dict[str, Tensor]:
        """Those of all modalities, (p,) each, with NaN for genes of modalities without."""
        values: dict[str, Tensor] = {}
        for genes, part in zip(self.slices, self._laws, strict=True):
            for name, value in part.gene_parameters().items():
                values.setdefault(name, value.new_full((self.n_genes,), torch.nan))[genes] = value
        return values

    def subset(self, genes: Any) -> JointLikelihood:
        """Copy for some of the genes; where these leave a modality and return to it, it has several parts."""
        codes = torch.repeat_interleave(torch.arange(len(self._laws)), torch.tensor(self.sizes))
        chosen = torch.arange(self.n_genes)[genes].tolist()
        parts: dict[str, Likelihood] = {}
        for code, run in groupby(chosen, key=lambda gene: int(codes[gene])):
            name, first = self._names[code], self.slices[code].start
            while name in parts:
                name += "'"
            parts[name] = self._laws[code].subset(torch.tensor([gene - first for gene in run]))
        return JointLikelihood(parts)

    def _unconstrained(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value for name, part in self.parts.items() for key, value in part._unconstrained().items()
        }

    def _constrain(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        split = self._split(parameters)
        return tuple(each for part, own in zip(self._laws, split, strict=True) for each in part._constrain(*own))

    def _split(self, parameters: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """Parameters of each modality."""
        counts = (len(part.parameter_names) for part in self._laws)
        return [parameters[slice(*ends)] for ends in pairwise(accumulate(counts, initial=0))]

    def _bounded_parameters(
        self, dtype: torch.dtype, deviations: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        if deviations:
            msg = f"deviations of {list(deviations)} are given, but the likelihoods of modalities together take none."
            raise ValueError(msg)
        return super()._bounded_parameters(dtype)

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> JointBlock:
        parts = zip(self._laws, batch.split(self.sizes), self._split(parameters), strict=True)
        return JointBlock(self.slices, [part._block(counts, rows, *own) for part, counts, own in parts])

    def _constants(self, batch: CountBatch, *parameters: Tensor) -> Tensor | None:
        total = batch.values.new_zeros(len(batch.values), dtype=torch.float64)
        parts = zip(self._laws, batch.split(self.sizes), self.slices, self._split(parameters), strict=True)
        for part, counts, genes, own in parts:
            constants = part._constants(counts, *own)
            if constants is not None:
                at = ((batch.genes >= genes.start) & (batch.genes < genes.stop)).nonzero()[:, 0]
                total = total.index_add(0, at, constants)
        return total

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        eta, y = torch.broadcast_tensors(eta, y)
        parts = zip(
            self._laws, eta.split(self.sizes, -1), y.split(self.sizes, -1), self._split(parameters), strict=True
        )
        return torch.cat([part._log_prob(rates, counts, *own) for part, rates, counts, own in parts], -1)

    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """E[y] under the likelihood of each gene."""
        return torch.cat([part._mean(rates, *own) for part, rates, own in self._by_part(eta, parameters)], -1)

    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """Var[y] under the likelihood of each gene."""
        return torch.cat([part._variance(rates, *own) for part, rates, own in self._by_part(eta, parameters)], -1)

    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        parts = self._by_part(eta, parameters)
        return torch.cat([part._sample(rates, generator, *own) for part, rates, own in parts], -1)

    def _by_part(self, eta: Tensor, parameters: Sequence[Tensor]) -> zip[tuple[Likelihood, Tensor, Sequence[Tensor]]]:
        return zip(self._laws, eta.split(self.sizes, -1), self._split(parameters), strict=True)

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        parts = zip(self._names, self._laws, batch.split(self.sizes), expected.split(self.sizes, -1), strict=True)
        return {
            f"{name}.{key}": value
            for name, part, counts, rates in parts
            for key, value in part._sums(counts, rates).items()
        }

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Start each modality at its own sums."""
        for name, part in self.parts.items():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}
            if own:
                part._start(own)

    def extra_repr(self) -> str:
        """Nothing: the likelihoods are shown as submodules."""
        return ""


class JointBlock(LogProbBlock):
    """Blocks of several likelihoods side by side."""

    def __init__(self, slices: list[slice], blocks: list[LogProbBlock]) -> None:
        self._parts = list(zip(slices, blocks, strict=True))

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probabilities of each likelihood; keeps what each of them does."""
        values = []
        for genes, block in self._parts:
            rates = eta[:, genes].contiguous()
            own = torch.empty_like(rates)
            values.append(block.value(rates, own))
            kept[:, genes] = own
        return torch.cat(values, 1)

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives by η, and by the parameters of each likelihood."""
        parts = [block.slopes(eta[:, genes].contiguous(), kept[:, genes].contiguous()) for genes, block in self._parts]
        return [torch.cat([by_eta for by_eta, *_ in parts], 1), *(each for _, *others in parts for each in others)]


def _key(name: str) -> str:
    """Name of a submodule: torch takes no dots, and none that is a method of its modules."""
    return "of " + name.replace("%", "%25").replace(".", "%2E")
