"""What every family of components does: densities, a step of maximisation, a prior, draws, and arrays that can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Components(ABC):
    """K densities f_k(x) of one family, which do not change once they are made.

    Data go in as `statistics` leaves them, so that what every step needs (logarithms of proportions) is computed once.
    """

    #: Name of the family.
    name: ClassVar[str]

    @staticmethod
    def statistics(x: Floats) -> Floats:
        """What densities are computed from (n × p)."""
        return x

    @abstractmethod
    def log_prob(self, statistics: Floats) -> Floats:
        """Log f_k(x_i), n × K, nats."""

    @abstractmethod
    def maximized(self, statistics: Floats, responsibilities: Floats) -> Self:
        """Components for which Σ_i τ_ik log f_k(x_i) + log p(γ) is at least what it is for these; τ (n × K) has the weights of rows in it."""

    @property
    @abstractmethod
    def log_prior(self) -> float:
        """Log p(γ) up to a constant, nats."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Free parameters of all components."""

    @abstractmethod
    def subset(self, kept: NDArray[np.intp]) -> Self:
        """Some of the components, in the given order."""

    @abstractmethod
    def sample(self, component: NDArray[np.intp], random: np.random.Generator, totals: NDArray[np.int64]) -> Floats:
        """A draw from f_k for each entry of `component`; totals are of counts."""

    @property
    @abstractmethod
    def arrays(self) -> dict[str, Floats]:
        """All numbers that it consists of, by name."""
