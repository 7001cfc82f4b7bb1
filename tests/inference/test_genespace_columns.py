"""Coefficients of new columns in gene space."""

from dataclasses import replace

import numpy as np
import pytest

from scpln.core import Threads
from scpln.inference import CoefficientPrior, CountData, fit_pln, fit_pln_columns, infer_pln
from scpln.inference.genespace import _infer
from scpln.inference.genespace._observations import Observations
from scpln.inference.query import _gene_space
from scpln.module.covariances import Full


@pytest.fixture
def known():
    """Data with a new column, and a fit without it."""
    random = np.random.default_rng(3)
    design = np.column_stack([np.ones(60), random.standard_normal(60)])
    log_rates = 2 + random.standard_normal((60, 5)) @ (0.5 * random.standard_normal((5, 5)))
    groups = (random.random(60) < 0.4).astype(float)
    log_rates += np.outer(groups, [0.5, 1, -1, 0, 1])
    before = CountData(random.poisson(np.exp(log_rates)), np.zeros(60), design)
    return replace(before, design=np.column_stack([design, groups])), before


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_only_new_columns_move_and_the_bound_rises(posterior, known):
    data, before = known
    is_new = np.array([False, False, True])
    reference = fit_pln(before, Full(5), posterior=posterior)
    start = np.column_stack([reference.coefficients, np.zeros(5)])
    found = fit_pln_columns(data, start, reference.covariance, is_new, posterior=posterior, tol=1e-10)
    assert found.converged
    np.testing.assert_array_equal(found.coefficients[:, :2], reference.coefficients)
    again = infer_pln(data, found.coefficients, reference.covariance, posterior=posterior)
    np.testing.assert_allclose(found.elbo, again.elbo, atol=1e-8)
    assert again.elbo.sum() > infer_pln(data, start, reference.covariance, posterior=posterior).elbo.sum()


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_slopes_against_central_differences(posterior, known):
    data, before = known
    reference = fit_pln(before, Full(5), posterior=posterior)
    values = np.column_stack([reference.coefficients, np.linspace(-0.3, 0.3, 5)])
    prior = CoefficientPrior(np.full((5, 1), 0.1), np.full((5, 1), -0.2), np.full((5, 1), 0.4))
    posteriors = _infer.FAMILIES[posterior](Observations.of(data))
    is_new = np.array([False, False, True])
    profile = _gene_space.ColumnsProfile(values, reference.covariance, posteriors, 0.0, Threads(1), is_new, prior)
    profile.settle(max_steps=200, tol=1e-13)
    slope, point = profile.slope.copy(), profile.point
    for gene in range(5):
        objectives = []
        for change in (1e-4, -1e-4):
            profile.move(point + change * np.eye(5)[gene])
            profile.settle(max_steps=200, tol=1e-13)
            objectives.append(profile.objective)
        np.testing.assert_allclose((objectives[0] - objectives[1]) / 2e-4, slope[gene], atol=1e-3)


def test_a_gene_without_counts_has_a_finite_coefficient(known):
    data, before = known
    counts = data.counts.copy()
    counts[data.design[:, 2] > 0, 0] = 0
    reference = fit_pln(before, Full(5))
    start = np.column_stack([reference.coefficients, np.zeros(5)])
    found = fit_pln_columns(replace(data, counts=counts), start, reference.covariance, np.array([False, False, True]))
    effects = found.coefficients[:, 2]
    assert np.isfinite(effects).all()
    assert effects[0] == effects.min() < -1
