"""The decoder with a multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from scpln.module._standardize import Standardize, Unit

from ._base import Decoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from scpln.module._batch import Known


#: Standard deviation of the loadings that a decoder starts from, and of the last layer of its network.
_START = 0.01


class MLPDecoder(Decoder):
    r"""Log-rates from a network: :math:`\eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j + W_j \cdot h(z_i, x_i)`.

    h is a multilayer perceptron with LayerNorm; x is standardised (`Standardize`). Without hidden layers this is the
    linear decoder.

    Parameters
    ----------
    n_genes, n_covariates, n_latent
        Genes p, columns d of the design (the first is the intercept), latent dimensions q.
    hidden
        Widths of the hidden layers of h; empty for none.
    dropout
        Probability by which hidden units are left out in training.
    softmax
        Whether rates are shares of a total: :math:`\eta_{ij} = o_i + t + \log \text{softmax}_j(\cdot)`, with the log
        total count t of a cell with offset 0.
    by_cell
        Names of the likelihood's parameters that vary by cell: the network adds to those of the genes.
    by_batch, n_batches
        Names of those that vary by batch, and number of batches.
    real_values
        Whether η are real values, not log-rates: all parameters are in their unit.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> decoder = MLPDecoder(n_genes=4, n_covariates=1, n_latent=2, hidden=(16,), by_cell=["gate_logits"])
    >>> batch = Batch.from_arrays(np.zeros((3, 4)), np.zeros(3), np.ones((3, 1)))
    >>> eta, deviations = decoder.decode(torch.ones(7, 3, 2), batch)
    >>> eta.shape, deviations["gate_logits"].shape
    (torch.Size([7, 3, 4]), torch.Size([7, 3, 4]))
    """

    log_total: torch.Tensor

    def __init__(
        self,
        n_genes: int,
        n_covariates: int,
        n_latent: int,
        *,
        hidden: Sequence[int] = (128,),
        dropout: float = 0.0,
        softmax: bool = False,
        by_cell: Sequence[str] = (),
        by_batch: Sequence[str] = (),
        n_batches: int = 1,
        real_values: bool = False,
    ) -> None:
        super().__init__(n_genes, n_latent)
        self.coefficients = nn.Parameter(torch.zeros(n_genes, n_covariates))
        self.loadings = nn.Parameter(torch.randn(n_genes, n_latent) * _START)
        self.softmax = softmax
        self.standardize = Standardize(n_covariates)
        self.unit = Unit() if real_values else None
        widths = [n_latent + n_covariates - 1, *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.SiLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers)
        self.rate = _small_linear(widths[-1], n_genes) if hidden else None
        self.by_cell = nn.ModuleDict({name: _small_linear(widths[-1], n_genes) for name in by_cell})
        tables = {name: nn.Parameter(torch.zeros(n_batches, n_genes)) for name in by_batch}
        self.by_batch = nn.ParameterDict(tables)
        self.register_buffer("log_total", torch.zeros(()))

    def decode(self, z: torch.Tensor, known: Known) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Log-rates η (..., n, p), and deviations of the likelihood's parameters from those of the genes, by name."""
        features = self._features(z, known)
        deviations = {name: head(features) for name, head in self.by_cell.items()}
        for name, table in self.by_batch.items():
            assert known.batches is not None
            deviations[name] = table[known.batches]
        return self._log_rates(z, features, known), deviations

    @property
    def gene_parameters(self) -> list[torch.Tensor]:
        """Coefficients B, which are not part of the network."""
        return [self.coefficients]

    @property
    def deviations_by_batch(self) -> list[torch.Tensor]:
        """Tables (batches, p) of what batches add to the likelihood's parameters."""
        return list(self.by_batch.values())

    def linear_map(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """B for the design as it is given, before it is standardised, and C, if there are no hidden layers: float64.

        Numbers far from 0, as a year, make a large intercept of small coefficients.
        """
        if self.rate is not None or self.softmax:
            return None
        coefficients = self.coefficients.double() / self.standardize.spread.double()
        intercept = coefficients[:, :1] - coefficients @ self.standardize.center.double()[:, None]
        unit = 1.0 if self.unit is None else self.unit.value.double()
        return torch.cat([intercept, coefficients[:, 1:]], 1) * unit, self.loadings.double() * unit

    @torch.no_grad()
    def start_at(self, log_means: NDArray[np.float64], log_total: float, design: torch.Tensor) -> None:
        """Set every gene's log-rate to its mean (p,), whatever the latent state; learn the scale of the design."""
        self.standardize.fit(design)
        if self.softmax:
            self.log_total.fill_(log_total)
        self.coefficients.zero_()
        self.coefficients[:, 0] = torch.from_numpy(log_means)
        if self.unit is not None:
            self.coefficients[:, 0] /= self.unit.value

    def _features(self, z: torch.Tensor, known: Known) -> torch.Tensor:
        covariates = self.standardize(known.design)[:, 1:]
        if covariates.shape[1]:
            z = torch.cat([z, covariates.expand(*z.shape[:-1], -1)], -1)
        return self.layers(z)

    def _log_rates(self, z: torch.Tensor, features: torch.Tensor, known: Known) -> torch.Tensor:
        design = self.standardize(known.design)
        if self.softmax:
            own = torch.log_softmax(self._linear_predictor(z, features, design @ self.coefficients.T), -1)
            return own + (known.gene_offsets + self.log_total)
        if self.unit is not None:
            own = self._linear_predictor(z, features, design @ self.coefficients.T)
            return own.mul(self.unit.value).add_(known.gene_offsets)
        return self._linear_predictor(z, features, torch.addmm(known.gene_offsets, design, self.coefficients.T))

    def _linear_predictor(self, z: torch.Tensor, features: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Fixed part (n, p) + z·C + W·h, with as few passes over (..., n, p) as possible."""
        inputs: list[torch.Tensor] = [z]
        weights: list[torch.Tensor] = [self.loadings]
        if self.rate is not None:
            inputs.append(features)
            weights.append(self.rate.weight)
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
        w = weights[0] if len(weights) == 1 else torch.cat(weights, -1)
        if len(x) == 1 and x.ndim == 3:
            return torch.addmm(fixed, x[0], w.T)[None]
        return (x @ w.T).add_(fixed)


def _small_linear(n_in: int, n_out: int) -> nn.Linear:
    """Linear layer without bias that starts near 0; the bias is the gene's own parameter."""
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.normal_(layer.weight, std=_START)
    return layer
