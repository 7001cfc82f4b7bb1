"""What models whose networks encode and decode cells have in common: what they are made of, and which cells they read how."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.data import setup_args
from scpln.model.base import ScplnModel, check_kind
from scpln.train import torch_random
from scpln.train.epochs import split_cells

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.data import Cells
    from scpln.module import AutoencoderModule

    from ._architecture import Architecture
    from ._start import Start


class NetworkModel(ScplnModel):
    """Models with an `Architecture`, trained on some cells while others validate."""

    module: AutoencoderModule
    architecture: Architecture
    size_factors: bool

    def _untrained(self) -> AutoencoderModule:
        """A module before training, made without a trace in torch's random numbers."""
        with torch_random():
            return self._make_module()

    @abstractmethod
    def _make_module(
        self, start: Start | None = None, labels: NDArray[np.int64] | None = None, seed: int = 0
    ) -> AutoencoderModule:
        """A module with random networks, and a prior that suits the start."""

    def _empty_module(self, tensors: dict[str, torch.Tensor]) -> AutoencoderModule:
        """A module into which saved tensors fit."""
        return self._make_module()

    def _check_data(self) -> None:
        """Refuse choices that these data, or other choices, do not go with."""
        if self.architecture.dispersion == "gene-batch" and setup_args(self.registry)["batch_key"] is None:
            msg = "dispersion='gene-batch' needs batches: name them in setup_anndata(..., batch_key=...)."
            raise ValueError(msg)
        if self.architecture.k_max is not None and setup_args(self.registry).get("mask_key") is not None:
            msg = (
                "k_max gives small counts probabilities of their own, whatever the rate, so that an entry that was not observed "
                "(mask_key) would say something. Leave out k_max."
            )
            raise ValueError(msg)
        softmax = self.architecture.scale_activation == "softmax"
        if softmax and not self.size_factors:
            msg = (
                "scale_activation='softmax' divides the total of each cell's size factor. Leave out size_factors=False."
            )
            raise ValueError(msg)
        check_kind(self.architecture.likelihood, is_count=self.architecture.is_count, is_count_data=self.is_count_data)

    @property
    def uses_size_factors(self) -> bool:
        """Whether the model is given the size factors, or has to explain them (``size_factors=False``)."""
        return self.size_factors

    @property
    def train_indices(self) -> NDArray[np.intp]:
        """Positions of the cells that the model was trained on."""
        return self._split()[0]

    @property
    def validation_indices(self) -> NDArray[np.intp]:
        """Positions of the cells that decided when training stopped."""
        return self._split()[1]

    def _split(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        self._require_trained()
        return split_cells(self.training_["n_cells"], self.training_["validation_size"], self.training_["seed"])

    def _sizes(self) -> tuple[int, int, int]:
        """Numbers of genes, columns of the design, and batches."""
        return len(self.genes), len(self.covariates), int(self.summary_stats.n_batch)

    def _read(self, adata: AnnData | None, positions: NDArray | None = None) -> Cells:
        cells = super()._read(adata, positions)
        if self.size_factors:
            return cells
        return replace(cells, data=replace(cells.data, offsets=np.zeros(cells.data.n_cells)))

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        with torch_random():
            self.module = self._empty_module(tensors)
        self.module.load_state_dict(tensors)
        self.module.requires_grad_(False)
        self.module.eval()
