"""What training PLN-PCA costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpln.model.base import network_weights, newton_cost, steps_cost

from ._fit import ELBO_DRAWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.model.base import Cost

    from ._options import GradientOptions, NewtonOptions


def cost_of_gaussians(
    shape: tuple[int, int], n_latent: int, n_covariates: int, n_by_quadrature: int, options: NewtonOptions
) -> Cost:
    """What the Gaussians cost: of cells and genes (n, p), of which so many have no closed form."""
    return newton_cost(
        *shape,
        n_latent,
        n_covariates,
        max_iter=options.max_epochs,
        n_by_quadrature=n_by_quadrature,
        n_threads=options.n_threads,
    )


def cost_of_approximation(
    shape: tuple[int, int],
    n_latent: int,
    options: GradientOptions,
    *,
    flow: str | None,
    encoder_hidden: Sequence[int] | None,
) -> Cost:
    """What stochastic training costs, with an encoder if it has hidden layers."""
    (n, p), q = shape, n_latent
    encodes = encoder_hidden is not None
    weights = network_weights([p, *(encoder_hidden or ()), q * (q + 3) // 2]) if encodes else 0.0
    n_draws = options.n_samples * options.n_importance_samples
    return steps_cost(
        n,
        p,
        n_steps=(1 + encodes) * options.n_steps,
        batch_size=options.batch_size,
        n_draws=n_draws,
        weights=weights / n_draws,  # once for each cell
        flow=flow,
        n_evaluated=0 if flow is None else ELBO_DRAWS,
        n_features=q * (q + 3),
    )
