"""The training of autoencoders with codes: networks and codes by stochastic gradients, then the prior of codes."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from scpln.inference.codes import fit_code_prior
from scpln.model.abilities import Elbo, QueryMapping
from scpln.model.autoencoder import (
    CHECKPOINTS,
    ITERATIONS,
    LIGHTNING,
    STEPS,
    EpochTraining,
    Lightning,
    NetworkModel,
    StartKind,
    cells_to_start_from,
    checkpoint_options,
    cost_of_epochs,
    cost_of_start,
    cost_options,
    fit_plnpca,
    n_threads_or_default,
    options_on_reference,
    start_at_means,
    start_on_reference,
    training_options,
)
from scpln.model.base import announce
from scpln.train import torch_random
from scpln.train.epochs import DeviceOptions, check_checkpoint, split_cells
from scpln.utils import filled, one_of, progress_bar, resolve_seed, takes, warn

from ._start import information, place_codes, pretrain_encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.data import Cells
    from scpln.model.base import Cost
    from scpln.module.codes import VQVAEModule
    from scpln.train.epochs import GradientTraining, TrainingOptions

    from ._options import CodeOptions, MoreTraining

#: How the loss is made.
LOSS = {"weight_decay": None, "gradient_clip": 50.0}
#: Choices of other autoencoders that mean nothing where the divergence is constant.
_CONSTANT = {"kl_warmup": 0.0, "free_bits": 0.0}
#: By how much M log K may exceed what PLN-PCA finds in a cell.
_TIMES = 3.0


class CodeTraining(NetworkModel, QueryMapping, Elbo, EpochTraining):
    """Stochastic gradients in epochs, from codes that start at a PLN-PCA; then the prior of codes."""

    module: VQVAEModule
    options: CodeOptions

    @abstractmethod
    def _codes_of(self, data: CountData) -> NDArray[np.int64]:
        """Codes (n, M) that the encoder gives cells."""

    @abstractmethod
    def _groups_to_learn(self, data: CountData) -> NDArray[np.int64] | None:
        """Groups (n,) that the prior of codes is given for the training cells, −1 where they are not known."""

    @abstractmethod
    def _bounds_of(self, data: CountData, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bound of each cell."""

    @abstractmethod
    def _usage(self, codes: NDArray[np.int64]) -> dict[str, Any]:
        """What codes are used, in numbers."""

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
        """Maximise the bound by stochastic gradients, through scvi-tools' training plan and Lightning; then learn the prior of codes.

        Some of the cells are not trained on, and their bound decides when to stop and which weights to keep: codes describe cells so closely that without
        this, training cells would be learned by heart. The prior of codes is learned of the codes that the training cells have in the end, and the same
        cells decide when that stops. Ctrl-C stops early and keeps the best weights so far. Training again starts anew. What is new about cells that were mapped onto a reference
        (`load_query_data`) is trained on all of them, with codes and their prior as they are.

        Parameters
        ----------
        max_epochs, batch_size, learning_rate, validation_size, early_stopping, patience, accelerator, devices, seed, n_threads, progress
            As of `CountVAE`.
        start
            Where training starts: ``"plnpca"``, an encoder pretrained on the posterior means of a Poisson PLN-PCA of the same training cells, or ``"random"``
            networks. Codebooks start at the centres of k-means of what the encoder gives.
        **more
            The groups below.

        Other Parameters
        ----------------
        weight_decay, gradient_clip
            As of `CountVAE`.
        checkpoint_dir, checkpoint_every, resume
            As of `CountVAE`.
        callbacks, logger, enable_progress_bar, check_val_every_n_epoch
            As of `CountVAE`.

        Raises
        ------
        TypeError
            An argument is none of these.
        FloatingPointError
            The bound or its gradient was not finite, in several steps in a row. The model then has the last good
            parameters.
        """
        given = {**filled(CodeTraining.train, more), **_CONSTANT}
        one_of("start", start, ["plnpca", "random"])
        cells, seed = self._read(None), resolve_seed(seed)
        lightning, checkpoint = Lightning.of(given, progress=progress), checkpoint_options(given)
        options = training_options(
            given,
            cells.data.n_cells,
            max_epochs=max_epochs,
            batch_size=batch_size,
            random_start=False,
            learning_rate=learning_rate,
            validation_size=validation_size,
            early_stopping=early_stopping,
            patience=patience,
            seed=seed,
        )
        n_threads = n_threads_or_default(n_threads)
        groups = self._groups_to_learn(cells.data)
        if self.query_ is None and (accelerator == "cpu" or not torch.cuda.is_available()):
            announce(self._cost(options, start, n_threads), cells.data.n_cells, cells.data.n_genes)
        check_checkpoint(checkpoint.directory, resume=checkpoint.resume)
        grown, origin = None, str(start)
        if self.query_ is None:
            module = self._started(cells.data, options, start, n_threads, lightning.progress)
        else:
            options = options_on_reference(options, cells.data.n_cells, max_epochs)
            module, origin = self._with_fixed_codes(), "reference"
            grown = start_on_reference(module, cells.data, self._growth)
        outcome = self._train_epochs(
            module,
            grown,
            cells,
            options,
            device=DeviceOptions(accelerator, devices, n_threads),
            checkpoint=checkpoint,
            lightning=lightning,
            about={"start": origin},
        )
        common = {"start": origin, "n_cells": cells.data.n_cells, **asdict(options)}
        self._conclude(cells, groups, outcome, common)

    def _conclude(
        self, cells: Cells, groups: NDArray[np.int64] | None, outcome: GradientTraining, settings: dict[str, Any]
    ) -> None:
        """Learn the prior, and say how training went; then raise what it failed with, if it did."""

        def summarize(converged: bool) -> dict[str, Any]:
            codes = self._codes_of(cells.data)
            self._learn_prior(codes, groups, outcome.validation_cells, settings["seed"])
            elbo = self._bounds_of(cells.data, codes)
            judged = self._judged(elbo, cells.names, converged=converged, reason=outcome.reason)
            return {**judged, **self._usage(codes)}

        self._conclude_epochs(cells, outcome, settings, summarize, {"elbo": float("nan")})

    def _learn_prior(
        self, codes: NDArray[np.int64], groups: NDArray[np.int64] | None, held_out: NDArray[np.intp], seed: int
    ) -> None:
        """Learn the prior of codes from those of cells whose group is known."""
        if self.options.prior == "uniform" or self.query_ is not None:
            return
        known = np.arange(len(codes)) if groups is None else np.flatnonzero(groups >= 0)
        fit_code_prior(
            self.module.states.codes,
            codes[known],
            None if groups is None else groups[known],
            held_out=np.isin(known, held_out),
            seed=seed,
        )

    def get_cost_estimate(
        self,
        max_epochs: int | None = None,
        *,
        batch_size: int = 128,
        start: StartKind = "plnpca",
        n_threads: int | None = None,
    ) -> Cost:
        """What `train` will take at most with these arguments: ``seconds``, and ``memory`` in bytes besides the data; as of `CountVAE`.

        Parameters
        ----------
        max_epochs, batch_size, start, n_threads
            As in `train`.
        """
        one_of("start", start, ["plnpca", "random"])
        options, _, threads = cost_options(self.summary_stats.n_cells, max_epochs, batch_size, 1, n_threads)
        return self._cost(options, start, threads)

    def _cost(self, options: TrainingOptions, start: StartKind, n_threads: int | None) -> Cost:
        """What training will take at most, on the CPU."""
        shape = self.summary_stats.n_cells, len(self.genes)
        cost = cost_of_epochs(shape, self.architecture, options, 1, 1, 1)
        if start == "plnpca":
            cost += cost_of_start(shape, self.architecture, len(self.covariates), n_threads)
        return cost

    def _started(
        self, data: CountData, options: TrainingOptions, start: StartKind, n_threads: int | None, progress: bool
    ) -> VQVAEModule:
        """A new module at the start of training, from its training cells alone."""
        training, _ = split_cells(data.n_cells, options.validation_size, options.seed)
        chosen, name = cells_to_start_from(training), type(self).__name__
        if len(chosen) < data.n_cells:
            data = data.subset(chosen)
        with torch_random(options.seed):
            module: Any = self._make_module()
            start_at_means(module, data)
            if start == "plnpca":
                with progress_bar(f"{name}, start from PLN-PCA", ITERATIONS, at_most=True, show=progress) as bar:
                    plnpca = fit_plnpca(
                        data,
                        self.options.n_latent,
                        self.architecture.make_likelihood(data.n_genes),
                        diagonal=False,
                        seed=options.seed,
                        n_threads=n_threads,
                        on_iteration=bar.update,
                    )
                    bar.finish("done")
                self._warn_of_capacity(information(plnpca))
                with progress_bar(f"{name}, start of the encoder", STEPS, unit="step", show=progress) as bar:
                    pretrain_encoder(module, plnpca, seed=options.seed, n_threads=n_threads, on_step=bar.update)
                    bar.finish("done")
            place_codes(module, data, options.batch_size, options.seed)
        return module

    def _with_fixed_codes(self) -> VQVAEModule:
        """The module of a reference, of which codes do not move, and cells keep all of theirs."""
        module = copy.deepcopy(self.module)
        module.quantizer.learns, module.code_dropout = False, 0.0
        return module

    def _warn_of_capacity(self, nats: float) -> None:
        """Say if codes can hold far more than there is to say of a cell."""
        n_codes, size = self.options.n_codes, self.options.codebook_size
        if n_codes * np.log(size) > _TIMES * max(nats, 1.0):
            warn(
                f"n_codes={n_codes} codes of codebook_size={size} hold {n_codes * np.log(size):.1f} nats, and the counts of a cell say about {nats:.1f} of its "
                "state: most codes would describe noise, and bounds of new cells suffer. Take fewer codes, or smaller codebooks."
            )
