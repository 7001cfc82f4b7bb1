"""What count autoencoders share: training on Lightning, and posteriors from the encoder."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scvi
import torch

from scpln.core import after_training
from scpln.data import cell_positions
from scpln.inference import StateDensity, sampled_elbo
from scpln.model.abilities import (
    CELLS_OF_DENSITY,
    Differential,
    ExactSampling,
    GroupTests,
    LikelihoodParameters,
    Loadings,
    PriorPredictive,
    QueryMapping,
)
from scpln.model.base import REFINE, Annotation
from scpln.train import Minibatches, refine, torch_threads
from scpln.utils import resolve_seed, slow_bar

from ._network_model import NetworkModel
from ._training import AutoencoderTraining

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.data import Cells
    from scpln.module import AutoencoderModule, Posterior
    from scpln.train.epochs import GradientTraining

    from ._architecture import Architecture


class Autoencoder(
    NetworkModel,
    QueryMapping,
    Loadings,
    LikelihoodParameters,
    Differential,
    GroupTests,
    AutoencoderTraining,
    ExactSampling,
    PriorPredictive,
):
    """Base of the count autoencoders."""

    module: AutoencoderModule
    architecture: Architecture

    def _nonlinearity(self) -> str:
        hidden = self.architecture.decoder_hidden
        return (
            f"its decoder has hidden layers ({hidden})"
            if hidden
            else "its rates are shares (scale_activation='softmax')"
        )

    @property
    def _closer_posteriors(self) -> str:  # type: ignore[override]
        longer = "train for longer (max_epochs)"
        return longer if getattr(self, "component_posteriors", False) else f"{REFINE}, or {longer}"

    @property
    def n_latent(self) -> int:
        """Latent dimensions q."""
        return self.architecture.n_latent

    def _infer(
        self,
        adata: AnnData | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool | Literal["exact"] = False,
        seed: int | None = None,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """Posterior of each cell, encoded, and if asked for its bound."""
        self._require_trained()
        (batch_size, refine), seed = self._check_inference(batch_size, refine), resolve_seed(seed)
        adata = self._data_or_own(adata)
        positions = cell_positions(indices, adata.n_obs)
        data = self._read(adata, positions).data
        posterior = self._encode(data, batch_size)
        if refine:
            posterior = self._refined(data, posterior, refine, seed)
        values = self._elbo(data, posterior, positions, self._elbo_draws, seed) if with_elbo is True else np.empty(0)
        return posterior, values

    def _posterior_means(
        self, adata: AnnData | MuData | None, indices: Any, batch_size: int | None
    ) -> NDArray[np.floating]:
        """Means from the encoder, without the covariances of all cells, which take q times the memory."""
        self._require_trained()
        batch_size, _ = self._check_inference(batch_size, 0)
        adata = self._data_or_own(adata)
        data = self._read(adata, cell_positions(indices, adata.n_obs)).data
        parts = []
        with torch_threads(scvi.settings.num_threads or 1):
            for _, batch in Minibatches(data, data.block_size(batch_size)).in_order():
                means = self.module.encode_means(batch.to(self.module.device))
                if means is None:
                    return super()._posterior_means(adata, indices, batch_size)
                parts.append(means.cpu())
        return torch.cat(parts).numpy()

    def _encode(self, data: CountData, batch_size: int | None = None) -> Posterior:
        """Posteriors of cells, batch by batch."""
        parts: dict[str, list[torch.Tensor]] = {}
        batches = Minibatches(data, data.block_size(batch_size))
        with torch_threads(scvi.settings.num_threads or 1):
            for _, batch in batches.in_order():
                for name, value in self.module.encode(batch.to(self.module.device)).items():
                    parts.setdefault(name, []).append(value.cpu())
        return self.module.compose({name: torch.cat(values) for name, values in parts.items()})

    def _elbo(
        self, data: CountData, posterior: Posterior, positions: NDArray[np.intp] | None, n_samples: int, seed: int = 0
    ) -> NDArray[np.float64]:
        """Bound of each cell, the mean over draws."""
        with slow_bar(f"{type(self).__name__}, bounds", data.n_cells, unit="cell") as done:
            return sampled_elbo(
                data,
                self.module.generative,
                posterior,
                n_samples=n_samples,
                seed=seed,
                positions=positions,
                n_threads=scvi.settings.num_threads,
                on_cells=done,
            )

    def _conclude(self, cells: Cells, outcome: GradientTraining, *more: Any) -> None:
        try:
            super()._conclude(cells, outcome, *more)
        finally:  # it raises what training failed with
            if self.query_ is None:
                self.states_, _ = after_training(lambda: self._summary_of_states(cells.data), {}, outcome.reason)

    def _summary_of_states(self, data: CountData) -> dict[str, Any]:
        """What is kept of where the training cells' states are, as in `states_`."""
        n = data.n_cells
        some = np.random.default_rng(0).choice(n, min(n, CELLS_OF_DENSITY), replace=False)
        posterior = self._encode(data.subset(np.sort(some)))
        return {"density": StateDensity.of(posterior.mean, posterior.packed_covariance).to_lists()}

    def _refined(self, data: CountData, posterior: Posterior, n_steps: int, seed: int) -> Posterior:
        """Posteriors that are improved cell by cell, with everything else as it is."""
        model = copy.deepcopy(self.module.generative).cpu()
        diagonal = self.architecture.posterior == "meanfield"
        return refine(
            data,
            model,
            posterior,
            n_steps=n_steps,
            diagonal=diagonal,
            seed=seed,
            n_threads=scvi.settings.num_threads,
        )

    def _annotation(self, adata: AnnData, diagnostics: bool) -> Annotation:
        posterior, values = self._infer(adata, None, with_elbo=True)
        tables = {}
        if self.module.generative.decoder.linear_map() is not None:
            own = self.adata is None or adata is self.adata
            tables = self._loading_tables((posterior if own else self._infer(None, None)[0]).mean)
        return Annotation(
            latent=posterior.mean.astype(np.float32),
            obs={"elbo": values, **self._diagnostic_columns(posterior, values, adata, diagnostics)},
            var=self.get_gene_parameters(),
            varm=tables,
            uns={"elbo": self._mean_bound(values, adata.obs_names)},
        )
