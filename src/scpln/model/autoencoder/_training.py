"""The training of count autoencoders, as a user calls it."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

import torch

from scpln.model.abilities import Bounds
from scpln.model.base import announce
from scpln.train import torch_random
from scpln.train.epochs import (
    DeviceOptions,
    TrainingOptions,
    check_checkpoint,
    split_cells,
)
from scpln.utils import (
    filled,
    one_of,
    progress_bar,
    resolve_seed,
    takes,
)

from ._cost import cost_of_epochs, cost_of_start
from ._epochs import EpochTraining
from ._options import (
    CHECKPOINTS,
    LIGHTNING,
    LOSS,
    Lightning,
    MoreTraining,
    checkpoint_options,
    cost_options,
    n_draws,
    n_elbo_draws,
    n_threads_or_default,
    training_options,
)
from ._query import options_on_reference, start_on_reference
from ._start import ITERATIONS, STEPS, cells_to_start_from, fit_plnpca, pretrain_encoder, start_at_means

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.data import Cells
    from scpln.inference import StateDensity
    from scpln.model.base import Cost
    from scpln.module import AutoencoderModule, Growth, Posterior
    from scpln.train.epochs import GradientTraining

    from ._architecture import Architecture
    from ._start import Start

StartKind = Literal["plnpca", "random"]


class AutoencoderTraining(Bounds, EpochTraining):
    """Stochastic gradients in epochs, from networks that start at a PLN-PCA."""

    module: AutoencoderModule
    architecture: Architecture

    @property
    @abstractmethod
    def n_latent(self) -> int:
        """Latent dimensions q."""

    @property
    @abstractmethod
    def _growth(self) -> Growth:
        """Where the module grew, compared with the reference's."""

    @abstractmethod
    def _make_module(
        self, start: Start | None = None, labels: NDArray[np.int64] | None = None, seed: int = 0
    ) -> AutoencoderModule:
        """A module with random networks, and a prior that suits the start."""

    @abstractmethod
    def _encode(self, data: CountData, batch_size: int | None = None) -> Posterior:
        """Posteriors of cells, batch by batch."""

    @abstractmethod
    def _elbo(
        self, data: CountData, posterior: Posterior, positions: NDArray[np.intp] | None, n_samples: int, seed: int = 0
    ) -> NDArray[np.float64]:
        """Bound of each cell, the mean over draws."""

    @takes(LOSS, CHECKPOINTS, LIGHTNING)
    def train(
        self,
        max_epochs: int | None = None,
        *,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        validation_size: float = 0.1,
        early_stopping: bool = True,
        patience: int = 30,
        start: StartKind = "plnpca",
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
        **more: Unpack[MoreTraining],
    ) -> None:
        """Maximise the bound by stochastic gradients, through scvi-tools' training plan and Lightning.

        Some of the cells are not trained on, and their bound decides when to stop and which weights to keep. It is
        evaluated with all weights and penalties off. Ctrl-C stops early and keeps the best weights so far. Training
        again starts anew. What is new about cells that were mapped onto a reference (`load_query_data`) is trained on all
        of them, from an estimate in closed form, by about 400 steps unless `max_epochs` says otherwise.

        Parameters
        ----------
        max_epochs
            Passes over the training cells; by default as many as suit the number of cells.
        batch_size
            Cells in a step.
        learning_rate
            Of Adam, for the networks; parameters of single genes learn ten times as fast. It rises over 20 steps and
            falls to 0 like a cosine.
        validation_size
            Share of cells to validate on, at most 0.9; 0 trains on all, without early stopping.
        early_stopping, patience
            Whether to stop when the bound of the validation cells has not improved for so many epochs, and keep the
            weights that gave the best.
        start
            Where training starts: ``"plnpca"``, an encoder pretrained on the posteriors of a Poisson PLN-PCA of the
            same training cells, or ``"random"`` networks. Cells that validate have no part in it.
        accelerator, devices
            Where to compute, in Lightning's words; ``"auto"`` takes a GPU if there is one.
        seed
            Of the networks, the start, the order of cells and the draws; by default ``scvi.settings.seed``, or 0.
        n_threads
            Threads; by default ``scvi.settings.num_threads``, or one unless steps are large.
        progress
            Whether to show a progress bar.
        **more
            The groups below.

        Other Parameters
        ----------------
        weight_decay
            Of the networks: half the squared norm of their parameters times this is added to the loss per cell. By
            default 10 divided by the number of cells: a normal prior of each weight with precision 10.
        kl_warmup
            Share of the planned steps over which the weight of the Kullback–Leibler terms grows from 0 to 1; by default
            a third with a random start, none with another.
        free_bits
            Nats of divergence that cost nothing in training, as a mean over latent dimensions: while the divergence of
            a batch is below their sum, its weight is 0.
        n_samples
            Draws of each cell in a step.
        gradient_clip
            Largest norm of a step's gradient.
        checkpoint_dir, checkpoint_every, resume
            Directory for checkpoints, epochs between them, and whether to go on from the one that is there, with the
            same result as without the interruption.
        callbacks, logger
            Callbacks and a logger of Lightning, for those who track or tune trainings: they get the means of each
            epoch under the names of ``history``, such as ``"elbo_validation"``, minus the bound of the validation cells.
        enable_progress_bar, check_val_every_n_epoch
            What `scvi.autotune` passes to every model: False hides the progress bar, and cells validate in every epoch.

        Raises
        ------
        TypeError
            An argument is none of these.
        FloatingPointError
            The bound or its gradient was not finite, in several steps in a row. The model then has the last good
            parameters.
        """
        given = filled(AutoencoderTraining.train, more)
        self._check_start(start)
        cells, seed, n_samples = self._read(None), resolve_seed(seed), n_draws(given["n_samples"])
        lightning, checkpoint = Lightning.of(given, progress=progress), checkpoint_options(given)
        options = training_options(
            given,
            cells.data.n_cells,
            max_epochs=max_epochs,
            batch_size=batch_size,
            random_start=start == "random",
            learning_rate=learning_rate,
            validation_size=validation_size,
            early_stopping=early_stopping,
            patience=patience,
            seed=seed,
        )
        n_threads = n_threads_or_default(n_threads)
        if self.query_ is None and (accelerator == "cpu" or not torch.cuda.is_available()):
            announce(self._cost(options, start, n_samples, n_threads), cells.data.n_cells, cells.data.n_genes)
        check_checkpoint(checkpoint.directory, resume=checkpoint.resume)
        labels, grown = self._labels(), None
        if self.query_ is None:
            training, _ = split_cells(cells.data.n_cells, options.validation_size, options.seed)
            module = self._started(cells.data, training, labels, start, seed, n_threads, lightning.progress)
            origin = str(start)
        else:
            options = options_on_reference(options, cells.data.n_cells, max_epochs)
            module, origin = copy.deepcopy(self.module), "reference"
            grown = start_on_reference(module, cells.data, self._growth, self._state_density())
        module.n_samples = n_samples
        common = {"start": origin, "n_samples": n_samples}
        outcome = self._train_epochs(
            module,
            grown,
            cells,
            options,
            device=DeviceOptions(accelerator, devices, n_threads),
            checkpoint=checkpoint,
            lightning=lightning,
            about=common,
            labels=labels,
        )
        self._conclude(cells, outcome, {**common, "n_cells": cells.data.n_cells, **asdict(options)}, seed, n_threads)

    def _conclude(
        self, cells: Cells, outcome: GradientTraining, settings: dict[str, Any], seed: int, n_threads: int | None
    ) -> None:
        """Say how training went; then raise what it failed with, if it did."""
        data = cells.data

        def summarize(converged: bool) -> dict[str, Any]:
            elbo = self._elbo(data, self._encode(data), None, n_elbo_draws(data.n_cells, data.n_genes))
            return {
                **self._judged(elbo, cells.names, converged=converged, reason=outcome.reason),
                **self._summarize_posteriors(data, lambda some: self._encode(data.subset(some)), seed, n_threads),
                **self._training_summary(data),
            }

        self._conclude_epochs(cells, outcome, settings, summarize, {"elbo": float("nan"), "reliability": None})

    def get_cost_estimate(
        self,
        max_epochs: int | None = None,
        *,
        batch_size: int = 128,
        n_samples: int = 1,
        start: StartKind = "plnpca",
        n_threads: int | None = None,
    ) -> Cost:
        """What `train` will take at most with these arguments: ``seconds``, and ``memory`` in bytes besides the data.

        On the CPU, from the sizes of the data and the networks, and how fast the machine does a few milliseconds of
        similar arithmetic; a GPU may be many times faster. Early stopping is not foreseen. Expect to be wrong by a factor
        of two or three. `train` says so itself, as information in the log, when it expects to take more than a minute,
        before it begins or from the pace of its epochs.

        Parameters
        ----------
        max_epochs, batch_size, n_samples, start, n_threads
            As in `train`.
        """
        self._check_start(start)
        n_cells = self.summary_stats.n_cells
        options, draws, threads = cost_options(n_cells, max_epochs, batch_size, n_samples, n_threads)
        return self._cost(options, start, draws, threads)

    def _cost(self, options: TrainingOptions, start: StartKind, n_samples: int, n_threads: int | None) -> Cost:
        """What training will take at most, on the CPU."""
        n, p = self.summary_stats.n_cells, len(self.genes)
        cost = cost_of_epochs((n, p), self.architecture, options, n_samples, self._n_posteriors, n_elbo_draws(n, p))
        if start == "plnpca":
            cost += cost_of_start((n, p), self.architecture, len(self.covariates), n_threads)
        return cost

    @property
    def _n_posteriors(self) -> int:
        """Posteriors that a cell has."""
        return 1

    def _check_start(self, start: StartKind) -> None:
        """Refuse a start that the model cannot have."""
        one_of("start", start, get_args(StartKind))

    def _training_summary(self, data: CountData) -> dict[str, Any]:
        """More to say of a training."""
        return {}

    @abstractmethod
    def _state_density(self) -> StateDensity | None:
        """Where the states of the training cells lie, or those of the reference if these were mapped; None if that is not known."""

    def _labels(self) -> NDArray[np.int64] | None:
        """Codes of the training cells' labels, for models that use them."""
        return None

    def _started(
        self,
        data: CountData,
        training: NDArray[np.intp],
        labels: NDArray[np.int64] | None,
        start: StartKind,
        seed: int,
        n_threads: int | None,
        progress: bool,
    ) -> AutoencoderModule:
        """A new module at the start of training, from its training cells alone."""
        chosen = cells_to_start_from(training)
        if len(chosen) < data.n_cells:
            data, labels = data.subset(chosen), None if labels is None else labels[chosen]
        diagonal, name = self.architecture.posterior == "meanfield", type(self).__name__
        with torch_random(seed):
            plnpca = None
            if start == "plnpca":
                with progress_bar(f"{name}, start from PLN-PCA", ITERATIONS, at_most=True, show=progress) as bar:
                    plnpca = fit_plnpca(
                        data,
                        self.n_latent,
                        self.architecture.make_likelihood(data.n_genes),
                        diagonal=diagonal,
                        seed=seed,
                        n_threads=n_threads,
                        on_iteration=bar.update,
                    )
                    bar.finish("done")
            module = self._make_module(plnpca, labels, seed)
            start_at_means(module, data)
            if plnpca is not None:
                with progress_bar(f"{name}, start of the encoder (−KL)", STEPS, unit="step", show=progress) as bar:
                    pretrain_encoder(module, plnpca, seed=seed, n_threads=n_threads, on_step=bar.update)
                    bar.finish("done")
        return module
