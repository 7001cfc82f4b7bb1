"""Gradients and curvatures written by hand, against automatic differentiation in float64."""

import numpy as np
import pytest
import torch

from scpln.inference import infer
from scpln.inference.newton._families import FAMILIES
from scpln.inference.newton._genes import GeneModel, GeneParameters
from scpln.inference.newton._states import CellStates
from scpln.inference.newton.poisson._block import GeneFeatures, RateBlock
from scpln.inference.newton.poisson._statistics import GeneStatistics

from . import reference
from .conftest import draw

POSTERIORS = ["fullrank", "meanfield"]


def gene_model(posterior: str, spread: float):
    """Gene gradients and curvatures at random posteriors whose standard deviations are about `spread`."""
    data, truth = draw(60, 12, 3, 2)
    family = FAMILIES[posterior](3)
    random = np.random.default_rng(1)
    root = spread * (0.3 * random.standard_normal((60, 3, 3)) + np.eye(3))
    rows, columns = np.tril_indices(3)
    packed = np.einsum("nab,ncb->nac", root, root)[:, rows, columns]
    states = CellStates.at(truth["latent"], family, 1.0, np.float64)
    states.variance[...] = family.pack(packed)
    genes = GeneParameters(truth["coefficients"], truth["loadings"])
    block = RateBlock(60, data, family, np.float64)
    block.load(0, 60, data.rows(0, 60))
    block.update_expectations(states, GeneFeatures.of(data.membership, genes, family, np.float64))
    statistics = GeneStatistics(data, family)
    statistics.add(block, states, family)
    count_design = np.asarray(data.counts.T @ data.design)
    covariance = reference.unpack(family.covariance(states.variance), 3)
    return data, genes, states, covariance, statistics, GeneModel.of(genes, count_design, statistics, family)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_gene_gradient_equals_autograd(posterior):
    data, genes, states, covariance, _, model = gene_model(posterior, 0.5)
    coefficients = torch.tensor(genes.coefficients, requires_grad=True)
    loadings = torch.tensor(genes.loadings, requires_grad=True)
    reference.elbo(data, coefficients, loadings, torch.as_tensor(states.mean), covariance).sum().backward()
    expected = torch.hstack([coefficients.grad, loadings.grad]).numpy()
    np.testing.assert_allclose(model.gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_gene_curvature_is_the_hessian_for_narrow_posteriors(posterior):
    data, genes, states, covariance, _, model = gene_model(posterior, 0.01)
    gene = 4
    stacked = torch.tensor(genes.stacked)

    def bound(row: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([stacked[:gene], row[None], stacked[gene + 1 :]])
        return reference.elbo(data, rows[:, :2], rows[:, 2:], torch.as_tensor(states.mean), covariance).sum()

    hessian = torch.autograd.functional.hessian(bound, stacked[gene]).numpy()
    np.testing.assert_allclose(model.curvature[:, :, gene], -hessian, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_gene_parts_add_up_to_the_bound(posterior):
    data, genes, states, covariance, statistics, _ = gene_model(posterior, 0.5)
    tensors = [torch.as_tensor(a) for a in (genes.coefficients, genes.loadings, states.mean)]
    expected = reference.elbo(data, *tensors, covariance).sum().item()
    count_design = np.asarray(data.counts.T @ data.design)
    prior = torch.distributions.MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    posteriors = torch.distributions.MultivariateNormal(tensors[2], covariance)
    divergence = torch.distributions.kl_divergence(posteriors, prior).sum().item()
    counts = data.rows(0, 60).toarray()
    constant = (counts * data.offsets[:, None]).sum() - torch.lgamma(torch.as_tensor(counts + 1.0)).sum().item()
    total = genes.bound(count_design, statistics).sum() - divergence + constant
    np.testing.assert_allclose(total, expected, rtol=1e-10)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_inferred_posteriors_are_stationary(posterior):
    data, truth = draw(30, 25, 3)
    mean, packed = infer(data, truth["coefficients"], truth["loadings"], posterior=posterior)
    m = torch.tensor(mean.astype(np.float64), requires_grad=True)
    covariance = reference.unpack(packed, 3).requires_grad_()
    tensors = torch.as_tensor(truth["coefficients"]), torch.as_tensor(truth["loadings"])
    reference.elbo(data, *tensors, m, covariance).sum().backward()
    precision = torch.linalg.inv(covariance.detach())
    # In the posterior's own scale: a step along the gradient would gain next to nothing.
    newton = torch.einsum("nab,na,nb->n", covariance.detach(), m.grad, m.grad)
    assert newton.max() < 1e-5
    gradient = (
        covariance.grad
        if posterior == "fullrank"
        else torch.diag_embed(torch.diagonal(covariance.grad, dim1=1, dim2=2))
    )
    relative = torch.linalg.matrix_norm(gradient) / torch.linalg.matrix_norm(precision)
    assert relative.max() < 1e-3


def test_gene_gradient_equals_finite_differences():
    data, genes, states, covariance, _, model = gene_model("fullrank", 0.5)
    step = 1e-5
    mean = torch.as_tensor(states.mean)
    for column in range(5):
        moved = [genes.stacked.copy(), genes.stacked.copy()]
        moved[0][:, column] += step
        moved[1][:, column] -= step
        up, down = (
            reference.elbo(data, torch.as_tensor(s[:, :2]), torch.as_tensor(s[:, 2:]), mean, covariance).sum()
            for s in moved
        )
        np.testing.assert_allclose(model.gradient[:, column].sum(), (up - down).item() / (2 * step), rtol=1e-5)
