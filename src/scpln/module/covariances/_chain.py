"""Levels of which each depends on the one before it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from ._base import LEAST_VARIANCE, Covariance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._base import Matrix


class Chain(Covariance):
    r"""Covariance of a linear Gaussian Markov chain over levels of coordinates.

    .. math:: u^1 \sim N(0, \Sigma_1), \quad u^l \mid u^{l-1} \sim N(A_l u^{l-1}, \Sigma_l)

    Given a second moment S, the best A and Σ of each level are those of a regression on the level before it:
    :math:`A_l = S_{l,l-1} S_{l-1,l-1}^{-1}`, :math:`\Sigma_l = S_{ll} - A_l S_{l-1,l}`. One level has any covariance.

    Parameters
    ----------
    sizes
        Coordinates of each level; p in all.

    Examples
    --------
    >>> import numpy as np
    >>> covariance = Chain([1, 1, 1])
    >>> covariance.update(np.array([[1.0, 0.5, 0.4], [0.5, 1.0, 0.5], [0.4, 0.5, 1.0]]))
    >>> covariance.dense.round(3)  # of the first and last no more than the second says
    array([[1.  , 0.5 , 0.25],
           [0.5 , 1.  , 0.5 ],
           [0.25, 0.5 , 1.  ]])
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(int(sum(sizes)))
        ends = np.cumsum([0, *sizes])
        self.levels = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self._set([np.eye(size) for size in sizes], [np.zeros(pair[::-1]) for pair in pairwise(sizes)])

    def _set(self, roots: list[Matrix], transitions: list[Matrix]) -> None:
        """Take square roots of Σ_l, and A_l from the second level on."""
        self._roots, self.transitions = roots, transitions
        rows = [np.vstack([root.T, LEAST_VARIANCE**0.5 * np.eye(len(root))]) for root in roots]
        factors = [np.asarray(np.linalg.qr(row, mode="r")).T for row in rows]
        self._compose([factor * np.where(np.diagonal(factor) < 0, -1.0, 1.0) for factor in factors])

    def _compose(self, factors: list[Matrix]) -> None:
        """The Cholesky factor of Σ, level by level, of those of Σ_l."""
        self._factors = factors
        self._factor, self._spread = np.zeros((self.n_genes,) * 2), np.eye(self.n_genes)
        for i, level in enumerate(self.levels):
            if i:
                before = self.levels[i - 1]
                self._factor[level] = self.transitions[i - 1] @ self._factor[before]
                self._spread[level] += self.transitions[i - 1] @ self._spread[before]
            self._factor[level, level] = factors[i]

    @property
    def n_parameters(self) -> int:
        """Those of all Σ_l and A_l."""
        own = sum(len(root) * (len(root) + 1) // 2 for root in self._roots)
        return own + sum(transition.size for transition in self.transitions)

    @property
    def conditional_covariances(self) -> list[Matrix]:
        """Σ_l of every level."""
        return [factor @ factor.T for factor in self._factors]

    def update(self, second_moment: Matrix) -> None:
        """Regress each level on the one before it."""
        moment, factors, transitions = self._checked(second_moment), [], []
        try:
            for i, level in enumerate(self.levels):
                own = moment[level, level]
                if i:
                    before = self.levels[i - 1]
                    root = np.linalg.cholesky(moment[before, before])
                    half = solve_triangular(root, moment[before, level], lower=True)
                    transitions.append(np.asarray(solve_triangular(root.T, half)).T)
                    own = own - half.T @ half
                factors.append(np.asarray(np.linalg.cholesky(own)))
        except np.linalg.LinAlgError:
            msg = "second_moment is not positive definite, so no chain of levels fits it: there are too few cells."
            raise ValueError(msg) from None
        self._roots, self.transitions = factors, transitions
        self._compose(factors)

    @property
    def coordinates(self) -> Matrix:
        """A square root of every Σ_l, and every A_l."""
        return np.concatenate([part.ravel() for part in (*self._roots, *self.transitions)])

    def _split(self, numbers: Matrix) -> tuple[list[Matrix], list[Matrix]]:
        parts = (*self._roots, *self.transitions)
        pieces = np.split(np.asarray(numbers, np.float64), np.cumsum([part.size for part in parts])[:-1])
        shaped = [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]
        return shaped[: len(self._roots)], shaped[len(self._roots) :]

    def move(self, coordinates: Matrix) -> None:
        """Take square roots of Σ_l, and A_l."""
        self._set(*self._split(np.array(coordinates, np.float64)))

    def slope(self, gradient: Matrix) -> Matrix:
        r"""With :math:`T = (I - A)^{-1}`: :math:`(T^T G T)_{ll} R_l` by a root, and :math:`(T^T G \Sigma)_{l,l-1}` by A_l."""
        inner = self._spread.T @ gradient
        own, by_before = inner @ self._spread, inner @ self.dense
        roots = [own[level, level] @ root for level, root in zip(self.levels, self._roots, strict=True)]
        transitions = [by_before[after, before] for before, after in pairwise(self.levels)]
        return np.concatenate([part.ravel() for part in (*roots, *transitions)])

    def precondition(self, slope: Matrix, spread: Matrix) -> Matrix:
        """As if the levels before were known: slopes by roots times the spread given those, by A_l with the inverse covariance of the regressors too."""
        inverse = solve_triangular(self._spread, np.eye(self.n_genes), lower=True)
        given = inverse @ spread @ inverse.T
        roots, transitions = self._split(slope)
        covariance = self.dense
        moved = [given[level, level] @ root for level, root in zip(self.levels, roots, strict=True)]
        for (before, after), transition in zip(pairwise(self.levels), transitions, strict=True):
            regressors = covariance[before, before]
            moved.append(2 * given[after, after] @ np.linalg.solve(regressors, transition.T).T)
        return np.concatenate([part.ravel() for part in moved])

    @property
    def dense(self) -> Matrix:
        """Σ, (p, p)."""
        return self._factor @ self._factor.T

    @property
    def precision(self) -> Matrix:
        """Σ⁻¹, (p, p)."""
        return cho_solve((self._factor, True), np.eye(self.n_genes))

    @property
    def log_det(self) -> float:
        """Log-determinant of Σ."""
        return float(2 * np.log(np.diagonal(self._factor)).sum())

    @property
    def state(self) -> dict[str, Matrix]:
        """The Cholesky factor of Σ, which has all."""
        return {"factor": self._factor}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a Cholesky factor of a chain."""
        factor = np.asarray(state["factor"], np.float64)
        self.transitions = []
        for before, after in pairwise(self.levels):
            upper = factor[before, before.start : before.stop]
            self.transitions.append(solve_triangular(upper.T, factor[after, before].T).T)
        self._roots = [factor[level, level] for level in self.levels]
        self._compose(self._roots)
