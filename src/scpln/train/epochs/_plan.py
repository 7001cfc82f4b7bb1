"""How a module is trained by stochastic gradients: what Lightning calls for every batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scvi.train import TrainingPlan

from scpln.train._device import batch_to
from scpln.train._gradients import clip_gradients, gradient_norms, named_gradients, trained_parameters
from scpln.train._guard import FiniteGuard, find_nonfinite
from scpln.train._schedule import warmup_cosine

from ._kl_warmup import warmup_steps
from ._means import Means

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from scpln.module import Batch, Loss

    from ._options import TrainingOptions

    Minibatch = tuple[NDArray[np.intp], Batch]


class GradientPlan(TrainingPlan):
    r"""Steps of Adam that minimise the loss of a module.

    At step t of T planned, the weight of KL is :math:`\min(1, t / \min(\lfloor wT \rfloor, T - 1))` with the fraction w
    of `TrainingOptions.kl_warmup`. All random numbers of an epoch follow from the seed and the epoch, so that
    a training that is taken up again goes on with the same ones; those of validation are the same in every epoch, so
    that its bounds can be compared.

    A step whose loss or gradient is not finite is left out. Lightning's and scvi-tools' ways to log every step take
    longer than a step of a small network; here sums over cells are kept, and their means reported once an epoch.

    Parameters
    ----------
    module
        Has ``loss(batch, kl_weight=..., free_bits=...)``, which returns a `Loss`.
    options
        How to train.
    n_steps
        Steps that are planned.
    reports
        Whether Lightning's callbacks and loggers get the means of each epoch, which takes a few milliseconds.
    """

    _n_warm_up = 0

    def __init__(self, module: nn.Module, options: TrainingOptions, n_steps: int, reports: bool = False) -> None:
        self.guard = FiniteGuard(module)  # scvi-tools asks for the weight of KL, which is counted in steps, at once
        super().__init__(module, lr=options.learning_rate, weight_decay=options.weight_decay, eps=1e-8)
        self.automatic_optimization = False
        self.options, self.n_steps, self.reports = options, n_steps, reports
        self._n_warm_up = warmup_steps(options.kl_warmup, n_steps)
        self._trained = trained_parameters(module)
        self.train_means, self.validation_means = self._means("train"), self._means("validation")

    def _means(self, stage: Literal["train", "validation"]) -> Means:
        return Means(stage, getattr(self.module, "objective_name", "elbo"))

    @property
    def n_done(self) -> int:
        """Steps so far, with those that were skipped."""
        return self.guard.ascent.n_steps

    @property
    def kl_weight(self) -> float:
        """Weight of KL in the next step."""
        return self._kl_weight_of(self.n_done)

    @property
    def last_kl_weight(self) -> float:
        """Weight of KL in the last step."""
        return self._kl_weight_of(self.n_done - 1)

    def _kl_weight_of(self, step: int) -> float:
        return min(1.0, step / self._n_warm_up) if self._n_warm_up else 1.0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self.options.learning_rate * warmup_cosine(self.n_done, self.n_steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam in its fused form, which on a processor takes less than a tenth of the time.

        A module may divide its parameters: ``module.parameter_groups()`` gives groups with a ``lr_factor``, a factor of the
        learning rate, and with ``decays``, whether they take part in weight decay.
        """
        divide = getattr(self.module, "parameter_groups", None)
        groups = (
            [{"params": self.module.parameters(), "lr_factor": 1.0, "decays": True}] if divide is None else divide()
        )
        options = [
            {
                "params": [value for value in group["params"] if value.requires_grad],
                "weight_decay": self.weight_decay if group["decays"] else 0.0,
                "lr_factor": group["lr_factor"],
            }
            for group in groups
        ]
        return torch.optim.Adam([group for group in options if group["params"]], lr=self.lr, eps=self.eps, fused=True)

    def transfer_batch_to_device(self, batch: Minibatch, device: torch.device, dataloader_idx: int) -> Minibatch:
        """Move the tensors of a batch."""
        cells, tensors = batch
        return cells, batch_to(tensors, device)

    def on_train_start(self) -> None:
        """The parameters are where they start, or where a checkpoint had left them."""
        self.guard.snapshot()

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's sums, and seed this epoch's random numbers."""
        self.train_means = self._means("train")
        torch.manual_seed(_seed(self.options.seed, 1 + self.current_epoch))

    def training_step(self, batch: Minibatch, batch_idx: int) -> None:
        """Move the parameters once, unless something is not finite."""
        cells, tensors = batch
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = group["lr_factor"] * self.learning_rate
        optimizer.zero_grad(set_to_none=True)
        output = self.module.loss(tensors, kl_weight=self.kl_weight, free_bits=self.options.free_bits)
        self.manual_backward(output.value)
        gradients = named_gradients(self._trained)
        norm = torch.linalg.vector_norm(gradient_norms(gradients.values()))
        loss, *parts, size = _numbers(output, norm)
        finite = all(map(math.isfinite, (loss, size, *parts)))
        if not self.guard.accepts(finite, lambda: find_nonfinite(cells, output.of_cells, gradients)):
            return
        if size > self.options.gradient_clip:
            clip_gradients(gradients.values(), norm, self.options.gradient_clip)
        optimizer.step()
        self.train_means.add(len(cells), loss=loss, parts=dict(zip(output.parts, parts, strict=True)))

    def on_validation_epoch_start(self) -> None:
        """Forget the last sums, and take the random numbers that every validation takes."""
        self.validation_means = self._means("validation")
        torch.manual_seed(_seed(self.options.seed, 0))

    def validation_step(self, batch: Minibatch, batch_idx: int) -> None:
        """Add a batch to the sums, with KL in full."""
        cells, tensors = batch
        output = self.module.loss(tensors, kl_weight=1.0)
        loss, *parts = _numbers(output)
        self.validation_means.add(len(cells), loss=loss, parts=dict(zip(output.parts, parts, strict=True)))

    def on_validation_epoch_end(self) -> None:
        """Tell Lightning's callbacks and loggers the means, if anybody listens."""
        if self.reports:
            self.log_dict(self.validation_means.losses())

    def on_train_epoch_end(self) -> None:
        """Tell them those of the training cells."""
        if self.reports:
            self.log_dict(self.train_means.losses())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counts of steps."""
        checkpoint["scpln_steps"] = self.guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with these."""
        self.guard.load_state_dict(checkpoint["scpln_steps"])


def _numbers(output: Loss, *more: torch.Tensor) -> list[float]:
    """Loss, sums over cells of its parts, and more numbers; together, since a GPU is waited for only once."""
    return torch.stack([output.value.detach(), *(part.sum() for part in output.parts.values()), *more]).tolist()


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
