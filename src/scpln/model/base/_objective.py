"""What a model's training maximises or minimises: its name, unit, value and direction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Objective:
    """What training optimises, as a mean over cells.

    Parameters
    ----------
    name
        Name in ``history``, ``training_`` and ``uns``, such as ``"elbo"``.
    unit
        Unit of the value.
    value
        Value that training ended with; NaN before.
    higher_is_better
        Whether it is maximised. What is not is a loss, and its name should say so.

    Examples
    --------
    >>> elbo = Objective("elbo", "nats per cell")
    >>> print(elbo.at(-31.25))
    -31.250 nats per cell
    >>> print(Objective("cross_entropy_loss", "nats per cell", 0.125, higher_is_better=False))
    0.125 nats per cell (loss)
    """

    name: str
    unit: str
    value: float = float("nan")
    higher_is_better: bool = True

    @property
    def meaning(self) -> dict[str, str | bool]:
        """What the value is, without it."""
        return {"name": self.name, "unit": self.unit, "higher_is_better": self.higher_is_better}

    def at(self, value: float) -> Self:
        """The same objective with a value."""
        return replace(self, value=float(value))

    def __str__(self) -> str:
        return f"{self.value:.3f} {self.unit}{'' if self.higher_is_better else ' (loss)'}"
