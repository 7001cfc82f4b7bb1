"""The bounds, and that `backpropagate_bound` has their gradient: unbiased, exact at the exact posterior."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from scpln.module import Conditional, backpropagate_bound, importance_bound

from .conftest import N_CONTEXT, random_flow, random_model, random_scale

N, P, Q = 2, 4, 2


def test_bound_of_weights_is_the_log_of_their_mean():
    weights = torch.randn(7, 3, dtype=torch.float64)
    np.testing.assert_allclose(importance_bound(weights), logsumexp(weights, axis=0) - math.log(7))
    np.testing.assert_allclose(importance_bound(weights[:1]), weights[0])
    assert importance_bound(torch.tensor([-1e30, -2000.0])).item() == pytest.approx(-2000 - math.log(2))


@pytest.mark.parametrize("likelihood", ["poisson", "zinb", "gaussian"])
def test_more_draws_raise_the_bound(likelihood):
    """ELBO ≤ IW₂ ≤ IW₅₀ on average: over groups of the same draws, for every set of draws."""
    model, batch = random_model(P, Q, N, likelihood=likelihood)
    conditional = Conditional(torch.zeros(N, Q, dtype=torch.float64), random_scale(N, Q))
    draws = conditional.reparameterize(torch.randn(500, N, Q, dtype=torch.float64))
    weights = (model.log_joint(draws.z, batch) - draws.log_q).detach()
    elbo, iw_2, iw_50 = (importance_bound(weights.reshape(-1, k, N), dim=1).mean(0) for k in (1, 2, 50))
    torch.testing.assert_close(elbo, weights.mean(0))
    assert (elbo < iw_2).all()
    assert (iw_2 < iw_50).all()


class Case:
    """A model and a posterior that can be moved, and two estimators of the bound's gradient."""

    def __init__(self, flow: str | None, n_importance: int, n_samples: int) -> None:
        self.model, self.batch = random_model(P, Q, N)
        self.n_importance, self.n_samples = n_importance, n_samples
        torch.manual_seed(0)
        self.loc = torch.zeros(N, Q, dtype=torch.float64, requires_grad=True)
        self.scale = random_scale(N, Q).requires_grad_()
        self.flow = None if flow is None else random_flow(flow, Q, by=0.05)
        self.context = None if flow is None else torch.randn(N, N_CONTEXT, dtype=torch.float64)
        self.generator = torch.Generator().manual_seed(3)

    @property
    def parameters(self) -> list[torch.Tensor]:
        flow = [] if self.flow is None else list(self.flow.parameters())
        return [self.loc, self.scale, *flow, *self.model.parameters()]

    def posterior(self) -> Conditional:
        return Conditional(self.loc, torch.tril(self.scale), self.flow, self.context)

    def log_joint(self, z: torch.Tensor) -> torch.Tensor:
        return self.model.log_joint(z, self.batch)

    def plain(self) -> torch.Tensor:
        """Gradient by autograd through draws, log-joint and density."""
        shape = (self.n_samples * self.n_importance, N, Q)
        draws = self.posterior().reparameterize(torch.randn(shape, generator=self.generator, dtype=torch.float64))
        weights = (self.log_joint(draws.z) - draws.log_q).reshape(self.n_samples, self.n_importance, N)
        loss = -importance_bound(weights, dim=1).mean()
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    def backpropagated(self) -> torch.Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        backpropagate_bound(
            self.log_joint,
            self.posterior(),
            n_samples=self.n_samples,
            n_importance=self.n_importance,
            generator=self.generator,
        )
        empty = [torch.zeros_like(parameter) for parameter in self.parameters]
        gradients = [parameter.grad for parameter in self.parameters]
        pairs = zip(gradients, empty, strict=True)
        return torch.cat([(zero if gradient is None else gradient).flatten() for gradient, zero in pairs])


@pytest.mark.parametrize("n_importance", [1, 5])
@pytest.mark.parametrize("flow", [None, "iaf", "sylvester"])
def test_gradient_is_unbiased(flow, n_importance):
    """It agrees with plain autograd within Monte-Carlo error, along random directions of all parameters."""
    case = Case(flow, n_importance, n_samples=200 // n_importance)
    n_model = sum(parameter.numel() for parameter in case.model.parameters())
    plain, ours = (torch.stack([estimate() for _ in range(40)]) for estimate in (case.plain, case.backpropagated))
    for part in (slice(None, -n_model), slice(-n_model, None)):
        spread = plain[:, part].std(0) + ours[:, part].std(0)
        moved = spread > 0
        directions = torch.randn(20, int(moved.sum()), dtype=torch.float64) / spread[moved]
        a, b = (values[:, part][:, moved] @ directions.T for values in (plain, ours))
        error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * error).all()
        assert (a.mean(0).abs() > 8 * error).any(), "a gradient of zero would not be told from this one"


def exact_posterior(model, batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, Cholesky factor and log evidence of a model whose likelihood is Gaussian."""
    b, c = (parameter.detach() for parameter in (model.decoder.coefficients, model.decoder.loadings))
    sd = model.likelihood.gene_parameters()["sd"]
    precision = torch.eye(Q, dtype=torch.float64) + (c / sd.square()[:, None]).T @ c
    covariance = torch.linalg.inv(precision)
    residual = batch.counts.dense - batch.design @ b.T
    mean = residual / sd.square() @ c @ covariance
    marginal = torch.distributions.MultivariateNormal(batch.design @ b.T, c @ c.T + torch.diag(sd.square()))
    scale = torch.linalg.cholesky(covariance).expand(len(batch), Q, Q)
    return mean, scale, marginal.log_prob(batch.counts.dense)


@pytest.mark.parametrize("n_importance", [1, 4])
@pytest.mark.parametrize("flow", [None, "affine", "iaf"])
def test_gradient_has_no_noise_at_the_exact_posterior(flow, n_importance):
    model, batch = random_model(P, Q, N, likelihood="gaussian")
    mean, scale, log_evidence = exact_posterior(model, batch)
    module = None if flow is None else random_flow(flow, Q, by=0.0)  # the identity, where flows start
    parameters = [mean.requires_grad_(), scale.clone().requires_grad_()]
    context = None if flow is None else torch.randn(N, N_CONTEXT, dtype=torch.float64)
    bound = backpropagate_bound(
        lambda z: model.log_joint(z, batch),
        Conditional(parameters[0], torch.tril(parameters[1]), module, context),
        n_samples=2,
        n_importance=n_importance,
        generator=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(bound, log_evidence)
    for parameter in [*parameters, *([] if module is None else module.parameters())]:
        assert parameter.grad is None or parameter.grad.abs().max() < 1e-12
    assert model.decoder.loadings.grad.abs().max() > 1e-3, "the model itself is not at an optimum"


def test_a_fixed_posterior_moves_the_model_only():
    model, batch = random_model(P, Q, N)
    flow = random_flow("iaf", Q).requires_grad_(False)
    loc, context = torch.zeros(N, Q, dtype=torch.float64), torch.zeros(N, N_CONTEXT, dtype=torch.float64)
    for conditional in (Conditional(loc, random_scale(N, Q)), Conditional(loc, random_scale(N, Q), flow, context)):
        model.zero_grad()
        backpropagate_bound(
            lambda z: model.log_joint(z, batch),
            conditional,
            n_samples=2,
            n_importance=1,
            generator=torch.Generator().manual_seed(0),
        )
        assert model.decoder.loadings.grad.abs().max() > 0
        assert all(parameter.grad is None for parameter in flow.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flow", [None, "nsf", "planar"])
def test_gradient_is_finite_for_cells_without_counts_and_with_many(flow, dtype):
    model, batch = random_model(P, Q, 3)
    counts = batch.counts.dense.numpy().copy()
    counts[0], counts[1, 0] = 0, 1e6
    batch = type(batch).from_arrays(counts, np.zeros(3), np.ones((3, 1)), dtype=dtype)
    model = copy.deepcopy(model).to(dtype)
    module = None if flow is None else random_flow(flow, Q).to(dtype)
    loc = torch.zeros(3, Q, dtype=dtype, requires_grad=True)
    bound = backpropagate_bound(
        lambda z: model.log_joint(z, batch),
        Conditional(
            loc, random_scale(3, Q).to(dtype), module, None if flow is None else torch.randn(3, N_CONTEXT).to(dtype)
        ),
        n_samples=2,
        n_importance=3,
        generator=torch.Generator().manual_seed(0),
    )
    assert bound.isfinite().all()
    for parameter in [loc, *model.parameters(), *([] if module is None else module.parameters())]:
        assert parameter.grad is None or parameter.grad.isfinite().all()
