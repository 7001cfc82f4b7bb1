"""The posterior of a batch of cells while it is trained: a Gaussian, with a flow on top."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from scpln.module.flows import Flow

#: Norm of the residual, relative to the right side's, at which a linear system is solved; most products tried for it.
_TOLERANCE, _MOST_PRODUCTS = 3e-4, 8
_TINY = 1e-9


@dataclass(frozen=True)
class Draws:
    """Latent states z (K, n, q), their log-densities (K, n), and how they came from standard normal noise."""

    z: torch.Tensor
    log_q: torch.Tensor
    noise: torch.Tensor
    whitened: torch.Tensor
    log_det: torch.Tensor


@dataclass(frozen=True)
class Conditional:
    r"""Posteriors of n cells: noise goes through the flow, which the context conditions, and then the Gaussian's affine map.

    .. math::
        \varepsilon \sim N(0, I), \quad u = f(\varepsilon; h_i), \quad z = m_i + L_i u, \quad
        \log q(z) = \log N(\varepsilon) - \log\lvert\det \partial u / \partial\varepsilon\rvert - \log\det L_i

    Parameters
    ----------
    loc
        Means m of the Gaussian, (n, q).
    scale
        Lower-triangular L, (n, q, q), with positive diagonal.
    flow, context
        Flow and what it is conditioned on, h (n, c); None for a Gaussian.

    Examples
    --------
    >>> posterior = Conditional(loc=torch.zeros(3, 2), scale=torch.eye(2).expand(3, 2, 2))
    >>> draws = posterior.reparameterize(torch.zeros(1, 3, 2))
    >>> draws.z.shape, draws.log_q
    (torch.Size([1, 3, 2]), tensor([[-1.8379, -1.8379, -1.8379]]))
    """

    loc: torch.Tensor
    scale: torch.Tensor
    flow: Flow | None = None
    context: torch.Tensor | None = None

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        """Draw `n` latent states of each cell, such that their `score` can be taken."""
        noise = torch.randn((n, *self.loc.shape), generator=generator, dtype=self.loc.dtype, device=self.loc.device)
        return self.reparameterize(noise.requires_grad_(self.flow is not None and torch.is_grad_enabled()))

    def reparameterize(self, noise: torch.Tensor) -> Draws:
        """Latent states from standard normal noise (K, n, q)."""
        whitened, log_det = noise, noise.new_zeros(noise.shape[:-1])
        if self.flow is not None:
            assert self.context is not None
            whitened, log_det = self.flow(noise, self.context)
        z = self.loc + torch.einsum("nab,knb->kna", self.scale, whitened)
        log_normal = -0.5 * noise.square().sum(-1) - 0.5 * noise.shape[-1] * math.log(2 * math.pi)
        log_scale = self.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return Draws(z, log_normal - log_det - log_scale, noise, whitened, log_det)

    def score(self, draws: Draws) -> torch.Tensor:
        r"""Slopes ∂ log q(z) / ∂z (K, n, q) at draws whose noise requires gradients, with all parameters held.

        With the flow's Jacobian J at ε, log q is :math:`h(\varepsilon) = \log N(\varepsilon) - \log\lvert\det J\rvert`
        as a function of the noise, so that ∂ log q / ∂u = J⁻ᵀ ∂h / ∂ε, for flows that cannot be inverted too.
        """
        slope = -draws.noise.detach()
        if self.flow is not None:
            slope = _solve_transposed(draws.whitened, draws.noise, slope - _gradient(draws.log_det, draws.noise))
        upper = self.scale.detach().mT
        return torch.linalg.solve_triangular(upper, slope.permute(1, 2, 0), upper=True).permute(2, 0, 1)


def _solve_transposed(whitened: torch.Tensor, noise: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """J⁻ᵀ b of each draw, with J = ∂ whitened / ∂ noise and b = `right`, (K, n, q) each.

    A flow is near the identity, so that a few products with Jᵀ, each one backward pass, give the solution by minimal
    residuals (GMRES [1]_) to four digits, whatever q; where they do not, J itself is made, in q passes.

    References
    ----------
    .. [1] Y. Saad and M. Schultz (1986), GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear
       systems. SIAM Journal on Scientific and Statistical Computing 7: 856-869.
    """
    q = right.shape[-1]
    residual = right - _product(whitened, noise, right)
    largest = _TOLERANCE * float(right.norm())
    directions: list[torch.Tensor] = []
    images: list[torch.Tensor] = []
    solution, rest = right, residual
    while float(rest.norm()) > largest and len(images) < min(q, _MOST_PRODUCTS) - 1:
        direction = images[-1] if images else residual
        for earlier in directions:
            direction = direction - (direction * earlier).sum(-1, keepdim=True) * earlier
        directions.append(direction / direction.norm(dim=-1, keepdim=True).clamp_min(_TINY))
        images.append(_product(whitened, noise, directions[-1]))
        image, basis = torch.stack(images, -1), torch.stack(directions, -1)
        gram = image.mT @ image + _TINY * torch.eye(len(images), dtype=image.dtype)
        weights = _solve(gram, (image.mT @ residual[..., None])[..., 0])[..., None]
        solution, rest = right + (basis @ weights)[..., 0], residual - (image @ weights)[..., 0]
    if float(rest.norm()) <= largest:
        return solution
    rows = [_gradient(whitened[..., k], noise) for k in range(q)]
    return _solve(torch.stack(rows, dim=-1), right)


def _solve(matrices: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solutions (..., q) of linear systems; NaN, which training guards against, where a matrix is singular."""
    solution, info = torch.linalg.solve_ex(matrices, right[..., None])
    return solution[..., 0].where(info[..., None] == 0, torch.nan)


def _product(whitened: torch.Tensor, noise: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Jᵀ v of each draw, (K, n, q)."""
    return torch.autograd.grad(whitened, noise, vector, retain_graph=True)[0]


def _gradient(values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Gradient of each value with respect to its own noise; zero where it does not depend on it."""
    if not values.requires_grad:
        return torch.zeros_like(noise)
    (gradient,) = torch.autograd.grad(values.sum(), noise, retain_graph=True, allow_unused=True)
    return torch.zeros_like(noise) if gradient is None else gradient
