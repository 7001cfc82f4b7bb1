"""How far estimates of coefficients are from what they estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import t as student

if TYPE_CHECKING:
    from scpln.core import Array

#: How covariances of estimates are found, the default first.
ErrorMethod: TypeAlias = Literal["hc3", "sandwich", "model"]


@dataclass(frozen=True)
class CoefficientErrors:
    """Covariances of the estimates of every gene's coefficients.

    Parameters
    ----------
    covariance
        Of the coefficients of each gene, (p, d, d).
    degrees_of_freedom
        Of Student's t distribution that estimates over standard errors are compared with.
    joint
        Of all coefficients, gene by gene, (p d, p d); None if it was not asked for.
    """

    covariance: Array
    degrees_of_freedom: float
    joint: Array | None = None

    def transformed(self, matrix: Array) -> Self:
        """Of coefficients in other units, B Aᵀ with the given A (d, d)."""
        joint = self.joint
        if joint is not None:
            p, d = self.covariance.shape[:2]
            blocks = joint.reshape(p, d, p, d)
            joint = np.einsum("ab,ibjc,ec->iaje", matrix, blocks, matrix, optimize=True).reshape(p * d, p * d)
        return replace(self, covariance=matrix @ self.covariance @ matrix.T, joint=joint)

    def relative_to(self, weights: Array) -> Self:
        """Of coefficients less a weighted mean of those of all genes, B_j − Σ_k w_k B_k, from `joint`.

        Parameters
        ----------
        weights
            w (p,), which add up to 1.

        Examples
        --------
        >>> errors = CoefficientErrors(np.ones((2, 1, 1)), np.inf, joint=np.eye(2))
        >>> errors.relative_to(np.array([0.5, 0.5])).covariance.ravel()
        array([0.5, 0.5])
        """
        assert self.joint is not None
        p, d = self.covariance.shape[:2]
        with_mean = np.einsum("ibjc,j->ibc", self.joint.reshape(p, d, p, d), weights)
        of_mean = np.einsum("j,jbc->bc", weights, with_mean)
        covariance = self.covariance - with_mean - with_mean.transpose(0, 2, 1) + of_mean
        return replace(self, covariance=covariance, joint=None)

    @property
    def standard_errors(self) -> Array:
        """(p, d)."""
        return np.sqrt(np.maximum(np.einsum("pdd->pd", self.covariance), 0))

    def quantile(self, level: float) -> float:
        """What a standard error is multiplied with to get half of an interval."""
        return float(student.ppf(0.5 + level / 2, self.degrees_of_freedom))

    def wald(self, coefficients: Array, contrasts: Array) -> WaldTests:
        r"""Tests of :math:`L B_j = 0` for every gene.

        .. math:: F_j = \tfrac1r (L B_j)^T (L S_j L^T)^{-1} (L B_j)

        with r degrees of freedom and those of the errors; for one contrast it is the square of a t statistic.

        Parameters
        ----------
        coefficients
            B (p, d).
        contrasts
            L (r, d), of full row rank.

        Examples
        --------
        >>> errors = CoefficientErrors(np.array([[[1.0, 0.0], [0.0, 0.25]]]), np.inf)
        >>> errors.wald(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]])).p_values.round(4)
        array([0.0455])
        """
        effects = coefficients @ contrasts.T
        variance = contrasts @ self.covariance @ contrasts.T
        r = len(contrasts)
        known = np.isfinite(variance).all((1, 2)) & (np.einsum("prr->pr", variance) > 0).all(1)
        statistic = np.zeros(len(effects))
        scale = np.sqrt(np.einsum("prr->pr", variance[known]))
        standard = effects[known] / scale
        correlation = variance[known] / (scale[:, :, None] * scale[:, None])
        inverse = np.linalg.pinv(correlation, rcond=1e-10, hermitian=True)
        statistic[known] = np.einsum("pr,prs,ps->p", standard, inverse, standard) / r
        if r == 1:
            scores = np.sign(effects[:, 0]) * np.sqrt(statistic)
            p_values = 2 * student.sf(np.abs(scores), self.degrees_of_freedom)
        else:
            scores = statistic
            p_values = fisher.sf(statistic, r, self.degrees_of_freedom)
        errors = np.sqrt(np.maximum(np.einsum("prr->pr", variance), 0))
        return WaldTests(effects, errors, scores, np.where(known, p_values, 1.0), known)


@dataclass(frozen=True)
class WaldTests:
    """Tests of r contrasts of every gene's coefficients.

    Attributes
    ----------
    effects, errors
        Estimates and standard errors, natural logarithms of ratios, (p, r).
    scores
        t statistics of one contrast, F statistics of several, (p,).
    p_values
        Two-sided, 1 for genes whose errors are not known, (p,).
    tested
        Whether they are, (p,).
    """

    effects: Array
    errors: Array
    scores: Array
    p_values: Array
    tested: Array
