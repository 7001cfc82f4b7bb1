"""The autoregressive process of the residuals of a series."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from scpln.core import Array
    from scpln.module.covariances import Covariance

#: What the autoregression is: one number for all genes, or one for each; the default first.
AutoregressionName: TypeAlias = Literal["scalar", "diagonal"]
#: Largest angle: φ = tanh(8) is 1 − 2e-7.
MOST = 8.0


@dataclass
class ProcessSlope:
    """Twice the slope of the bound by Σ, (p, p), and the slope by φ of each gene, (p,), each with the other as it is."""

    stationary: Array
    phi: Array

    def __add__(self, other: ProcessSlope) -> ProcessSlope:
        return ProcessSlope(self.stationary + other.stationary, self.phi + other.phi)


class Process:
    r"""Stationary vector autoregression of order 1 with a diagonal :math:`\Phi = \text{diag}(\phi)`.

    .. math:: r_t = \Phi^{\Delta_t} r_{t-1} + \epsilon_t, \quad \epsilon_t \sim N(0, \Sigma - \Phi^{\Delta_t} \Sigma \Phi^{\Delta_t}),
        \quad r_1 \sim N(0, \Sigma)

    with the time Δ since the sample before, so that every :math:`r_t \sim N(0, \Sigma)`. With one φ for all genes ("scalar") Σ is of the given family, and any
    is valid. With one for each ("diagonal") the family is that of the innovations' covariance Q over a step of 1, and

    .. math:: \Sigma_{jk} = Q_{jk} / (1 - \phi_j \phi_k) = \sum_{s \ge 0} \phi_j^s \phi_k^s Q_{jk},

    which is positive definite for any Q and :math:`|\phi_j| < 1`; so is the covariance of the innovations over any whole number of steps.
    Angles θ without bounds give :math:`\phi = \tanh\theta`, or :math:`\phi = (1 + \tanh\theta) / 2` where times are not whole multiples of a unit,
    of which negative φ have no powers.

    Parameters
    ----------
    family
        Covariance Σ, or Q.
    kind
        ``"scalar"`` or ``"diagonal"``.
    signed
        Whether φ may be negative.
    """

    def __init__(self, family: Covariance, kind: AutoregressionName = "scalar", *, signed: bool = True) -> None:
        self.family, self.kind, self.signed = family, kind, signed
        self.angles = np.zeros(1 if kind == "scalar" else family.n_genes)

    @property
    def phi(self) -> Array:
        """φ of each gene, (p,)."""
        phi = np.tanh(self.angles)
        return np.broadcast_to(phi if self.signed else 0.5 * (1 + phi), (self.family.n_genes,)).copy()

    def set_phi(self, phi: Array) -> None:
        """Take φ, (1,) or (p,), moved to where it has an angle."""
        value = phi if self.signed else 2 * phi - 1
        self.angles = np.arctanh(np.clip(value, -np.tanh(MOST), np.tanh(MOST))).reshape(self.angles.shape)

    def by_gene(self) -> Process:
        """The same process with a φ of each gene, of which a scalar one is free to differ."""
        result = Process(copy.deepcopy(self.family), "diagonal", signed=self.signed)
        result.family.move(self.family.coordinates * np.sqrt(1 - self.phi[0] ** 2))
        result.set_phi(self.phi)
        return result

    @property
    def stationary(self) -> Array:
        """Σ, (p, p)."""
        return self.family.dense if self.kind == "scalar" else self.family.dense * self._amplification

    @property
    def _amplification(self) -> Array:
        """1 / (1 − φ_j φ_k), (p, p)."""
        phi = self.phi
        return 1 / (1 - np.outer(phi, phi))

    @property
    def innovation(self) -> Array:
        """Q, the covariance of the innovations over a step of 1, (p, p)."""
        phi = self.phi
        return self.stationary * (1 - np.outer(phi, phi))

    @property
    def n_parameters(self) -> int:
        """Free numbers of covariance and autoregression."""
        return self.family.n_parameters + len(self.angles)

    def decay(self, lags: Array) -> Array:
        """Diagonals of Φ^Δ, (k, p); 0 at a lag of ∞."""
        return np.power(self.phi, lags[:, None])

    def decay_slope(self, lags: Array) -> Array:
        """Their derivatives by φ."""
        known = np.isfinite(lags)[:, None]
        finite = np.where(known, lags[:, None], 1)
        return np.where(known, finite * np.power(self.phi, finite - 1), 0)

    @property
    def coordinates(self) -> Array:
        """Coordinates of the family, and angles."""
        return np.concatenate([self.family.coordinates, self.angles])

    def move(self, coordinates: Array) -> None:
        """Take both from coordinates."""
        own, angles = np.split(coordinates, [len(coordinates) - len(self.angles)])
        self.family.move(own)
        self.angles = np.clip(angles, -MOST, MOST)

    def slope(self, slope: ProcessSlope) -> Array:
        """Of the bound by the coordinates."""
        by_family, by_phi, phi = slope.stationary, slope.phi, self.phi
        if self.kind == "diagonal":  # as φ changes Σ, too
            by_family = by_family * self._amplification
            by_phi = by_phi + (by_family * self.stationary) @ phi
        by_angle = by_phi * (1 - phi**2 if self.signed else 2 * phi * (1 - phi))
        by_angle = by_angle.sum(keepdims=True) if self.kind == "scalar" else by_angle
        return np.concatenate([self.family.slope(by_family), by_angle])
