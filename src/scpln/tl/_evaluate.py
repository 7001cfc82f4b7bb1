"""How good a fit is: its bound and what that is made of, the use of its dimensions, and agreement with known labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from ._scores import Scoring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from scpln.model import ScplnModel

    Cells = Sequence[int] | ArrayLike | None


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What `evaluate` found; ``evaluation["elbo"]`` is the number of that name.

    Parameters
    ----------
    title
        What was evaluated.
    summary
        Numbers: means over cells, counts and scores.
    cells
        Terms of the bound of each cell, whose means those are; empty if no model was evaluated.
    dimensions
        Use of each latent dimension; empty if no model was evaluated.
    notes
        What some of the numbers are conditional on or computed from, by name.
    """

    title: str
    summary: pd.Series
    cells: pd.DataFrame
    dimensions: pd.DataFrame
    notes: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        if name not in self.summary:
            msg = f"{name!r} was not evaluated; there are {self.summary.index.to_list()}."
            raise KeyError(msg)
        return float(self.summary[name])

    def __repr__(self) -> str:
        width = max(map(len, self.summary.index), default=0)
        numbers = ((str(name), value) for name, value in self.summary.items())
        rows = [
            f"  {name:<{width}}  {_shown(name, value)} {self.notes.get(name, '')}".rstrip() for name, value in numbers
        ]
        return "\n".join([self.title, *rows])

    def _repr_html_(self) -> str:
        from scpln.utils import table

        numbers = ((str(name), value) for name, value in self.summary.items())
        rows = [(name, _shown(name, value), self.notes.get(name, "")) for name, value in numbers]
        return table(self.title, ("", "value", ""), rows)


def evaluate(
    model: ScplnModel | AnnData,
    adata: AnnData | None = None,
    *,
    indices: Sequence[int] | ArrayLike | None = None,
    labels_key: str | None = None,
    batch_key: str | None = None,
    cluster_key: str | None = None,
    use_rep: str | None = None,
    n_samples: int = 500,
    scib_metrics: bool = False,
    seed: int | None = None,
) -> Evaluation:
    """Evaluate a trained model on any cells, or clusters and latent states that are stored in an AnnData.

    Nothing is written into `adata`.

    Parameters
    ----------
    model
        Trained model of any class of :mod:`scpln.model`. Or an AnnData, of which only what is stored is looked at, for
        the scores against labels and batches.
    adata
        Cells to evaluate the model on, best such as it was not trained on, with its genes and covariates; by default
        the model's own. It need not be set up.
    indices
        Positions of some of these cells, or a mask; ``model.validation_indices`` are those that an autoencoder was not
        trained on, though they decided when it stopped.
    labels_key
        Column of ``obs`` with known labels. Cells without one do not count in its scores.
    batch_key
        Column of ``obs`` with batches, for how well they mix in latent space.
    cluster_key
        Column of ``obs`` with clusters to compare with the labels. By default the model's own where it has them
        (`CountGMVAE`), and otherwise k-means in latent space, with as many clusters as labels.
    use_rep
        Entry of ``obsm`` that is the latent space, if there is no model.
    n_samples
        Draws of each cell for the importance-weighted bound, which takes most of the time.
    scib_metrics
        Whether to add the scores of scib-metrics, where that package is installed: cLISI, graph connectivity and
        silhouette of labels; with batches also isolated labels, iLISI, kBET and BRAS.
    seed
        Of draws and k-means; by default ``scvi.settings.seed``, or 0.

    Returns
    -------
    The evaluation: ``summary`` (a Series), and the tables ``cells`` and ``dimensions`` (see ``get_bound_terms`` and
    ``get_latent_dimensions`` of a model). The summary has, of a model, what its abilities give:

    ``elbo``, ``elbo_se``, ``iw_bound``
        Evidence lower bound, the standard error of its mean, and importance-weighted bound, in nats per cell, given the
        size factors. Both have the full probability of the counts, so that models of the same cells can be compared
        if they are conditional on the same.
    ``reconstruction``, ``kl``
        What the bound is made of: elbo = reconstruction − kl. Of a mixture, kl = ``kl_z`` + ``kl_k``.
    ``unreliable``
        Share of cells whose posterior cannot be trusted (Pareto k̂ above 0.7).
    ``n_latent``, ``n_active``
        Latent dimensions, and those of them whose posterior mean has a variance over cells above 0.01.
    ``n_components``, ``n_used_components``, ``n_effective_clusters``
        Of a mixture: components, those that are the most probable one of some cell, and exp of the entropy of the mean
        q(k | y).

    and, where labels or batches are given,

    ``ari``, ``ami``, ``nmi``
        Adjusted Rand index, adjusted and normalised mutual information of clusters and labels.
    ``silhouette``
        Mean silhouette of labels in latent space, of at most 10,000 cells.
    ``batch_silhouette``
        One minus the mean absolute silhouette of batches within labels: 1 is well mixed.
    ``scib_…``
        Scores of scib-metrics, from 0 to 1, the larger, the better.

    References
    ----------
    Y. Burda, R. Grosse and R. Salakhutdinov (2016), Importance weighted autoencoders, ICLR. M. Luecken et al. (2022),
    Benchmarking atlas-level data integration in single-cell genomics, Nature Methods 19: 41-50.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.pbmc68k_reduced()
    >>> train, held_out = adata[:600].copy(), adata[600:].copy()
    >>> scpln.model.setup_anndata(train, layer="counts", size_factor_key="n_counts")
    >>> model = scpln.model.PLNPCA(train, n_latent=5)
    >>> model.train(progress=False)
    >>> evaluation = scpln.tl.evaluate(model, held_out, labels_key="bulk_labels", n_samples=100)
    >>> evaluation
    PLNPCA, 100 cells
      n_cells         100
      elbo            ... nats per cell, given the size factors
      ...
    >>> bool(evaluation["iw_bound"] > evaluation["elbo"] > -700)
    True

    Of what is stored in an AnnData:

    >>> model.annotate(adata, diagnostics=False)
    >>> scores = scpln.tl.evaluate(adata, labels_key="bulk_labels", use_rep="X_plnpca")
    >>> scores.summary.index.to_list()
    ['n_cells', 'ari', 'ami', 'nmi', 'silhouette']
    """
    from scpln.data import validated_once
    from scpln.model import ScplnModel
    from scpln.utils import as_bool, positive_integer, resolve_seed

    scoring = Scoring(labels_key, batch_key, cluster_key, as_bool("scib_metrics", scib_metrics), resolve_seed(seed))
    if isinstance(model, AnnData):
        if adata is not None or indices is not None:
            msg = "adata and indices are the cells to evaluate a model on. Of an AnnData alone, pass adata[cells]."
            raise ValueError(msg)
        return _of_stored(model, use_rep, scoring)
    if not isinstance(model, ScplnModel):
        msg = f"model must be a model of scpln.model or an AnnData, not {type(model).__name__}."
        raise TypeError(msg)
    if use_rep is not None:
        msg = f"use_rep={use_rep!r}, but a model has a latent space of its own. Leave it out, or pass an AnnData alone."
        raise ValueError(msg)
    data = model._data_or_own(adata)
    scoring.check(_obs(data, indices))
    with validated_once():
        found = _of_model(model, data, indices, positive_integer("n_samples", n_samples), scoring.seed)
        if not scoring.is_wanted:
            return found
        scores, notes = _scores_of_model(model, data, indices, scoring)
    return replace(found, summary=pd.concat([found.summary, _series(scores)]), notes=found.notes | notes)


def _of_model(model: ScplnModel, adata: AnnData, indices: Cells, n_samples: int, seed: int) -> Evaluation:
    """What the abilities of a model say of cells."""
    found = model._evaluation(adata, indices, n_samples, seed)
    title = f"{type(model).__name__}, {found.summary['n_cells']:,.0f} cells"
    return Evaluation(title, _series(found.summary), found.cells, found.dimensions, found.notes)


def _scores_of_model(
    model: ScplnModel, adata: AnnData, indices: Cells, scoring: Scoring
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores of a model's latent space and clusters, where it has them."""
    obs = _obs(adata, indices)
    latent, clusters = model._latent_and_clusters(adata, indices)
    return scoring.of(obs, latent, None if clusters is None else pd.Series(clusters, index=obs.index))


def _obs(adata: AnnData, indices: Cells) -> pd.DataFrame:
    """What is known of the chosen cells."""
    from scpln.data import cell_positions

    positions = cell_positions(indices, adata.n_obs)
    return adata.obs if positions is None else adata.obs.iloc[positions]


def _of_stored(adata: AnnData, use_rep: str | None, scoring: Scoring) -> Evaluation:
    """Scores of what is stored in an AnnData."""
    scoring.check(adata.obs)
    if use_rep is not None and use_rep not in adata.obsm:
        msg = f"adata.obsm has no {use_rep!r} (use_rep); there are {sorted(adata.obsm)}."
        raise ValueError(msg)
    in_space = use_rep is not None and scoring.is_wanted
    if not in_space and (scoring.labels_key is None or scoring.cluster_key is None or scoring.batch_key is not None):
        msg = (
            "There is nothing to score. Of an AnnData, pass labels_key or batch_key with a latent space, "
            f"use_rep=..., one of {sorted(adata.obsm)}; or labels_key with cluster_key."
        )
        raise ValueError(msg)
    latent = None if use_rep is None else _representation(adata, use_rep)
    scores, notes = scoring.of(adata.obs, latent, None)
    title = f"{'AnnData' if use_rep is None else use_rep}, {adata.n_obs:,} cells"
    return Evaluation(title, _series({"n_cells": adata.n_obs, **scores}), pd.DataFrame(), pd.DataFrame(), notes)


def _representation(adata: AnnData, use_rep: str) -> NDArray[np.float64]:
    """A latent space that is stored in an AnnData (n × q), every number finite."""
    stored = adata.obsm[use_rep]
    try:
        stored = stored.toarray() if sp.issparse(stored) else stored
        values = np.ma.filled(np.ma.asarray(stored).astype(np.float64), np.nan)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.ndim != 2:
        msg = f"adata.obsm[{use_rep!r}] (use_rep) is not a table of numbers, cells × dimensions. Choose another of {sorted(adata.obsm)}."
        raise ValueError(msg)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        msg = (
            f"adata.obsm[{use_rep!r}] (use_rep) has NaN or infinite values in {len(bad):,} of {adata.n_obs:,} cells, first in "
            f"{adata.obs_names[bad[0]]!r}. Leave these cells out, or compute the latent space anew."
        )
        raise ValueError(msg)
    return values


def _series(numbers: dict[str, float]) -> pd.Series:
    return pd.Series(numbers, dtype=float, name="evaluation")


def _shown(name: str, value: float) -> str:
    """A count in full, another number to four decimals."""
    return f"{value:,.0f}" if name.startswith("n_") and name != "n_effective_clusters" else f"{value:.4f}"
