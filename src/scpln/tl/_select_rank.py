"""How many latent dimensions: a path of ranks, and a rule that chooses one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from scpln.utils import as_bool, one_of, positive_number, progress_bar, resolve_seed, storable_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from scpln.data import Data
    from scpln.model import PLNPCA

Criterion = Literal["thinning", "cells", "bic", "icl", "bound"]

#: Ranks that are tried unless others are named.
RANKS = range(1, 16)


@dataclass(frozen=True)
class RankSelection:
    """What `select_rank` found.

    Attributes
    ----------
    table
        A row for each rank: ``n_parameters``, ``bound``, ``bic`` and ``icl`` (nats, of all cells), ``held_out`` (mean nats per cell) and
        ``held_out_se``, ``seconds``, ``converged`` and ``reason``. Of every criterion, more is better.
    best
        The rank that was chosen.
    criterion
        By what.
    model
        `scpln.model.PLNPCA` of that rank, trained to convergence under ``prior="none"``.
    """

    table: pd.DataFrame
    best: int
    criterion: str
    model: PLNPCA

    def __repr__(self) -> str:
        return f"RankSelection(best={self.best}, criterion={self.criterion!r}, ranks={list(self.table.index)})"


def select_rank(
    adata: Data,
    ranks: Sequence[int] | None = None,
    *,
    criterion: Criterion | None = None,
    one_se: bool = False,
    layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    offset_key: str | None = None,
    mask_key: str | None = None,
    design: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    modalities: Mapping[str, str | Mapping[str, str | None] | None] | Sequence[str] | None = None,
    likelihood: str | Mapping[str, str] = "poisson",
    is_count_data: bool = True,
    round_counts: bool = False,
    key_added: str = "rank_selection",
    tol: float = 3e-3,
    seed: int | None = None,
    n_threads: int | None = None,
    progress: bool = True,
) -> RankSelection:
    r"""Choose the rank of PLN-PCA along a path of fits, each of which starts from the one before.

    Fits are of maximum likelihood (``prior="none"``): a learned prior takes dimensions away by itself, at whatever rank (see
    ``n_latent_kept``), so that its bounds along a path say little. With the bound J of all n cells and k = pd + pq − q(q − 1)/2
    parameters (and those of the likelihood),

    .. math:: \text{BIC} = J - \tfrac12 k \log n, \qquad \text{ICL} = \text{BIC} - \sum_i \tfrac12 \log\det(2 \pi e V_i),

    in nats, more is better: R's signs. Under ``"thinning"``, every count is divided into two at random, the model is fitted to the one half, and the
    other half scored under the cells' posteriors, :math:`E_q[\log p(y^{test} \mid z)]`.

    Parameters
    ----------
    adata
        Cells by genes, with raw counts in `layer`; or a MuData, with `modalities`. It is set up, as by
        :func:`scpln.model.setup_anndata`, whose arguments are taken.
    ranks
        Numbers of latent dimensions to try; by default 1 to 15.
    criterion
        What decides: ``"thinning"``, the held-out half of the counts, for Poisson counts; ``"cells"``, the bound of a fifth of the
        cells, held out; ``"bic"``; ``"icl"``; or ``"bound"``, which nearly always rises. By default ``"thinning"``, or ``"cells"`` under other
        likelihoods: negative binomial and zero-inflated counts have halves that depend on each other. The last three hold nothing out, and
        take half the time.
    one_se
        Whether to take the least rank whose held-out score is within one standard error (over cells) of the best.
    layer, batch_key, size_factor_key, offset_key, mask_key, design
        As in :func:`scpln.tl.plnpca`.
    categorical_covariate_keys, continuous_covariate_keys, modalities, is_count_data, round_counts
        As in :func:`scpln.tl.plnpca`.
    likelihood
        As in :class:`scpln.model.PLNPCA`.
    key_added
        Name in ``adata.uns``.
    tol
        Fits along the path have converged when an iteration gains less than this, nats per cell. The chosen one goes on to 1e-4.
    seed
        Of the halves, the held-out cells and the starting points; by default ``scvi.settings.seed``, or 0.
    n_threads
        Threads; by default ``scvi.settings.num_threads``, or all cores.
    progress
        Whether to show a progress bar.

    Returns
    -------
    The table, the rank and its model. Sets ``uns[key_added]``, for :func:`scpln.pl.rank_selection`: ``table``, ``best``, ``criterion``.

    Raises
    ------
    ValueError
        A rank is below 1 or too large, or `criterion` is not for the likelihood.
    RuntimeError
        No rank could be fitted.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=60, n_latent=3, density=0.5)
    >>> found = scpln.tl.select_rank(adata, range(1, 6), size_factor_key="size_factor", progress=False)
    >>> found.best
    3
    >>> found.model.annotate()
    """
    from scpln.model import PLNPCA
    from scpln.model.plnpca import train_from

    from ._fit import split

    arguments = {name: value for name, value in locals().items() if name in _REGISTRATION}
    setup = split(PLNPCA, adata, arguments).registration
    key, progress, seed = storable_name("key_added", key_added), as_bool("progress", progress), resolve_seed(seed)
    one_se, tol = as_bool("one_se", one_se), positive_number("tol", tol)
    wanted = _as_ranks(ranks, adata)
    (PLNPCA.setup_mudata if modalities is not None else PLNPCA.setup_anndata)(adata, **setup)
    largest = PLNPCA(adata, wanted[-1], prior="none", likelihood=likelihood)
    rule = _criterion(criterion, largest)
    path, table = _path(largest, wanted, rule, tol=tol, seed=seed, n_threads=n_threads, progress=progress)
    if table["bound"].isna().all():
        msg = f"no rank could be fitted: {table['reason'].iloc[-1]}."
        raise RuntimeError(msg)

    from scpln.inference.ranks import choose

    best = choose(table, rule, one_se=one_se)
    adata.uns[key] = {
        "table": {"rank": table.index.to_numpy(), **{name: table[name].to_numpy() for name in table.columns}},
        "best": best,
        "criterion": rule,
    }
    model = PLNPCA(adata, best, prior="none", likelihood=likelihood)
    start = next(each.fit for each in path if each.rank == best)
    assert start is not None
    train_from(model, start, seed=seed, n_threads=n_threads, progress=progress)
    return RankSelection(table, best, rule, model)


_REGISTRATION = (
    *("layer", "batch_key", "size_factor_key", "offset_key", "mask_key", "design", "categorical_covariate_keys"),
    *("continuous_covariate_keys", "modalities", "is_count_data", "round_counts"),
)


def _as_ranks(ranks: Any, adata: Data) -> list[int]:
    """Ranks in rising order, each once."""
    most = min(adata.shape)
    if ranks is None:
        return [rank for rank in RANKS if rank <= most]
    values = np.atleast_1d(np.asarray(list(ranks) if not np.isscalar(ranks) else ranks))
    if values.size == 0 or values.ndim != 1 or values.dtype.kind not in "iu" or values.min() < 1:
        msg = f"ranks={ranks!r}, but it must be whole numbers of latent dimensions, 1 or more, such as range(1, 16)."
        raise ValueError(msg)
    return sorted({int(value) for value in values})


def _criterion(criterion: Any, model: PLNPCA) -> str:
    """The criterion, or the default of the model's likelihood; an error if its counts cannot be thinned."""
    thins = model._new_likelihood().is_poisson and not model.adata_manager.registry["setup_args"].get("mask_key")
    if criterion is None:
        return "thinning" if thins else "cells"
    one_of("criterion", criterion, get_args(Criterion))
    if criterion == "thinning" and not thins:
        msg = (
            f"criterion='thinning' divides Poisson counts into independent halves, which those of likelihood={model.likelihood!r} or with a "
            "mask have not. Take criterion='cells', which holds out cells."
        )
        raise ValueError(msg)
    return str(criterion)


def _path(model: PLNPCA, ranks: list[int], criterion: str, *, progress: bool, **settings: Any) -> tuple[list[Any], Any]:
    """Fits of all ranks, and their table."""
    from scpln.inference.ranks import held_out_cells, rank_path, table_of

    data, seed = model._read(None).data, settings["seed"]
    held_out = None
    if criterion in ("thinning", "cells"):
        from scpln.inference.ranks import thinned

        held_out = (thinned if criterion == "thinning" else held_out_cells)(data, seed)
    with progress_bar("Ranks", len(ranks), unit="rank", show=progress) as bar:
        path = rank_path(
            data,
            ranks,
            model._new_likelihood,
            held_out=held_out,
            on_rank=lambda done, each: bar.update(done, np.nan if each.fit is None else float(each.fit.elbo.mean())),
            **settings,
        )
    return path, table_of(path, data.design.shape[1])
