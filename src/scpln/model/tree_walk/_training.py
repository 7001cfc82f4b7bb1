"""Fits of tree walks: what each kind of walk is trained by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scpln.inference.treewalk import Precisions, fit_global, fit_local
from scpln.utils import positive_integer, positive_number, progress_bar

from ._local_module import LocalWalkModule

if TYPE_CHECKING:
    import torch

    from scpln.inference.treewalk import TreeCounts

    from ._tree_walk import TreeWalk

#: Walks of each sample in a step, the fewest for the others to be a baseline, and most.
FEWEST_WALKS, MOST_WALKS = 2, 1000
#: Steps, unless a user says how many epochs.
STEPS = 2000


@dataclass(frozen=True)
class Stochastic:
    """How global walks are trained, besides what every model is told."""

    n_walks: int
    batch_size: int
    learning_rate: float

    @classmethod
    def checked(cls, n_walks: object, batch_size: object, learning_rate: object) -> Stochastic:
        """After checking what a user gave."""
        return cls(
            positive_integer("n_walks", n_walks, least=FEWEST_WALKS, most=MOST_WALKS),
            positive_integer("batch_size", batch_size),
            positive_number("learning_rate", learning_rate, most=1),
        )

    def default_epochs(self, n_samples: int) -> int:
        """As many as make 2,000 steps."""
        return -(-STEPS // -(-n_samples // self.batch_size))


def fit_walk(
    model: TreeWalk, data: TreeCounts, options: dict[str, Any], stochastic: Stochastic, *, progress: bool
) -> tuple[torch.nn.Module, bool, str, list[float]]:
    """Module with the fitted parameters, whether it converged, why training ended, and the objective of each iteration per sample."""
    precisions = Precisions(model.prior_precision, model.deviation_precision)
    if model.walk == "global":
        with progress_bar("TreeWalk", options["max_epochs"], unit="epoch", at_most=True, show=progress) as bar:
            found = fit_global(
                data,
                n_state=model.n_state,
                precisions=precisions,
                **options,
                **vars(stochastic),
                on_iteration=bar.update,
            )
            bar.finish(found.reason)
        return found.module, found.converged, found.reason, found.history
    with progress_bar("TreeWalk, nodes", len(model.tree.inner), show=progress) as bar:
        fit = fit_local(
            data,
            exchangeable=model.walk == "exchangeable",
            max_children=model.max_children,
            precisions=precisions,
            max_iter=options["max_epochs"],
            tol=options["tol"],
            on_iteration=bar.update,
        )
        bar.finish(fit.reason)
    return LocalWalkModule.of(fit.walk), fit.converged, fit.reason, [value / len(data) for value in fit.history]
