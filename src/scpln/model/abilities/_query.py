"""Query mapping: cells of new batches or conditions are placed onto a trained reference, which stays as it is."""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from mudata import MuData, set_options
from scvi import REGISTRY_KEYS

from scpln.data import DESIGN_KEY, Design, _manager, modality_slices
from scpln.inference import StateDensity
from scpln.model.base import ScplnModel
from scpln.module import GaussianMixture, Growth
from scpln.train import torch_random
from scpln.utils import named, warn

if TYPE_CHECKING:
    import os

    import torch
    from anndata import AnnData

    from scpln.data import Data
    from scpln.module import LatentModule

logger = logging.getLogger("scpln")

#: Most cells by whose states those of mapped cells go: more would not change it.
CELLS_OF_DENSITY = 5_000
#: Why a training ended that had nothing to do.
NOTHING_NEW = "nothing to train, since all categories are known"


class QueryMapping(ScplnModel):
    """Models onto which cells of new batches and conditions can be mapped."""

    module: LatentModule

    @classmethod
    def load_query_data(
        cls, adata: Data, reference_model: str | os.PathLike | Self, *, inplace_subset_query_vars: bool = False
    ) -> Self:
        r"""Model of new cells on a trained reference, to be trained on what is new about them.

        Categories of ``batch_key`` and ``categorical_covariate_keys`` that the reference does not know get coefficients
        of their own in `train`, and nothing else moves: loadings, networks, components and all other parameters, and
        with them the latent states of the reference's cells, are bit by bit as before, so that those of both can be
        looked at together. Cells of known categories need no training.

        New coefficients have a normal prior around the average of the known categories, with a shift and a spread that
        are learned from all genes, so that few cells, and genes without counts, are enough. PLN-PCA expects the new
        cells' states where the reference's are, in proportions of their own: a batch of few cell types is drawn to
        these types, and not to the centre of all.

        Parameters
        ----------
        adata
            Annotated data with the model's genes, in any order, and the columns of ``obs`` that the reference was set up
            with; it need not be set up. Labels (``labels_key``) may be missing, all or some of them.
        reference_model
            A trained model of this class, or the directory that it was saved in.
        inplace_subset_query_vars
            Whether to bring the genes of `adata` into the model's order, in place, and drop others. Not needed.

        Returns
        -------
        A model of `adata`, with all methods. If all categories are known it is trained already.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=50, n_latent=2, n_batches=3)
        >>> is_query = (adata.obs["batch"] == adata.obs["batch"].unique()[-1]).to_numpy()
        >>> reference, query = adata[~is_query].copy(), adata[is_query].copy()
        >>> scpln.model.setup_anndata(reference, batch_key="batch")
        >>> model = scpln.model.PLNPCA(reference, n_latent=2)
        >>> model.train(progress=False)
        >>> mapped = scpln.model.PLNPCA.load_query_data(query, model)
        >>> mapped.train(progress=False)
        >>> bool((mapped.get_loadings() == model.get_loadings()).all(axis=None))
        True
        >>> latent = mapped.get_latent_representation()  # in the coordinates of model.get_latent_representation()
        """
        reference = _trained(cls, reference_model)
        reference._check(adata, view_allowed=False)
        if inplace_subset_query_vars:
            cls.prepare_query_anndata(adata, reference)
        registry = _manager.extended(reference.registry, adata)
        model = cls(registry=registry, **reference.init_params_["non_kwargs"])
        model._grow_from(reference)
        model._attach(adata)
        _warn_if_inseparable(model, adata)
        if not model._growth.any:
            logger.info("All categories of these %s cells are known: there is nothing to train.", f"{adata.n_obs:,}")
            model.train(progress=False)
        return model

    @classmethod
    def prepare_query_anndata(
        cls,
        adata: Data,
        reference_model: str | os.PathLike | Self,
        return_reference_var_names: bool = False,
        inplace: bool = True,
        *,
        fill_missing: bool = False,
    ) -> Data | pd.Index | None:
        """Bring data to the genes of a reference, in its order; others are dropped.

        Models match genes by name, so this is needed only where some are missing, to be filled with zeros.

        Parameters
        ----------
        adata
            Annotated data. Of a MuData, the modalities that the reference was trained on; it may lack some of them.
        reference_model
            A trained model, or the directory that it was saved in.
        return_reference_var_names
            Whether to return the names of the reference's genes, and do nothing.
        inplace
            Whether to change `adata`, or return another.
        fill_missing
            Whether genes that `adata` lacks are filled with zeros. That is refused by default, since they are
            read as measured zeros: evidence that the gene is not expressed. In a new batch that has none of them, the
            batch's coefficients take up most of it; in a known one, latent states do. With a mask in a layer (`mask_key`),
            they are filled as not observed, and are no evidence.

        Returns
        -------
        None, the prepared data, or the names of genes.
        """
        reference = _trained(cls, reference_model)
        genes = pd.Index(reference.genes)
        if return_reference_var_names:
            return genes
        reference._check(adata, view_allowed=not inplace)
        slices = {
            name: own
            for name, own in modality_slices(_manager.states(reference.registry)).items()
            if name in getattr(adata, "mod", {})
        }
        if isinstance(adata, MuData):
            prepared = {}
            for name, own in slices.items():
                with named(f"mdata[{name!r}]"):
                    prepared[name] = _with_genes(adata.mod[name], genes[own], fill_missing=fill_missing)
            with set_options(pull_on_update=False):  # or columns of the modalities are copied into mdata.obs
                adata = adata if inplace else adata.copy()
                for name, part in prepared.items():
                    adata.mod[name]._init_as_actual(part)
                adata.update()
            return None if inplace else adata
        mask_key = _manager.setup_args(reference.registry).get("mask_key")
        changed = _with_genes(adata, genes, fill_missing=fill_missing, masked=mask_key in adata.layers)
        if not inplace:
            return changed
        if not adata.var_names.equals(genes):
            adata._init_as_actual(changed)
        return None

    @property
    def new_categories(self) -> dict[str, list[str]]:
        """Of mapped cells, the categories of each key that the reference does not know."""
        if self.query_ is None:
            return {}
        known = Design.from_state(self.query_["design"]).factors
        design = Design.from_state(_manager.states(self.registry)[DESIGN_KEY])
        new = {key: categories[len(known[key]) :] for key, categories in design.factors.items()}
        return {key: categories for key, categories in new.items() if categories}

    @abstractmethod
    def _empty_module(self, tensors: dict[str, torch.Tensor]) -> LatentModule:
        """A module into which saved tensors fit, but for those of cells and of the design."""

    def _kept_states(self) -> dict[str, Any]:
        """What mapped cells are told of where those of the reference are, as in `states_`."""
        return self.states_

    def _state_density(self) -> StateDensity | None:
        """Density of the states of the cells that the model, or its reference, was trained on; None if it is not known."""
        return StateDensity.from_lists(self.states_["density"]) if "density" in self.states_ else None

    @property
    def _growth(self) -> Growth:
        """Where the module grew, compared with the reference's."""
        assert self.query_ is not None
        known = Design.from_state(self.query_["design"])
        design = Design.from_state(_manager.states(self.registry)[DESIGN_KEY])
        is_new, siblings = design.growth(known)
        return Growth(is_new, siblings, self.query_["n_batches"], self._n_batches(self.registry), self.query_["dims"])

    @staticmethod
    def _n_batches(registry: dict[str, Any]) -> int:
        return len(_manager.states(registry)[REGISTRY_KEYS.BATCH_KEY]["categorical_mapping"])

    def _grow_from(self, reference: Self) -> None:
        """Take over what a reference has learned."""
        by_cell = reference.module.by_cell
        state = reference.module.state_dict()
        tensors = {name: value.detach().cpu() for name, value in state.items() if name not in by_cell}
        design, n_batches = _manager.states(reference.registry)[DESIGN_KEY], self._n_batches(reference.registry)
        self.query_ = {"design": copy.deepcopy(design), "n_batches": n_batches, "dims": {}}
        self.states_ = copy.deepcopy(reference._kept_states())
        with torch_random():
            module = self._empty_module(tensors)
        self.query_["dims"] = self._growth.grow(tensors, module).dims
        self.module = module.requires_grad_(False).eval()

    def _status(self) -> dict[str, str]:
        """State of training, and what is new about mapped cells."""
        if self.query_ is None:
            return super()._status()
        new = [f"{key}={category!r}" for key, names in self.new_categories.items() for category in names]
        mapped = (
            f"coefficients of {', '.join(new[:6])}{', …' if len(new) > 6 else ''}" if new else "nothing new to learn"
        )
        return {**super()._status(), "mapped onto a reference": mapped}


def as_prior(density: StateDensity) -> GaussianMixture:
    """The density of a reference's states as a prior that stays as it is."""
    k, q = density.means.shape
    with torch_random():
        prior = GaussianMixture(k, q, full=True, weights=density.weights.tolist())
    prior.place(density.means, np.tile(density.covariance, (k, 1, 1)), density.weights)
    return prior.requires_grad_(False)


def _trained(cls: type[QueryMapping], model: Any) -> Any:
    """The model, loaded if it is a directory; an error unless it is a trained one of this class."""
    if isinstance(model, str | Path):
        model = cls.load(model, adata=False)
    if type(model) is not cls:
        name = type(model).__name__
        hint = f" Call scpln.model.{name}.load_query_data(...)." if hasattr(model, "load_query_data") else ""
        msg = f"reference_model must be a {cls.__name__}, or the directory that one was saved in, not a {name}.{hint}"
        raise TypeError(msg)
    model._require_trained()
    return model


def _with_genes(adata: AnnData, genes: pd.Index, *, fill_missing: bool, masked: bool = False) -> AnnData:
    """A copy of data with these genes, in this order; layers are filled too, so that a mask there says what was observed."""
    if not adata.var_names.is_unique:
        msg = "adata.var_names are not unique, and genes are matched by name. Run `adata.var_names_make_unique()`."
        raise ValueError(msg)
    missing = genes[~genes.isin(adata.var_names)]
    if len(missing):
        shown = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
        share = f"{len(missing):,} of the reference's {len(genes):,} genes ({100 * len(missing) / len(genes):.1f} %)"
        if not fill_missing:
            msg = (
                f"{share} are missing from adata.var_names: {shown}. Genes are matched by name, in any order. Pass an "
                "AnnData that has all of them, train the reference on those in common, or fill them with zeros, which "
                "are read as measured zeros: fill_missing=True."
            )
            raise ValueError(msg)
        if len(missing) == len(genes):
            msg = f"{share} are missing from adata.var_names: {shown}. Are genes named the same way in both?"
            raise ValueError(msg)
        read_as = "are not observed (mask_key)" if masked else "are read as measured zeros"
        warn(f"{share} are missing from adata.var_names and filled with zeros, which {read_as}: {shown}.")
        zeros = sp.csr_matrix((adata.n_obs, len(missing)), dtype=np.float32)
        layers = {name: zeros.astype(layer.dtype) for name, layer in adata.layers.items()}
        x = None if adata.X is None else zeros.astype(adata.X.dtype)
        padding = anndata.AnnData(
            x, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=missing), layers=layers
        )
        adata = anndata.concat([adata, padding], axis=1, merge="first", uns_merge="first")
    return adata[:, genes].copy()


def _warn_if_inseparable(model: QueryMapping, adata: Data) -> None:
    """Say if new categories always come together, so that only their sum is known."""
    design = Design.from_state(_manager.states(model.registry)[DESIGN_KEY])
    columns = design.matrix(adata.obs)[:, model._growth.is_new]
    if np.linalg.matrix_rank(columns) < columns.shape[1]:
        names = [name for name, new in zip(design.names, model._growth.is_new, strict=True) if new]
        warn(
            f"The coefficients of {names} cannot be told apart: in these cells, some of these categories always come "
            "together. Latent states and rates are right, but effects are divided between them by their prior."
        )
