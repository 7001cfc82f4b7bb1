"""Conditional: its density by the change of variables, its score by differences."""

import math

import pytest
import torch

from scpln.module import Conditional

from .conftest import KINDS, N_CONTEXT, random_flow, random_scale

N, Q, DRAWS = 2, 2, 4

every_flow = pytest.mark.parametrize("name", [None, *KINDS])


def make(name: str | None) -> Conditional:
    torch.manual_seed(1)
    loc, context = torch.randn(N, Q, dtype=torch.float64), torch.randn(N, N_CONTEXT, dtype=torch.float64)
    flow = None if name is None else random_flow(name, Q)
    return Conditional(loc, random_scale(N, Q), flow, None if name is None else context)


def make_noise() -> torch.Tensor:
    return torch.randn(DRAWS, N, Q, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def jacobians(conditional: Conditional, noise: torch.Tensor) -> torch.Tensor:
    """∂z/∂ε of each draw and cell, (K, n, q, q)."""
    noise = noise.clone().requires_grad_()
    z = conditional.reparameterize(noise).z
    rows = [torch.autograd.grad(z[..., k].sum(), noise, retain_graph=True)[0] for k in range(Q)]
    return torch.stack(rows, dim=-2)


@every_flow
def test_density_is_the_change_of_variables(name):
    conditional, noise = make(name), make_noise()
    draws = conditional.reparameterize(noise)
    log_normal = -0.5 * noise.square().sum(-1) - 0.5 * Q * math.log(2 * math.pi)
    expected = log_normal - torch.linalg.slogdet(jacobians(conditional, noise)).logabsdet
    torch.testing.assert_close(draws.log_q, expected, rtol=1e-9, atol=1e-9)
    assert draws.z.shape == (DRAWS, N, Q)


@torch.no_grad()
def log_density(conditional: Conditional, z: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Log q(z) by Newton's method for the noise that gives z, from noise that is nearby."""
    for _ in range(20):
        with torch.enable_grad():
            slopes = jacobians(conditional, noise)
        miss = conditional.reparameterize(noise).z - z
        noise = noise - torch.linalg.solve(slopes, miss[..., None])[..., 0]
    assert (conditional.reparameterize(noise).z - z).abs().max() < 1e-10
    return conditional.reparameterize(noise).log_q


@every_flow
def test_score_is_the_slope_of_the_log_density(name):
    """Of a density that is computed without `score` and without `inverse`, by central differences."""
    conditional = make(name)
    noise = make_noise().requires_grad_()
    draws = conditional.reparameterize(noise)
    z, step = draws.z.detach(), 1e-5
    expected = torch.empty_like(z)
    for k in range(Q):
        shift = step * torch.eye(Q, dtype=torch.float64)[k]
        above, below = (log_density(conditional, z + sign * shift, noise.detach()) for sign in (1, -1))
        expected[..., k] = (above - below) / (2 * step)
    torch.testing.assert_close(conditional.score(draws), expected, rtol=1e-5, atol=1e-6)


def test_score_of_a_gaussian_is_its_own():
    conditional = make(None)
    draws = conditional.reparameterize(make_noise().requires_grad_())
    exact = torch.distributions.MultivariateNormal(conditional.loc, scale_tril=conditional.scale)
    z = draws.z.detach().requires_grad_()
    (expected,) = torch.autograd.grad(exact.log_prob(z).sum(), z)
    torch.testing.assert_close(conditional.score(draws), expected)


@pytest.mark.parametrize("name", ["affine", "iaf", "realnvp", "radial"])
def test_score_is_autograds_through_the_inverse(name):
    conditional = make(name)
    draws = conditional.reparameterize(make_noise().requires_grad_())
    z = draws.z.detach().requires_grad_()
    u = torch.linalg.solve_triangular(conditional.scale, (z - conditional.loc)[..., None], upper=False)[..., 0]
    noise, log_det = conditional.flow.inverse(u, conditional.context)
    (expected,) = torch.autograd.grad((-0.5 * noise.square().sum(-1) - log_det).sum(), z)
    torch.testing.assert_close(conditional.score(draws), expected, rtol=1e-6, atol=1e-8)


def test_score_leaves_no_gradient_behind():
    """It is an ingredient of a gradient, and itself adds nothing to the parameters'."""
    conditional = make("iaf")
    conditional.score(conditional.reparameterize(make_noise().requires_grad_()))
    assert all(parameter.grad is None for parameter in conditional.flow.parameters())


@pytest.mark.parametrize("by", [0.05, 0.5])
@every_flow
def test_score_of_many_dimensions(name, by):
    """Products with the Jacobian stop at four digits: all of it, by a direct solution, has them too."""
    q = 9
    torch.manual_seed(1)
    flow = None if name is None else random_flow(name, q, by=by)
    context = None if name is None else torch.randn(N, N_CONTEXT, dtype=torch.float64)
    conditional = Conditional(torch.zeros(N, q, dtype=torch.float64), random_scale(N, q), flow, context)
    noise = torch.randn(DRAWS, N, q, dtype=torch.float64).requires_grad_()
    draws = conditional.reparameterize(noise)
    ours = conditional.score(draws)
    (of_density,) = torch.autograd.grad(draws.log_q.sum(), noise, retain_graph=True)
    rows = [torch.autograd.grad(draws.z[..., k].sum(), noise, retain_graph=True)[0] for k in range(q)]
    expected = torch.linalg.solve(torch.stack(rows, dim=-1), of_density[..., None])[..., 0]
    assert (ours - expected).norm() < 2e-3 * expected.norm()


class Flat(torch.nn.Module):
    """A map onto a line, as a flow that has diverged."""

    def forward(self, noise, context):
        return noise[..., :1] + 0 * noise, noise.square().sum(-1) * 0


def test_score_of_a_map_that_is_not_one_to_one_is_not_a_number():
    """No error: training counts steps that are not finite, and says what to do if there are many."""
    regular = make("iaf")
    conditional = Conditional(regular.loc, regular.scale, Flat(), regular.context)
    assert conditional.score(conditional.reparameterize(make_noise().requires_grad_())).isnan().all()
