"""Training of what cells share: a flow or an encoder, with or without the model's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from scpln.module import GaussianFeatures, backpropagate_bound

from ._ascent import ascend
from ._minibatches import Minibatches, SimulatedBatches
from ._result import Ascent
from ._torch_state import torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import Approximation, Batch, GaussianPosterior, Generative

#: Cells whose Gaussians a flow's context is standardised by.
_CELLS_TO_STANDARDIZE = 10_000


class _Gaussians:
    """Means and Cholesky factors of cells as tensors; those of all cells are made once."""

    def __init__(self, posterior: GaussianPosterior, dtype: torch.dtype = torch.float32) -> None:
        self._posterior, self._dtype = posterior, dtype
        self._all: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, cells: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(cells) < len(self._posterior):
            return self._tensors(self._posterior[cells])
        if self._all is None:
            self._all = self._tensors(self._posterior)
        return self._all

    def _tensors(self, posterior: GaussianPosterior) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(posterior.mean).to(self._dtype), posterior.scale.to(self._dtype)


def train_approximation(
    data: CountData,
    generative: Generative,
    approximation: Approximation,
    gaussian: GaussianPosterior | None,
    *,
    n_steps: int,
    n_samples: int,
    n_importance: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    reestimate: bool,
    encoder_fixed: bool = False,
    simulated: bool = False,
    log_prior: Callable[[Generative], torch.Tensor] | None = None,
    n_threads: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Ascent:
    """Maximise the bound, or the importance-weighted bound, by stochastic gradients.

    Parameters
    ----------
    data
        Counts, offsets and design of the training cells.
    generative
        Model, of the precision of the approximation; its parameters move only if `reestimate`.
    approximation
        Flow or encoder; moves. Counts are made into tensors of its precision.
    gaussian
        Gaussians of the cells, in the coordinates of the model's loadings; not needed by an encoder.
    n_steps, learning_rate, batch_size, seed
        Steps of Adam, its largest learning rate, cells in a step, and the seed of cells and draws.
    n_samples, n_importance
        Groups of draws for each cell in a step, and draws in each group, which are importance-weighted.
    n_threads
        Threads of torch; by default one, since on busy cores several take up to thirty times as long.
    reestimate, encoder_fixed
        Whether the model moves too, and whether an encoder stays as it is; a flow on it moves.
    simulated
        Whether counts are drawn from the model in every step, in place of those of cells (`SimulatedBatches`). The model then has to stay as it is.
    log_prior
        Log-density of the model's parameters, nats, which is added to the bound of all cells where they move.
    on_step
        Called with the number of steps and the mean bound per cell.

    Returns
    -------
    What training went through; what it reached is in `generative` and `approximation`.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from scpln.inference import CountData
    >>> from scpln.module import Approximation, Encoder, PLNPCAModule
    >>> counts = np.random.default_rng(0).poisson(2.0, (60, 5))
    >>> data = CountData(counts, np.zeros(60), np.ones((60, 1)))
    >>> model = PLNPCAModule.empty(n_genes=5, n_covariates=1, n_latent=2).generative.float()
    >>> encoder = Approximation(2, Encoder(n_genes=5, n_covariates=1, n_latent=2, hidden=(8,)), flow=None)
    >>> options = {"n_samples": 4, "n_importance": 1, "learning_rate": 1e-2, "batch_size": 60, "seed": 0}
    >>> ascent = train_approximation(data, model, encoder, None, n_steps=30, reestimate=True, **options)
    >>> ascent.bound[-1] > ascent.bound[0]
    True
    """
    generative.requires_grad_(reestimate)
    approximation.requires_grad_(True)
    approximation.source.requires_grad_(not encoder_fixed)
    both = nn.ModuleDict({"generative": generative, "approximation": approximation})
    if not any(parameter.requires_grad for parameter in both.parameters()):
        return Ascent()
    batches: Iterable[tuple[NDArray[np.intp], Batch]] = Minibatches(
        data, batch_size, seed=seed, dtype=approximation.dtype
    )
    if simulated:
        batches = SimulatedBatches(data, generative, batch_size, seed=seed, dtype=approximation.dtype)
    gaussians = None if gaussian is None or approximation.encodes else _Gaussians(gaussian)
    generator = torch.Generator().manual_seed(seed)

    def step(cells: NDArray[np.intp], batch: Batch) -> torch.Tensor:
        if log_prior is not None and reestimate:
            (-log_prior(generative) / data.n_cells).backward()
        return backpropagate_bound(
            lambda z: generative.log_joint(z, batch),
            approximation(batch, None if gaussians is None else gaussians(cells)),
            n_samples=n_samples,
            n_importance=n_importance,
            generator=generator,
        )

    with torch_threads(n_threads or 1):
        return ascend(step, both, batches, n_steps=n_steps, learning_rate=learning_rate, on_step=on_step)


def standardize_context(
    data: CountData, approximation: Approximation, gaussian: GaussianPosterior, batch_size: int
) -> None:
    """Standardise a flow's features by their mean and spread over at most 10,000 of the cells."""
    features = approximation.source
    if not isinstance(features, GaussianFeatures):
        return
    if data.n_cells > _CELLS_TO_STANDARDIZE:
        chosen = np.unique(np.linspace(0, data.n_cells - 1, _CELLS_TO_STANDARDIZE).astype(int))
        data, gaussian = data.subset(chosen), gaussian[chosen]
    gaussians = _Gaussians(gaussian)
    with torch_threads(1):
        features.standardize((*gaussians(cells), batch) for cells, batch in Minibatches(data, batch_size).in_order())


def distill_gaussians(
    data: CountData,
    approximation: Approximation,
    gaussian: GaussianPosterior,
    *,
    n_steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    n_threads: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Ascent:
    r"""Distill given Gaussians N(m, V) of cells into an encoder, which predicts them from counts and smooths them.

    Minimises the mean over cells of

    .. math:: KL(N(m, V) \,\|\, N(m', V')) = \tfrac12 [ \mathrm{tr}(V'^{-1} V) + (m - m')^T V'^{-1} (m - m')
        - q + \log\det V' - \log\det V ]

    over the encoder's m' and V'. Arguments as in `train_approximation`; the bound that is reported is minus this.
    """
    gaussians = _Gaussians(gaussian, approximation.dtype)
    approximation.requires_grad_(True)

    def step(cells: NDArray[np.intp], batch: Batch) -> torch.Tensor:
        loc, scale = gaussians(cells)
        ours = approximation(batch)
        values = divergence(loc, scale, ours.loc, ours.scale)
        values.mean().backward()
        return -values.detach()

    batches = Minibatches(data, batch_size, seed=seed, dtype=approximation.dtype)
    with torch_threads(n_threads or 1):
        return ascend(step, approximation, batches, n_steps=n_steps, learning_rate=learning_rate, on_step=on_step)


def divergence(
    loc: torch.Tensor, scale: torch.Tensor, other_loc: torch.Tensor, other_scale: torch.Tensor
) -> torch.Tensor:
    """KL(N(loc, scale scaleᵀ) ‖ N(other_loc, other_scale other_scaleᵀ)) of each cell, (n,)."""
    relative = torch.linalg.solve_triangular(other_scale, scale, upper=False)
    shift = torch.linalg.solve_triangular(other_scale, (loc - other_loc)[..., None], upper=False)
    log_det = relative.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    squares = relative.square().sum((-2, -1)) + shift.square().sum((-2, -1))
    return 0.5 * (squares - loc.shape[1]) - log_det
