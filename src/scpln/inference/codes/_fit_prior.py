"""Fitting a prior to the codes of cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from scpln.module.codes import AutoregressiveCodes
from scpln.train import torch_random, torch_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.module.codes import CodePrior

#: Cells of a step, most passes over all cells, and passes without a gain after which no more are made.
_BATCH, _EPOCHS, _PATIENCE = 256, 200, 20
_LEARNING_RATE, _WEIGHT_DECAY = 3e-3, 1e-4
#: One of so many cells decides when to stop, where none are held out.
_ONE_OF = 10


def fit_code_prior(
    prior: CodePrior,
    codes: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    *,
    held_out: NDArray[np.bool_],
    seed: int = 0,
) -> None:
    """Learn shares of codes, and if there is a network, what codes tell of those after them.

    The network starts where codes are independent, and the weights are kept that are the best for cells that were held out, the first ones included: so
    that for these it is at least as good as independent codes.

    Parameters
    ----------
    prior
        Learned in place.
    codes
        Codes of cells, (n, M).
    groups
        Their groups (n,), for a prior given these.
    held_out
        Which cells are not learned from, but decide when to stop, (n,); if none, every tenth cell does.
    seed
        Of the order of cells, and the start of the network.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module.codes import AutoregressiveCodes
    >>> first = np.random.default_rng(0).integers(0, 4, 500)
    >>> prior, codes = AutoregressiveCodes(2, 4), np.column_stack([first, first])  # the second code is the first
    >>> fit_code_prior(prior, codes, held_out=np.arange(500) >= 400)
    >>> (
    ...     bool(prior.log_prob(torch.tensor([[2, 2]])).exp() > 0.2),
    ...     bool(prior.log_prob(torch.tensor([[2, 1]])).exp() < 0.01),
    ... )
    (True, True)
    """
    every = torch.from_numpy(codes)
    group = torch.zeros(len(every), dtype=torch.long) if groups is None else torch.from_numpy(groups)
    held = torch.from_numpy(held_out)
    prior.learn(every[~held], group[~held])
    if not isinstance(prior, AutoregressiveCodes) or prior.n_codes == 1:
        return
    if not held.any():
        held = torch.arange(len(every)) % _ONE_OF == _ONE_OF - 1
    if held.any() and not held.all():
        with torch_random(seed), torch_threads(1):
            _fit_network(prior, every, group, held)


def _fit_network(prior: AutoregressiveCodes, codes: torch.Tensor, groups: torch.Tensor, held: torch.Tensor) -> None:
    """Adam on the network's weights, whose best ones are kept."""
    prior.requires_grad_(True)
    optimizer = torch.optim.Adam(prior.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
    train, waited = torch.nonzero(~held)[:, 0], 0
    best, weights = -math.inf, prior.state_dict()
    for _ in range(_EPOCHS + 1):
        with torch.no_grad():
            value = float(prior.log_prob(codes[held], groups[held]).mean())
        if value > best:
            best, waited = value, 0
            weights = {name: each.clone() for name, each in prior.state_dict().items()}
        else:
            waited += 1
        if waited > _PATIENCE:
            break
        for cells in train[torch.randperm(len(train))].split(_BATCH):
            optimizer.zero_grad(set_to_none=True)
            (-prior.log_prob(codes[cells], groups[cells]).mean()).backward()
            optimizer.step()
    prior.load_state_dict(weights)
    prior.requires_grad_(False)
