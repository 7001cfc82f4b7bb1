"""What every scpln model shares: its registration, its data, what it writes into them, how it is saved."""

from __future__ import annotations

import logging
import weakref
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from mudata import MuData

from scpln import __version__
from scpln._catalogue import in_words, joint_models
from scpln.data import (
    DESIGN_KEY,
    _manager,
    _setup,
    cell_positions,
    check_adata,
    check_mdata,
    modality_slices,
    read_cells,
    validated_once,
)
from scpln.utils import description, storable_name

from ._evaluated import Evaluated
from ._going_on import how_to_go_on
from ._objective import Objective
from ._persistence import Persistent, history_lists, history_tables
from ._reliability import say_reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.data import Cells, Data

    from ._annotation import Annotation

logger = logging.getLogger("scpln")


class ScplnModel(Persistent):
    """Base of all scpln models.

    A subclass builds ``self.module`` and ``self.init_params_`` in its constructor, trains in ``train`` (calling
    `_finish_training`), and says in `_annotation` what it writes into AnnData.

    Parameters
    ----------
    adata
        Annotated data that `scpln.model.setup_anndata` was called with.
    registry
        What a saved model has learned of its data, in place of the data.
    """

    #: Whether a MuData with several modalities may be the data.
    _takes_mudata: ClassVar[bool] = False
    #: What training optimises, without its value.
    _objective: ClassVar[Objective] = Objective("elbo", "nats per cell")
    _closer_posteriors = ""  #: what to do for closer ones

    def __init__(self, adata: Data | None = None, registry: dict[str, Any] | None = None) -> None:
        name = type(self).__name__
        if adata is None and registry is None:
            msg = f"{name} needs data: {name}(adata), after scpln.model.setup_anndata(adata)."
            raise ValueError(msg)
        if adata is not None:
            self._adopt(adata)
        super().__init__(adata, registry=registry)
        _manager.forget_with(self)
        self.training_ = {}
        self._fingerprint = ""
        self._trained_cells = None

    @classmethod
    def _adopt(cls, adata: Data) -> None:
        """Take the registration of these data for models of this class, if they have one that it can use."""
        joint = isinstance(adata, MuData)
        if joint and not cls._takes_mudata:
            one = next(iter(adata.mod), "rna")
            msg = (
                f"{cls.__name__} models one AnnData, and this is a MuData. Take one of its modalities: "
                f"`scpln.model.setup_anndata(mdata[{one!r}])`, then `{cls.__name__}(mdata[{one!r}])`. "
                f"Several together are for {in_words(joint_models(), 'or')}."
            )
            raise TypeError(msg)
        (check_mdata if joint else check_adata)(adata)
        if _manager.adopt(cls, adata):
            return
        one = "scpln.model.setup_anndata(adata, layer=...)"
        call = f"scpln.model.setup_mudata(mdata, modalities={list(adata.mod)})" if joint else one
        which = "the modalities to model, and the layers" if joint else "the layer"
        values = "raw counts" if joint else "raw counts, or other values with is_count_data=False"
        msg = (
            f"This {type(adata).__name__} is not set up. Call {call} first, with {which} that hold{'' if joint else 's'} "
            f"the {values} (a copy, or one read from a file, has to be set up again)."
        )
        raise ValueError(msg)

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | None = None,
        size_factor_key: str | None = None,
        offset_key: str | None = None,
        mask_key: str | None = None,
        design: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        is_count_data: bool = True,
        round_counts: bool = False,
        source_registry: dict[str, Any] | None = None,
    ) -> None:
        """Register an AnnData for every scpln model: the same as `scpln.model.setup_anndata`, which see.

        `source_registry` takes over the genes and categories of another registration, as scvi-tools does when it loads
        a model.
        """
        arguments = {name: value for name, value in locals().items() if name not in {"cls", "adata"}}
        _manager.adopt(cls, adata, _setup.register(adata, **arguments))

    @property
    def genes(self) -> list[str]:
        """Names of the model's genes, in its order."""
        return list(_manager.states(self.registry)["X"]["column_names"])

    @property
    def covariates(self) -> list[str]:
        """Names of the design's columns."""
        return list(_manager.states(self.registry)[DESIGN_KEY]["names"])

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities that a MuData was set up with, in the order of their genes; none of one AnnData."""
        return list(modality_slices(_manager.states(self.registry)))

    @property
    def is_count_data(self) -> bool:
        """Whether the data were set up as counts, or else as real values (``setup_anndata(is_count_data=False)``)."""
        return _manager.is_count_data(self.registry)

    @property
    def uses_size_factors(self) -> bool:
        """Whether the model is given the size factors of cells, on which its bounds are then conditional."""
        return True

    @property
    def converged(self) -> bool | None:
        """Whether the last training ended at the optimum; None before training."""
        return self.training_.get("converged")

    @property
    def stop_reason(self) -> str:
        """Why the last training stopped."""
        return str(self.training_.get("reason", "not trained"))

    @property
    def objective(self) -> Objective:
        """What training optimised, as a mean over cells: name, unit, value (NaN before training) and direction."""
        return self._objective.at(self.training_.get(self._objective.name, float("nan")))

    def _require_trained(self) -> None:
        if not self.is_trained_:
            msg = f"This {type(self).__name__} is not trained: call train() first."
            raise RuntimeError(msg)

    def _check(self, adata: Any, *, view_allowed: bool = True) -> None:
        """Refuse what is not the kind of data that the model was set up with."""
        check = check_mdata if _manager.is_joint(self.registry) else check_adata
        check(adata, view_allowed=view_allowed)

    def _genes_of(self, modality: str | None) -> slice:
        """Where the genes of a modality stand among the model's; None for all of them."""
        if modality is None:
            return slice(None)
        slices = modality_slices(_manager.states(self.registry))
        if modality not in list(slices):
            known = f"It has {list(slices)}." if slices else "It was set up with one AnnData: leave modality out."
            msg = f"This model has no modality {modality!r}. {known}"
            raise ValueError(msg)
        return slices[modality]

    def _data_or_own(self, adata: Data | None) -> Data:
        """The given data, or the model's own."""
        if adata is not None:
            self._check(adata)
        elif self.adata is None:
            msg = "This model was loaded without its AnnData. Pass adata=, or load it with load(path, adata)."
            raise ValueError(msg)
        return self.adata if adata is None else adata

    def _is_training_data(self, adata: Data | None, positions: NDArray[np.intp] | None = None) -> bool:
        """Whether all or some cells are those that the model was trained on, unchanged, so that what is stored of them applies."""
        if adata is None and self.adata is None:
            return True
        own = self._data_or_own(adata)
        if self._trained_cells is None or id(self._trained_cells[0]()) != id(own):
            return False
        then, chosen = self._trained_cells[1], slice(None) if positions is None else positions
        same = own.n_obs == len(then) and np.array_equal(self._read(own, positions).signatures(), then[chosen])
        if not same:
            logger.info("The cells of this %s changed after training: inferring their posteriors.", type(own).__name__)
        return same

    def _read(self, adata: Data | None, positions: NDArray | None = None) -> Cells:
        return read_cells(self._data_or_own(adata), self.registry, positions)

    def _finish_training(self, cells: Cells, training: dict[str, Any], history: dict[str, list[float]]) -> None:
        """Remember on which cells the model was trained, how, and why it stopped; say so.

        Parameters
        ----------
        cells
            Cells that the model was trained on.
        training
            How it went, for ``training_``: at least ``converged`` (a bool), ``reason`` (why it stopped, in words), and the
            value of the objective under its name.
        history
            What happened in each iteration or epoch, by name.
        """
        assert self.adata is not None
        self._trained_cells = (weakref.ref(self.adata), cells.signatures())
        self._fingerprint = cells.fingerprint()
        self.training_ = training
        self.history_ = history_tables(history)
        self.is_trained_ = True
        level = logging.INFO if training["converged"] else logging.WARNING
        name, reason = type(self).__name__, training["reason"]
        hint = how_to_go_on(cells.data, is_count_data=self.is_count_data) if "the maximum" in reason else ""
        logger.log(level, "%s %s (%s).%s", name, reason, self.objective, hint)
        say_reliability(training, self._closer_posteriors)

    def annotate(
        self, adata: AnnData | MuData | None = None, key_added: str | None = None, diagnostics: bool = False
    ) -> None:
        """Write the results into an AnnData or MuData, for scanpy, muon and for later.

        Everything survives ``write_h5ad`` and ``read_h5ad``, or ``write_h5mu`` and ``read_h5mu``. A backed AnnData gets it in memory.

        Parameters
        ----------
        adata
            Annotated data to write into; by default the model's own. Of cells that the model was not trained on, the
            posteriors are inferred.
        key_added
            Start of the names; by default the model's name in lower case.
        diagnostics
            Whether to write what `get_posterior_diagnostics` says of each cell, too. It takes 500 draws of each: for 2,000
            cells of 2,000 genes 10 to 50 seconds of a core, and longer under flows.

        Returns
        -------
        None. All that was written under the key before is replaced: nothing of an earlier fit stays. Sets
        ``obsm["X_{key}"]`` (posterior mean of the latent state; of PLN-PCA, the expression that it stands for, with the mean in ``obsm["{key}_state"]``), ``obs["{key}_elbo"]`` (each cell's contribution to the
        bound, nats), ``varm["{key}_loadings"]`` and, on the scale of expression, ``varm["{key}_expression_loadings"]`` (linear decoders: PLN-PCA, or ``n_layers=0``),
        ``obs["{key}_cluster"]`` and ``obsm["{key}_cluster_probs"]`` (mixtures),
        ``var["{key}_{parameter}"]`` for each parameter that the likelihood has by gene, and ``uns["{key}"]`` (model class and version, parameters, mean bound, history, number of cells, keys used). With diagnostics, also
        ``obs["{key}_iw_bound"]``, ``obs["{key}_gap"]``, ``obs["{key}_ess"]`` and ``obs["{key}_pareto_k"]``. Of a MuData,
        what belongs to cells is in ``mdata.obs`` and ``mdata.obsm``, what belongs to genes in ``var`` and ``varm`` of
        their modality.
        """
        self._write(adata, key_added, lambda data: self._annotation(data, diagnostics))

    def _write(self, adata: Data | None, key_added: str | None, make: Callable[[Data], Annotation]) -> None:
        """Write what a function makes of an AnnData or MuData into it, with what was fitted and how."""
        self._require_trained()
        key = storable_name("key_added", type(self).__name__.lower() if key_added is None else key_added)
        adata = self._data_or_own(adata)
        self._check(adata, view_allowed=False)
        with validated_once():
            annotation = make(adata)
        annotation.uns = {
            "model": type(self).__name__,
            "version": __version__,
            "params": self._params(),
            "setup": _manager.setup_args(self.registry),
            "training": self.training_,
            "history": history_lists(self.history_),
            "objective": self.objective.meaning,
            **annotation.uns,
        }
        logger.info("Wrote %s.", ", ".join(annotation.write(adata, key)))

    @abstractmethod
    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        """Results for the cells of these data, with diagnostics of their posteriors if they are asked for."""

    def _params(self) -> dict[str, Any]:
        """Arguments of the constructor, but those that were left to their default None; of functions their names."""
        given = [(name, value) for name, value in self.init_params_["non_kwargs"].items() if value is not None]
        return {name: getattr(value, "__name__", "function") if callable(value) else value for name, value in given}

    def __repr__(self) -> str:
        lines = [f"  {name}: {text}" for name, text in {**self._data_in_words(), **self._status()}.items()]
        return "\n".join([f"{type(self).__name__}({self._params_in_words()})", *lines])

    def _repr_html_(self) -> str:
        following = "model.annotate()" if self.is_trained_ else "model.train()"
        parameters = {"parameters": self._params_in_words()}
        return description(
            type(self).__name__, {**parameters, **self._data_in_words(), **self._status(), "next": following}
        )

    def _params_in_words(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._params().items())

    def _data_in_words(self) -> dict[str, str]:
        """The data and the design."""
        args = _manager.setup_args(self.registry)
        shape, where = _setup.describe(self.registry)
        shown = {key: value for key, value in args.items() if key not in ("layer", "modalities") and value is not None}
        keys = [where, *(f"{key}={value!r}" for key, value in shown.items())]
        names = self.covariates
        more = f", … ({len(names)} columns)" if len(names) > 6 else ""
        return {"data": f"{shape}, {', '.join(keys)}", "design": f"{', '.join(names[:6])}{more}"}

    def _status(self) -> dict[str, str]:
        """State of training, line by line."""
        if not self.is_trained_:
            return {"status": "not trained"}
        return {"status": f"trained, {self.objective}; {self.stop_reason}"}

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """What `scpln.tl.evaluate` says of these cells: an ability adds what it can say to what ``super()`` found.

        Parameters
        ----------
        adata, indices
            Cells, as in the methods of the model.
        n_samples
            Draws of each cell, where something is estimated from draws.
        seed
            Of the draws.
        """
        positions = cell_positions(indices, adata.n_obs)
        return Evaluated({"n_cells": adata.n_obs if positions is None else len(positions)})

    def _latent_and_clusters(self, adata: Data, indices: Any) -> tuple[NDArray | None, NDArray | None]:
        """Latent states (n × q) and clusters (n,) that scores against labels and batches are computed of, if there are."""
        return None, None
