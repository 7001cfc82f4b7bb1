"""Directions in which a covariance between genes may move, and what a cell's bound does along them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scpln.core import Array


class Directions(ABC):
    r"""Derivatives :math:`E_t = \partial\Sigma / \partial\varphi_t` of Σ (p, p) by T parameters, without forming them.

    Methods take α (n, p), and matrices N or K of cells (n, p, p), as `GeneSpaceCells` has them.
    """

    #: Whether they are all that is estimated of Σ.
    complete: bool = True

    @property
    @abstractmethod
    def size(self) -> int:
        """T."""

    @abstractmethod
    def score(self, shift: Array, reduced: Array) -> Array:
        r"""Derivatives of the bounds, :math:`\frac12 [\alpha^T E_t \alpha - \text{tr}(E_t K)]`, (n, T)."""

    @abstractmethod
    def applied(self, shift: Array) -> Array:
        r""":math:`E_t \alpha`, (n, p, T)."""

    @abstractmethod
    def spread(self, remainder: Array) -> Array:
        r""":math:`\text{diag}(N E_t N^T)`, (n, p, T)."""

    @abstractmethod
    def traces(self, first: Array, second: Array) -> Array:
        r""":math:`\sum_i \text{tr}(E_s X_i E_t Y_i)`, (T, T)."""

    @abstractmethod
    def moved(self, change: Array) -> Array:
        r""":math:`\sum_t E_t\, d\varphi_{it}`, (n, p, p), for changes (n, T)."""

    @property
    def idle(self) -> Array:
        """Directions that Σ does not move in, columns of a matrix (T, …)."""
        return np.empty((self.size, 0))

    def bend(self, gradient: Array) -> Array:
        r""":math:`\frac12 \text{tr}(G\, \partial^2\Sigma / \partial\varphi_s \partial\varphi_t)`, (T, T): 0 where Σ is linear in φ."""
        return np.zeros((self.size, self.size))


@dataclass(frozen=True)
class Combinations(Directions):
    """Parameters that Σ is linear in, with given matrices E (T, p, p), symmetric."""

    matrices: Array

    @property
    def size(self) -> int:
        """T."""
        return len(self.matrices)

    def score(self, shift: Array, reduced: Array) -> Array:
        """As it stands."""
        squares = np.einsum("np,tpq,nq->nt", shift, self.matrices, shift, optimize=True)
        traces = np.einsum("tpq,nqp->nt", self.matrices, reduced, optimize=True)
        return 0.5 * (squares - traces)

    def applied(self, shift: Array) -> Array:
        """As it stands."""
        return np.einsum("tpq,nq->npt", self.matrices, shift, optimize=True)

    def spread(self, remainder: Array) -> Array:
        """As it stands."""
        half = np.einsum("npq,tqr->ntpr", remainder, self.matrices, optimize=True)
        return np.einsum("ntpr,npr->npt", half, remainder, optimize=True)

    def traces(self, first: Array, second: Array) -> Array:
        """As it stands."""
        left = np.einsum("spq,nqr->nspr", self.matrices, first, optimize=True)
        right = np.einsum("tpq,nqr->ntpr", self.matrices, second, optimize=True)
        return np.einsum("nspr,ntrp->st", left, right, optimize=True)

    def moved(self, change: Array) -> Array:
        """As it stands."""
        return np.tensordot(change, self.matrices, 1)


@dataclass(frozen=True)
class Columns(Directions):
    r"""Entries of a matrix C (p, q) with :math:`\Sigma = C C^T`, row by row: :math:`E_{jk} = e_j c_k^T + c_k e_j^T`.

    Loadings are one, and so is any square root of a full Σ, in which a singular estimate is no boundary. Rotations of C change nothing.
    """

    loadings: Array

    @property
    def size(self) -> int:
        """T = p q."""
        return int(self.loadings.size)

    def score(self, shift: Array, reduced: Array) -> Array:
        """α_j (Cᵀα)_k − (KC)_jk."""
        states = shift @ self.loadings
        return (shift[:, :, None] * states[:, None] - reduced @ self.loadings).reshape(len(shift), -1)

    def applied(self, shift: Array) -> Array:
        """(Cᵀα)_k in row j, and c_k α_j."""
        (n, p), q = shift.shape, self.loadings.shape[1]
        result = self.loadings[None, :, None, :] * shift[:, None, :, None]
        genes = np.arange(p)
        result[:, genes, genes] += (shift @ self.loadings)[:, None]
        return result.reshape(n, p, p * q)

    def spread(self, remainder: Array) -> Array:
        """2 N_lj (NC)_lk."""
        n, p, _ = remainder.shape
        return (2 * remainder[:, :, :, None] * (remainder @ self.loadings)[:, :, None]).reshape(n, p, -1)

    def traces(self, first: Array, second: Array) -> Array:
        """(CᵀX)_kl (CᵀY)_mj + (CᵀXC)_km Y_lj + X_jl (CᵀYC)_mk + (XC)_jm (YC)_lk."""
        c = self.loadings
        of_first, of_second = first @ c, second @ c
        terms = (
            np.einsum("nlk,njm->jklm", of_first, of_second, optimize=True),
            np.einsum("nkm,nlj->jklm", c.T @ of_first, second, optimize=True),
            np.einsum("njl,nmk->jklm", first, c.T @ of_second, optimize=True),
            np.einsum("njm,nlk->jklm", of_first, of_second, optimize=True),
        )
        return sum(terms).reshape(self.size, self.size)

    def moved(self, change: Array) -> Array:
        """DC Cᵀ + C dCᵀ."""
        half = change.reshape(-1, *self.loadings.shape) @ self.loadings.T
        return half + half.transpose(0, 2, 1)

    @property
    def idle(self) -> Array:
        """Rotations, C times what is antisymmetric."""
        q = self.loadings.shape[1]
        first, second = np.tril_indices(q, -1)
        turns = np.zeros((len(self.loadings), q, len(first)))
        numbers = np.arange(len(first))
        turns[:, first, numbers] = self.loadings[:, second]
        turns[:, second, numbers] = -self.loadings[:, first]
        return turns.reshape(self.size, -1)

    def bend(self, gradient: Array) -> Array:
        """G for entries of the same column."""
        return np.kron(gradient, np.eye(self.loadings.shape[1]))


@dataclass(frozen=True)
class Scales(Directions):
    r"""Logarithm of every gene's standard deviation, with all correlations as they are: :math:`E_j = e_j \Sigma_j^T + \Sigma_j e_j^T`."""

    covariance: Array
    complete: bool = False

    @property
    def size(self) -> int:
        """T = p."""
        return len(self.covariance)

    def score(self, shift: Array, reduced: Array) -> Array:
        """α_j (Σα)_j − (KΣ)_jj."""
        return shift * (shift @ self.covariance) - np.einsum("njk,kj->nj", reduced, self.covariance)

    def applied(self, shift: Array) -> Array:
        """(Σα)_j in row j, and Σ_j α_j."""
        result = self.covariance * shift[:, None]
        genes = np.arange(self.size)
        result[:, genes, genes] += shift @ self.covariance
        return result

    def spread(self, remainder: Array) -> Array:
        """2 N_lj (NΣ)_lj."""
        result: Array = 2 * remainder * (remainder @ self.covariance)
        return result

    def traces(self, first: Array, second: Array) -> Array:
        """(ΣX)_jk (ΣY)_kj + (ΣXΣ)_jk Y_kj + X_jk (ΣYΣ)_kj + (XΣ)_jk (YΣ)_kj."""
        s = self.covariance
        left, right = s @ first, s @ second
        terms = (
            np.einsum("njk,nkj->jk", left, right),
            np.einsum("njk,nkj->jk", left @ s, second),
            np.einsum("njk,nkj->jk", first, right @ s),
            np.einsum("njk,nkj->jk", first @ s, second @ s),
        )
        return sum(terms)

    def moved(self, change: Array) -> Array:
        """Σ_jk (dφ_j + dφ_k)."""
        result: Array = self.covariance * (change[:, :, None] + change[:, None])
        return result

    def bend(self, gradient: Array) -> Array:
        """G ∘ Σ, and the slope itself, which 0 is at the optimum."""
        return gradient * self.covariance + np.diag(np.einsum("jk,kj->j", gradient, self.covariance))
