"""Fits that diverge: from a part of the cells that misleads, or in any other way. Nothing of the kind has converged."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import poisson

from scpln.core import threads
from scpln.datasets import simulate
from scpln.inference import CountData, fit
from scpln.inference._gaussians import fit_gaussians
from scpln.inference.newton._convergence import has_settled
from scpln.inference.newton._genes import GeneParameters
from scpln.inference.newton.general import _fit as general
from scpln.inference.newton.poisson import _fit as stages
from scpln.inference.newton.poisson._start import Totals, intercept_bound
from scpln.module import make_likelihood

# Parameters of a part of the cells that explode on the others: a batch in which the part has no count of a gene.


@pytest.mark.parametrize(
    ("likelihood", "posterior"),
    [("poisson", "fullrank"), ("poisson", "meanfield"), ("nb", "fullrank"), ("bernoulli", "fullrank")],
)
def test_a_part_of_the_cells_that_misleads_is_not_started_from(likelihood, posterior, monkeypatch):
    data = draw_batches()
    if likelihood == "bernoulli":
        data = replace(data, counts=data.counts.minimum(1))
    expected = fit_gaussians(data, 2, make_likelihood(likelihood, 12), posterior=posterior)
    monkeypatch.setattr(stages, "COARSE_CELLS", 15)
    monkeypatch.setattr(general, "COARSE_CELLS", 15)
    actual = fit_gaussians(data, 2, make_likelihood(likelihood, 12), posterior=posterior)
    assert actual.converged
    assert actual.elbo.mean() == pytest.approx(expected.elbo.mean(), abs=1e-3)


def test_a_fit_below_a_model_without_latent_state_has_not_converged(monkeypatch):
    monkeypatch.setattr(stages._Fitting, "_from_components", explode(stages._Fitting._from_components))
    result = fit(draw_batches(), 2)
    assert not result.converged
    assert result.reason.startswith("diverged: the bound, ")


def test_bounds_that_fell_or_are_not_finite_have_not_settled():
    flat = [-10.0] * 12
    assert has_settled(flat, 1e-4)
    assert not has_settled([*flat, *[-11.0] * 10], 1e-4)
    assert not has_settled([*flat, np.nan], 1e-4)
    assert not has_settled([-np.inf] * 12, 1e-4)
    assert not has_settled([-10.0] * 10, 1e-4)


def test_the_bound_of_intercepts_alone(small):
    data = CountData(small.counts, small.offsets, np.ones((small.n_cells, 1)))
    with threads(1) as pool:
        totals = Totals.of(data, pool, 50)
    rates = np.outer(np.exp(small.offsets), small.counts.sum(0)) / np.exp(small.offsets).sum()
    expected = poisson.logpmf(small.counts.toarray(), rates).sum() / small.n_cells
    assert intercept_bound(data, totals) == pytest.approx(expected)


def draw_batches():
    """60 cells of 12 genes in two batches."""
    adata = simulate(n_obs=60, n_vars=12, n_latent=2, n_batches=2, seed=0)
    batch = (adata.obs["batch"] == adata.obs["batch"].iloc[0]).to_numpy(float)
    return CountData(adata.X, np.log(adata.X.sum(1).A1 + 1) - 3, np.column_stack([np.ones(60), batch]))


def explode(stage):
    """A stage of a fit after which loadings are a hundred times what they were."""

    def exploded(*args):
        solver = stage(*args)
        solver.genes = GeneParameters(solver.genes.coefficients + 50, solver.genes.loadings)
        return solver

    return exploded
