"""Covariates and real values on one scale, for networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

#: Spread of a column, as a share of its largest number, that is rounding.
_ROUNDING = 1e-12


class Standardize(nn.Module):
    """Design (n, d) whose numbers have mean 0 and standard deviation 1; columns of zeros and ones stay as they are.

    A network that saw ages in years would see little else, and steps of its coefficients would be far too long. The
    design of a model has its numbers on one scale already (`scpln.data.Design`); one that is made by hand may not, nor
    had models of earlier versions.

    Parameters
    ----------
    n_covariates
        Columns d.

    Examples
    --------
    >>> standardize = Standardize(2)
    >>> design = torch.tensor([[1.0, 20.0], [1.0, 60.0]])
    >>> standardize.fit(design)
    >>> standardize(design)
    tensor([[ 1., -1.],
            [ 1.,  1.]])
    """

    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, n_covariates: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_covariates))
        self.register_buffer("spread", torch.ones(n_covariates))

    @torch.no_grad()
    def fit(self, design: torch.Tensor) -> None:
        """Take mean and standard deviation from the cells' design."""
        design = design.double()
        numbers = ((design != 0) & (design != 1)).any(0)
        spread = design.std(0, correction=0)
        varies = spread > _ROUNDING * design.abs().amax(0)
        self.center.copy_(torch.where(numbers, design.mean(0), 0.0))
        self.spread.copy_(torch.where(numbers & varies, spread, 1.0))

    def forward(self, design: torch.Tensor) -> torch.Tensor:
        """The standardised design (n, d)."""
        return (design - self.center) / self.spread


class Unit(nn.Module):
    """Unit of real values: networks see values in it, and give them in it, so that steps fit them whatever they measure.

    Examples
    --------
    >>> unit = Unit()
    >>> float(unit.value)
    1.0
    """

    log_unit: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_unit", torch.zeros(()))

    @property
    def value(self) -> torch.Tensor:
        """The unit."""
        return self.log_unit.exp()

    @staticmethod
    @torch.no_grad()
    def set(module: nn.Module, log_unit: float) -> None:
        """Set all units in a module."""
        for part in module.modules():
            if isinstance(part, Unit):
                part.log_unit.fill_(log_unit)

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any) -> None:
        """Models of earlier versions have the unit 1."""
        state_dict.setdefault(f"{prefix}log_unit", torch.zeros_like(self.log_unit))
        super()._load_from_state_dict(state_dict, prefix, *args)
