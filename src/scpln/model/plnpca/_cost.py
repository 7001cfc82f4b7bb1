"""What training PLN-PCA costs."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import scvi

from scpln.model.abilities import Bounds
from scpln.model.base import genes_by_quadrature, network_weights, newton_cost, steps_cost
from scpln.utils import MOST_DRAWS, positive_integer, positive_integer_or_none

from ._fit import ELBO_DRAWS
from ._options import MAX_EPOCHS, TOLERANCE, GradientOptions, NewtonOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.model.base import Cost

#: Cells in a step of stochastic training, and its largest learning rate.
CELLS_IN_STEP, LEARNING_RATE = 512, 4e-3


class Costs(Bounds):
    """What training takes, before it begins."""

    n_latent: int
    likelihood: str | dict[str, str]
    amortized: bool
    flow: str | None
    _sizes: dict[str, Any]

    @property
    @abstractmethod
    def _sizes_of_modalities(self) -> dict[str, int]:
        """Number of genes of each modality of a MuData."""

    @abstractmethod
    def _is_stochastic(self, gradient: GradientOptions) -> bool:
        """Whether something is left for stochastic gradients after the Gaussians."""

    def get_cost_estimate(
        self,
        max_epochs: int = MAX_EPOCHS,
        *,
        n_steps: int | None = None,
        n_samples: int | None = None,
        n_importance_samples: int = 1,
        batch_size: int | None = None,
        block_size: int | None = None,
        n_threads: int | None = None,
    ) -> Cost:
        """What `train` will take with these arguments: ``seconds``, and ``memory`` in bytes besides the data.

        From the sizes of the data and the model, and how fast the machine does a few milliseconds of the same arithmetic.
        How many iterations it takes to converge is not known beforehand: expect to be wrong by a factor of two or three, and
        on hard data by ten or twenty. `train` says so itself, as information in the log, when it expects to take more
        than a minute, before it begins or from the pace of its iterations.

        Parameters
        ----------
        max_epochs, n_steps, n_samples, n_importance_samples, batch_size, block_size, n_threads
            As in `train`.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> print(model.get_cost_estimate())
        about 1 s and 30 MB
        """
        threads = positive_integer_or_none("n_threads", n_threads) or scvi.settings.num_threads
        newton = NewtonOptions(
            max_epochs=positive_integer("max_epochs", max_epochs),
            tol=TOLERANCE,
            block_size=positive_integer_or_none("block_size", block_size),
            seed=0,
            n_threads=threads,
        )
        gradient = GradientOptions.of(
            self.summary_stats.n_cells,
            n_steps=positive_integer_or_none("n_steps", n_steps),
            n_samples=positive_integer_or_none("n_samples", n_samples, most=MOST_DRAWS),
            n_importance_samples=positive_integer("n_importance_samples", n_importance_samples, most=MOST_DRAWS),
            batch_size=positive_integer_or_none("batch_size", batch_size) or CELLS_IN_STEP,
            learning_rate=LEARNING_RATE,
            reestimate=True,
            two_step=False,
            seed=0,
        )
        return self._cost(newton, gradient)

    def _cost(self, newton: NewtonOptions, gradient: GradientOptions) -> Cost:
        """What training will take."""
        shape = self.summary_stats.n_cells, len(self.genes)
        by_quadrature = genes_by_quadrature(self.likelihood, self._sizes_of_modalities, len(self.genes))
        cost = cost_of_gaussians(shape, self.n_latent, len(self.covariates), by_quadrature, newton)
        if not self._is_stochastic(gradient):
            return cost
        hidden = self._sizes["encoder_hidden"] if self.amortized else None
        return cost + cost_of_approximation(shape, self.n_latent, gradient, flow=self.flow, encoder_hidden=hidden)


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
