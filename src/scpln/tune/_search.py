"""Grid and random search, one trial after another."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from anndata import AnnData

from scpln.data import _manager, cell_positions, check_adata, get_matrix
from scpln.model.abilities import conditions
from scpln.utils import (
    MOST_DRAWS,
    as_bool,
    as_mapping,
    one_of,
    positive_integer,
    positive_integer_or_none,
    progress_bar,
    resolve_seed,
)

from ._result import SearchResult, Trial
from ._space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from scpln.model.abilities import Bounds

logger = logging.getLogger("scpln")

Metric = Literal["elbo", "iw_bound"]


def search(
    model_class: type[Bounds],
    adata: AnnData,
    space: Mapping[str, Any],
    *,
    train: Mapping[str, Any] | None = None,
    n_trials: int | None = None,
    held_out: float | Sequence[int] | ArrayLike = 0.1,
    metric: Metric = "elbo",
    n_samples: int = 500,
    seed: int | None = None,
    progress: bool = True,
) -> SearchResult:
    """Train a model for each choice of its arguments on the same cells, and rank them by the bound of the others.

    The held-out cells are the same for all, no trial sees them (early stopping looks at cells of its own), and the bound
    has the full probability of their counts. So likelihoods, widths, numbers of dimensions and of components, and
    posteriors can all be compared. What cannot be is refused: bounds that are conditional on size factors with those
    that are not, and counts with whether they are zero.

    A trial that fails is recorded with its error, and the search goes on. After Ctrl-C it ends, with the trials so far.

    Parameters
    ----------
    model_class
        A class of :mod:`scpln.model`.
    adata
        Annotated data, after `scpln.model.setup_anndata`. Nothing in it changes.
    space
        Arguments of the constructor, and of ``train`` too, each with a list of values, one value, or a distribution
        (any object with ``rvs``, as of `scipy.stats`).
    train
        Arguments of ``train`` that all trials have.
    n_trials
        Choices to try, at random; by default all.
    held_out
        Share of the cells that is held out, at random, or the positions of these cells, or a mask.
    metric
        ``"elbo"``, the evidence lower bound, or ``"iw_bound"``, the importance-weighted bound, which is closer to the
        log-likelihood and so does not count against a model what only its posterior lacks.
    n_samples
        Draws of each cell for the latter.
    seed
        Of the held-out cells, the choices, training (unless `train` has one) and draws; by default
        ``scvi.settings.seed``, or 0.
    progress
        Whether to show a progress bar over trials.

    Returns
    -------
    Result with ``results`` (a table, the best first), ``best`` (what it chose) and ``best_model`` (trained, for instance to
    ``annotate(adata)``).

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=400, n_vars=30, n_latent=2, seed=1)
    >>> scpln.model.setup_anndata(adata)
    >>> found = scpln.tune.search(scpln.model.PLNPCA, adata, {"n_latent": [1, 2]}, progress=False)
    >>> found
    2 trials, elbo of 40 held-out cells, nats per cell, given the size factors
           n_latent  bound  standard_error  behind  behind_error  seconds
    trial
    1             2 ...
    >>> found.best
    {'n_latent': 2}

    A model of all cells with what was best:

    >>> model = scpln.model.PLNPCA(adata, **found.best)
    """
    one_of("metric", metric, get_args(Metric))
    seed, n_samples = resolve_seed(seed), positive_integer("n_samples", n_samples, most=MOST_DRAWS)
    progress, train = as_bool("progress", progress), dict(as_mapping("train", {} if train is None else train))
    choices = Space.of(model_class, as_mapping("space", space), train)
    trials = choices.trials(positive_integer_or_none("n_trials", n_trials), seed)
    cells = _held_out(held_out, adata, seed)
    run = _Run(
        model_class,
        _others(model_class, adata, cells),
        Judge(adata, cells, metric, n_samples, seed),
        {"seed": seed, "progress": False, **train},
    )
    with progress_bar(f"Search over {model_class.__name__}", len(trials), unit="trial", show=progress) as bar:
        for number, parameters in enumerate(trials):
            run.add(parameters, *choices.split(parameters))
            bar.update(number + 1, run.best_bound)
            if run.interrupted:
                break
        bar.finish("interrupted" if run.interrupted else "done")
    given = "" if run.best_model is None else conditions(run.best_model)
    return SearchResult(run.trials, run.best_model, metric, cells, given, run.interrupted)


@dataclass(frozen=True)
class Judge:
    """How models are compared: the bound of each of the same cells."""

    adata: AnnData
    cells: NDArray[np.intp]
    metric: Metric
    n_samples: int
    seed: int

    def __call__(self, model: Bounds) -> NDArray[np.float64]:
        """Bound of each held-out cell, nats."""
        if self.metric == "elbo":
            values = model.get_elbo(self.adata, self.cells, return_mean=False)
        else:
            values = model.get_iw_bound(self.adata, self.cells, self.n_samples, return_mean=False, seed=self.seed)
        assert isinstance(values, np.ndarray)
        if not np.isfinite(values).all():
            wrong = self.cells[~np.isfinite(values)]
            msg = (
                f"the bound of {len(wrong):,} held-out cells is not finite, first of {self.adata.obs_names[wrong[0]]!r}"
            )
            raise FloatingPointError(msg)
        return values


@dataclass
class _Run:
    """Trials so far, on the same cells, and the model of the best."""

    model_class: type[Bounds]
    adata: AnnData
    judge: Judge
    training: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)
    best_model: Bounds | None = None
    best_bound: float = -np.inf
    interrupted: bool = False

    def add(self, parameters: dict[str, Any], of_model: dict[str, Any], of_train: dict[str, Any]) -> None:
        """Make a trial; of what goes wrong in it, the message is kept."""
        started, bounds, failure = time.perf_counter(), None, ""
        try:
            model = self.model_class(self.adata, **of_model)
            model.train(**{**self.training, **of_train})
            self.interrupted = "interrupted" in model.stop_reason.lower()
            if self.interrupted:
                failure = "interrupted"
            else:
                bounds = self.judge(model)
        except KeyboardInterrupt:
            self.interrupted, failure = True, "interrupted"
        except Exception as error:  # noqa: BLE001 (whatever a choice leads to, the others are still to be tried)
            failure = " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            logger.warning("Trial %d (%s) failed: %s", len(self.trials), parameters, failure)
        trial = Trial(parameters, time.perf_counter() - started, bounds, failure)
        self.trials.append(trial)
        if trial.bound > self.best_bound:
            self.best_model, self.best_bound = model, trial.bound


def _held_out(held_out: Any, adata: AnnData, seed: int) -> NDArray[np.intp]:
    """Positions of the held-out cells, in increasing order."""
    check_adata(adata)
    n = adata.n_obs
    if isinstance(held_out, int | float) and not isinstance(held_out, bool):
        n_held_out = round(held_out * n) if 0 < held_out < 1 else 0
        if not 0 < n_held_out < n:
            msg = (
                f"held_out={held_out!r} of {n:,} cells, but it must be a share of them between 0 and 1 that holds some out "
                "and leaves some to train on, or their positions."
            )
            raise ValueError(msg)
        return np.sort(np.random.default_rng(seed).permutation(n)[:n_held_out])
    positions = cell_positions(held_out, n, "held_out")
    assert positions is not None
    cells = np.unique(positions)
    if len(cells) == n:
        msg = "held_out has all cells, and none are left to train on."
        raise ValueError(msg)
    return cells


def _others(model_class: type[Bounds], adata: AnnData, cells: NDArray[np.intp]) -> AnnData:
    """The other cells, registered as all of them were, with what that needs only."""
    manager = _manager.find(adata)
    if manager is None:
        msg = "This AnnData is not set up. Call scpln.model.setup_anndata(adata, layer=...) first."
        raise ValueError(msg)
    args = _manager.setup_args(manager.registry)
    layer, rest = args["layer"], np.setdiff1d(np.arange(adata.n_obs), cells)
    matrix = get_matrix(adata, layer)[rest]
    part = AnnData(
        X=matrix if layer is None else None,
        layers={} if layer is None else {layer: matrix},
        obs=adata.obs.iloc[rest].copy(),
        var=adata.var[[]].copy(),
    )
    for key in filter(None, (args.get("offset_key"), args.get("mask_key"))):
        slot, of_part = (adata.layers, part.layers) if key in adata.layers else (adata.obsm, part.obsm)
        of_part[key] = slot[key].iloc[rest] if hasattr(slot[key], "iloc") else slot[key][rest]
    model_class.setup_anndata(part, **args, source_registry=manager.registry)
    return part
