"""What models of labels and of values share: features of cells, draws of latent states, the layer as it is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import settings

from scpln.data import cell_positions, setup_args
from scpln.model.base import ScplnModel
from scpln.utils import positive_integer_or_none, positive_number

from ._features import design_of, log_values, read_embedding
from ._layer import LinearLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from scpln.data import Data
    from scpln.module import Posterior

    Floats = NDArray[np.float64]

#: Largest standard deviation of weights.
_WIDEST = 1e4
#: How far means of a posterior may be from the features, in standard deviations of these.
_SAME = 1e-3


def number_of_threads(n_threads: int | None) -> int | None:
    """Threads of linear algebra that are asked for, or set for all; None for as many as it takes."""
    return positive_integer_or_none("n_threads", n_threads) or settings.num_threads


class LinearModel(ScplnModel):
    """A linear layer on features of cells."""

    module: LinearLayer
    use_rep: str | None

    def _take(self, use_rep: str | None, prior_scale: float | None) -> None:
        """Check arguments that these models have in common, and take them."""
        if use_rep is not None and not isinstance(use_rep, str):
            msg = f"use_rep={use_rep!r}, but it must be the name of an entry of obsm, as text, or None for counts."
            raise TypeError(msg)
        if use_rep is None:
            for name in ("offset_key", "mask_key"):
                if setup_args(self.registry).get(name) is not None:
                    msg = f"{type(self).__name__} reads counts and their size factors, and has no place for {name}. Set up the data without it, or name an embedding with use_rep=..."
                    raise ValueError(msg)
        self.use_rep = use_rep
        self.prior_scale = None if prior_scale is None else positive_number("prior_scale", prior_scale, most=_WIDEST)
        if self.adata is not None and use_rep is not None:
            read_embedding(self.adata, use_rep, np.arange(0), None)
        self.module = LinearLayer()

    def _values(self, adata: Data | None, positions: NDArray[np.intp] | None) -> Floats:
        """Features of cells as they are given (n × d)."""
        if self.use_rep is None:
            return log_values(self._read(adata, positions), is_count_data=self.is_count_data)
        n = len(self.module.array("centre")) if self.is_trained_ else None
        return read_embedding(self._data_or_own(adata), self.use_rep, positions, n)

    def _design(self, adata: Data | None, indices: Any) -> Floats:
        """Features of chosen cells as the layer reads them (n × f)."""
        data = self._data_or_own(adata)
        values = self._values(adata, cell_positions(indices, data.n_obs))
        return design_of(values, self.module.array("centre"), float(self.module.array("scale")))

    def _names(self, adata: Data | None, indices: Any) -> pd.Index:
        """Names of chosen cells."""
        data = self._data_or_own(adata)
        positions = cell_positions(indices, data.n_obs)
        return data.obs_names if positions is None else data.obs_names[positions]

    def _features(
        self, design: Floats, posterior: Posterior | None, n_draws: int, seed: int
    ) -> Callable[[slice], NDArray[np.float32]]:
        """What `predict_labels` reads: features, or draws of them from posteriors of the latent states."""
        if posterior is None:
            single = design.astype(np.float32)
            return lambda rows: single[rows]
        centre, scale = self.module.array("centre"), float(self.module.array("scale"))
        self._check_posterior(posterior, design)

        def draws(rows: slice) -> NDArray[np.float32]:
            z = (posterior[np.arange(len(design))[rows]].sample(n_draws, seed=seed + rows.start) - centre) / scale
            return np.concatenate([np.ones((*z.shape[:2], 1)), z], axis=2).astype(np.float32)

        return draws

    def _check_posterior(self, posterior: Posterior, design: Floats) -> None:
        """Refuse posteriors that are not those of the features.

        Raises
        ------
        ValueError
            They are of other cells or coordinates, or features are counts.
        """
        if self.use_rep is None:
            msg = "posterior= has the uncertainty of an embedding, and this model reads counts. Leave it out, or train with use_rep=."
            raise ValueError(msg)
        mean, shape = np.asarray(posterior.mean), (len(design), design.shape[1] - 1)
        is_same = mean.shape == shape
        if is_same:
            scaled = design_of(mean, self.module.array("centre"), float(self.module.array("scale")))
            is_same = np.abs(scaled - design).max(initial=0.0) <= _SAME
        if not is_same:
            msg = (
                f"posterior= is not that of adata.obsm[{self.use_rep!r}]: its means, {mean.shape}, are not these. Pass get_posterior(...) of the same cells, and train on "
                "states in its coordinates, such as use_rep='plnpca_state' of PLN-PCA."
            )
            raise ValueError(msg)

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = LinearLayer.of({name: tensor.cpu().numpy() for name, tensor in tensors.items()})
