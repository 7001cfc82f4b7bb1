"""How a module is trained by stochastic gradients: what Lightning calls for every batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scvi.train import TrainingPlan

from scpln.train import Ascent, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import nn

    from scpln.module import Batch, Loss

    Minibatch = tuple[NDArray[np.intp], Batch]

#: Steps over which the learning rate rises.
WARM_UP = 20
#: Steps in a row that may be skipped because they are not finite, and good steps between copies of the parameters.
MOST_SKIPPED, BETWEEN_COPIES = 5, 50


@dataclass(frozen=True)
class TrainingOptions:
    """What decides the course of a training, besides the data and where its parameters start.

    Parameters
    ----------
    max_epochs
        Passes over the training cells that are planned: the learning rate and the weight of KL follow this plan.
    batch_size
        Most cells in a step.
    validation_size
        Share of the cells that is not trained on.
    learning_rate
        Largest learning rate of Adam, which rises to it over 20 steps.
    schedule
        Whether it then falls to 0 like a cosine, or stays.
    weight_decay
        Of Adam.
    kl_warmup
        Share of the planned steps over which the weight of KL grows from 0 to 1.
    free_bits
        Nats of KL that cost nothing, as the module understands them.
    gradient_clip
        Largest norm of the gradient of all parameters together.
    early_stopping
        Whether training stops when the bound of the validation cells has not improved for `patience` epochs, and the
        parameters that gave the best are kept. Epochs count once the weight of KL is 1.
    patience
        Such epochs.
    seed
        Of the validation cells, the order of the others, and all draws.
    """

    max_epochs: int
    batch_size: int = 128
    validation_size: float = 0.1
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.0
    kl_warmup: float = 1 / 3
    free_bits: float = 0.0
    gradient_clip: float = 100.0
    early_stopping: bool = True
    patience: int = 30
    seed: int = 0


class Means:
    """Means over the cells of an epoch, from sums over cells in double precision.

    Parameters
    ----------
    stage
        Which cells these are.
    objective
        Name of what the losses of cells add up to minus of.

    Examples
    --------
    >>> means = Means("train")
    >>> means.add(2, loss=3.0, parts={"reconstruction_loss": 5.0, "kl_local": 1.0})
    >>> means.add(1, loss=3.0, parts={"reconstruction_loss": 4.0, "kl_local": 2.0})
    >>> means.history()
    {'train_loss': 3.0, 'elbo_train': -4.0, 'reconstruction_loss_train': 3.0, 'kl_local_train': 1.0}
    >>> means.losses()["elbo_train"], means.loss
    (4.0, 4.0)
    """

    def __init__(self, stage: Literal["train", "validation"], objective: str = "elbo") -> None:
        self._stage, self._objective = stage, objective
        self.n_cells = 0
        self._loss = 0.0
        self._parts: dict[str, float] = {}

    def add(self, n_cells: int, *, loss: float, parts: Mapping[str, float]) -> None:
        """Add a batch, given the mean of its loss and the sums of its parts over cells."""
        self.n_cells += n_cells
        self._loss += n_cells * loss
        for name, value in parts.items():
            self._parts[name] = self._parts.get(name, 0.0) + value

    @property
    def loss(self) -> float:
        """Minus the mean objective; NaN without cells."""
        return sum(self._parts.values()) / (self.n_cells or math.nan)

    def history(self) -> dict[str, float]:
        """Means, of which the objective is the better the higher, and what is called a loss the better the lower."""
        n = self.n_cells or math.nan
        return {
            f"{self._stage}_loss": self._loss / n,
            f"{self._objective}_{self._stage}": -self.loss,
            **{f"{name}_{self._stage}": value / n for name, value in self._parts.items()},
        }

    def losses(self) -> dict[str, float]:
        """The same as scvi-tools has it for Lightning's callbacks and loggers, where "elbo" is minus the bound."""
        return {**self.history(), f"{self._objective}_{self._stage}": self.loss}


class GradientPlan(TrainingPlan):
    r"""Steps of Adam that minimise the loss of a module.

    At step t of T planned, the weight of KL is :math:`\min(1, t / \lfloor wT \rfloor)` with the fraction w of
    `TrainingOptions.kl_warmup`. All random numbers of an epoch follow from the seed and the epoch, so that
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

    n_done = n_skipped = 0
    _n_warm_up = 0

    def __init__(self, module: nn.Module, options: TrainingOptions, n_steps: int, reports: bool = False) -> None:
        super().__init__(module, lr=options.learning_rate, weight_decay=options.weight_decay, eps=1e-8)
        self.automatic_optimization = False
        self.options, self.n_steps, self.reports = options, n_steps, reports
        self._n_warm_up = math.floor(options.kl_warmup * n_steps)
        self._trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._good: dict[str, torch.Tensor] = {}
        self._skipped_in_a_row = 0
        self.train_means, self.validation_means = self._means("train"), self._means("validation")

    def _means(self, stage: Literal["train", "validation"]) -> Means:
        return Means(stage, getattr(self.module, "objective_name", "elbo"))

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
        factor = min(1.0, (self.n_done + 1) / WARM_UP)
        if self.options.schedule == "cosine":
            factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, self.n_done / self.n_steps)))
        return self.options.learning_rate * factor

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
        return cells, tensors if device.type == "cpu" else tensors.to(device)

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
        named = {name: value.grad for name, value in self._trained.items() if value.grad is not None}
        norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in named.values()])
        loss, *parts, norm = _numbers(output, norms)
        self.n_done += 1
        if not all(map(math.isfinite, (loss, norm, *parts))):
            self._skip(cells, output, dict(zip(named, norms.tolist(), strict=True)))
            return
        if not self._good or (self.n_done - self.n_skipped - 1) % BETWEEN_COPIES == 0:
            self._good = copy_of(self.module)
        self._skipped_in_a_row = 0
        if norm > self.options.gradient_clip:
            for gradient in named.values():
                gradient.mul_(self.options.gradient_clip / norm)
        optimizer.step()
        self.train_means.add(len(cells), loss=loss, parts=dict(zip(output.parts, parts, strict=True)))

    def _skip(self, cells: NDArray[np.intp], output: Loss, norms: dict[str, float]) -> None:
        """Leave a step out, or stop with an error that says where something was not finite."""
        self.n_skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row < MOST_SKIPPED:
            return
        restore(self.module, self._good)
        bad_cells = cells[~torch.isfinite(output.of_cells).cpu().numpy()]
        bad = next((name for name, norm in norms.items() if not math.isfinite(norm)), "")
        if not (len(bad_cells) or bad):
            bad_cells = cells
        raise NotFiniteError(bad_cells, bad, Ascent(n_steps=self.n_done, n_skipped=self.n_skipped, failed=True))

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
        checkpoint["scpln_steps"] = [self.n_done, self.n_skipped, self._skipped_in_a_row]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with these."""
        self.n_done, self.n_skipped, self._skipped_in_a_row = checkpoint["scpln_steps"]


def _numbers(output: Loss, norms: torch.Tensor | None = None) -> list[float]:
    """Loss, sums over cells of its parts, and the norm of norms; together, since a GPU is waited for only once."""
    values = [output.value.detach(), *(part.sum() for part in output.parts.values())]
    if norms is not None:
        values.append(torch.linalg.vector_norm(norms))
    return torch.stack(values).tolist()


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def copy_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copy of the parameters and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@torch.no_grad()
def restore(module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put copied parameters and buffers back, in place."""
    for name, value in module.state_dict().items():
        if name in tensors:
            value.copy_(tensors[name])
