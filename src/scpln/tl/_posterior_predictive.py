"""Posterior-predictive checks: statistics of observed counts, and of such as a model would draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.model.abilities import Predictive

#: Cells × genes × draws of a block. Their non-zeros are in memory at a time: up to about 300 MB.
_BLOCK_ENTRIES = 2**23


def posterior_predictive(
    model: Predictive,
    adata: AnnData | None = None,
    *,
    n_samples: int = 10,
    key_added: str | None = None,
    seed: int | None = None,
) -> None:
    r"""Draw replicated counts from a trained model, and store how they compare with the observed ones.

    Each of `n_samples` replicates has as many cells and genes as the data:

    .. math:: z_i \sim q(z \mid y_i), \quad y^\text{rep}_{ij} \sim p(y \mid \eta_{ij}(z_i), o_i)

    What that conditions on: a cell's replicate is drawn at the latent state that its *own counts* suggest, with its own
    size factor, batch and covariates. The check asks whether likelihood and decoder can reproduce cells such as these,
    and finds wrong dispersion, zero inflation or too few dimensions; it does not see a wrong prior, and is optimistic
    for cells that the model was trained on. For held-out cells, pass an `adata` with such cells: their posteriors are
    inferred from their counts, with all parameters as they are, which takes the fit of parameters, but not that of the
    latent states, out of it. Where the model is given size factors, library sizes are close by construction.

    Parameters
    ----------
    model
        Trained model of the counts in an AnnData, of any class of :mod:`scpln.model`.
    adata
        Cells to draw replicates of, and to write into, best such as the model was not trained on; by default the
        model's own. It need not be set up.
    n_samples
        Replicates.
    key_added
        Start of the names; by default the model's name in lower case.
    seed
        Of the draws; by default ``scvi.settings.seed``, or 0.

    Returns
    -------
    None. Sets, for :func:`scpln.pl.posterior_predictive`,

    ``var["{key_added}_ppc_{statistic}_observed"]``, ``…_replicated``, ``…_replicated_sd``
        The statistics ``mean``, ``variance`` and ``zero_fraction`` of each gene's counts over cells: of the observed
        counts, and the mean and standard deviation over replicates. NaN for genes that the model does not have.
    ``obs["{key_added}_ppc_library_size_observed"]``, ``…_replicated``, ``…_replicated_sd``
        The same of each cell's total count over the model's genes.
    ``uns["{key_added}"]["posterior_predictive"]``
        ``n_samples``, ``seed``, ``n_obs``, ``conditions_on``; ``zero_fraction_observed``, ``…_replicated`` and
        ``…_replicated_sd`` of all counts together; and ``variance_ratio``, the median over genes of replicated over
        observed variance: 1 is right, and below 1 the model draws counts that vary too little.

    References
    ----------
    A. Gelman, X.-L. Meng and H. Stern (1996), Posterior predictive assessment of model fitness via realized
    discrepancies, Statistica Sinica 6: 733-760.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2)
    >>> train, held_out = adata[:150].copy(), adata[150:].copy()
    >>> scpln.model.setup_anndata(train)
    >>> model = scpln.model.PLNPCA(train, n_latent=2)
    >>> model.train(progress=False)
    >>> scpln.tl.posterior_predictive(model, held_out)
    >>> zeros = held_out.var.filter(like="zero_fraction")
    >>> error = zeros["plnpca_ppc_zero_fraction_replicated"] - zeros["plnpca_ppc_zero_fraction_observed"]
    >>> bool(error.abs().mean() < 0.1)
    True
    """
    from scpln.data import check_adata, is_joint
    from scpln.model.abilities import Predictive, conditions
    from scpln.model.base import claim
    from scpln.utils import MOST_DRAWS, positive_integer, resolve_seed, storable_name, watched

    if not isinstance(model, Predictive):
        msg = f"model must be a model of scpln.model, not {type(model).__name__}."
        raise TypeError(msg)
    model._require_trained()
    if not model.is_count_data:
        msg = "posterior_predictive compares counts, and this model was set up with is_count_data=False."
        raise ValueError(msg)
    if is_joint(model.registry):
        msg = (
            "posterior_predictive compares the counts of one AnnData, and this is a model of several modalities. Compare "
            "those of model.posterior_predictive_sample(n_samples=...) with each modality's own."
        )
        raise ValueError(msg)
    adata = model._data_or_own(adata)
    check_adata(adata, view_allowed=False)
    n_samples, seed = positive_integer("n_samples", n_samples, most=MOST_DRAWS), resolve_seed(seed)
    key = storable_name("key_added", type(model).__name__.lower() if key_added is None else key_added)

    observed = Tally(adata.n_obs, len(model.genes), 1)
    replicated = Tally(adata.n_obs, len(model.genes), n_samples)
    for cells in watched(
        _blocks(adata.n_obs, len(model.genes) * n_samples), "Posterior-predictive draws", adata.n_obs, len
    ):
        data = model._read(adata, cells).data
        counts = sp.coo_array(data.counts[0 : len(cells)])
        seen = None if data.entries is None else data.entries.observed
        observed.add(cells, (*counts.coords, np.zeros(counts.nnz, dtype=np.intp)), counts.data, seen)
        block_seed = int(np.random.SeedSequence([seed, int(cells[0])]).generate_state(1)[0])
        drawn = model.posterior_predictive_sample(adata, cells, n_samples=n_samples, seed=block_seed).tocoo()
        coords = tuple(drawn.coords) if n_samples > 1 else (*drawn.coords, np.zeros(drawn.nnz, dtype=np.intp))
        replicated.add(cells, coords, drawn.data, seen)

    written = []
    for statistic in ("mean", "variance", "zero_fraction"):
        table = _columns(getattr(observed, statistic), getattr(replicated, statistic), model.genes)
        for name in table:
            adata.var[f"{key}_ppc_{statistic}_{name}"] = table[name].reindex(adata.var_names)
            written.append(f"var['{key}_ppc_{statistic}_{name}']")
    table = _columns(observed.library_size, replicated.library_size, adata.obs_names)
    for name in table:
        adata.obs[f"{key}_ppc_library_size_{name}"] = table[name].to_numpy()
        written.append(f"obs['{key}_ppc_library_size_{name}']")
    adata.uns[key] = dict(adata.uns.get(key, {})) | {
        "posterior_predictive": {
            "n_samples": n_samples,
            "seed": seed,
            "n_obs": adata.n_obs,
            "conditions_on": f"latent states inferred from the same counts{conditions(model)}",
            **_scalars(observed, replicated),
        }
    }
    claim(adata, key, written)


class Tally:
    """Sums over counts of several replicates of one data set, which are added block by block.

    Parameters
    ----------
    n_cells, n_genes, n_replicates
        Size of all of it.

    Examples
    --------
    >>> tally = Tally(2, 3, 1)
    >>> tally.add(
    ...     np.array([0, 1]), (np.array([0, 1, 1]), np.array([0, 0, 2]), np.zeros(3, dtype=int)), np.array([1, 3, 5])
    ... )
    >>> tally.mean, tally.variance
    (array([[2. , 0. , 2.5]]), array([[ 2. ,  0. , 12.5]]))
    >>> tally.zero_fraction, tally.library_size
    (array([[0. , 1. , 0.5]]), array([[1., 8.]]))
    """

    def __init__(self, n_cells: int, n_genes: int, n_replicates: int) -> None:
        self._shape = n_replicates, n_genes
        self._n_cells = np.zeros(n_genes, dtype=np.intp)  # where each gene was observed
        self._sum, self._squares, self._nonzero = (np.zeros(self._shape) for _ in range(3))
        #: Total count of each cell (replicates × cells).
        self.library_size = np.zeros((n_replicates, n_cells))

    def add(
        self,
        cells: NDArray[np.intp],
        coords: tuple[NDArray, ...],
        counts: NDArray,
        observed: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the non-zeros of some cells: their place among the cells, gene and replicate, and the counts.

        Of those entries alone that were `observed` (cells × genes), if not all were.
        """
        if observed is not None:
            kept = observed[coords[0], coords[1]]
            coords, counts = tuple(each[kept] for each in coords), counts[kept]
        self._n_cells += len(cells) if observed is None else observed.sum(0)
        row, gene, replicate = coords
        counts = counts.astype(np.float64)
        entry, size = replicate * self._shape[1] + gene, int(np.prod(self._shape))
        self._sum += np.bincount(entry, counts, size).reshape(self._shape)
        self._squares += np.bincount(entry, counts**2, size).reshape(self._shape)
        self._nonzero += np.bincount(entry, counts != 0, size).reshape(self._shape)
        totals = np.bincount(replicate * len(cells) + row, counts, self._shape[0] * len(cells))
        self.library_size[:, cells] += totals.reshape(-1, len(cells))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each gene over cells (replicates × genes)."""
        with np.errstate(invalid="ignore"):
            return self._sum / self._n_cells

    @property
    def variance(self) -> NDArray[np.float64]:
        """Its variance over cells."""
        centred = self._squares - self._n_cells * self.mean**2
        return np.maximum(centred, 0) / np.maximum(self._n_cells - 1, 1)

    @property
    def zero_fraction(self) -> NDArray[np.float64]:
        """Its share of cells without a count."""
        with np.errstate(invalid="ignore"):
            return 1 - self._nonzero / self._n_cells


def _blocks(n_cells: int, entries_per_cell: int) -> Iterator[NDArray[np.intp]]:
    """Positions of the cells of consecutive blocks."""
    size = max(1, _BLOCK_ENTRIES // entries_per_cell)
    for start in range(0, n_cells, size):
        yield np.arange(start, min(start + size, n_cells))


def _columns(observed: NDArray[np.float64], replicated: NDArray[np.float64], names: Any) -> pd.DataFrame:
    """A statistic by gene or cell: observed, and mean and standard deviation over replicates."""
    columns = {
        "observed": observed[0],
        "replicated": replicated.mean(0),
        "replicated_sd": replicated.std(0, ddof=min(1, len(replicated) - 1)),
    }
    return pd.DataFrame(columns, index=pd.Index(names))


def _scalars(observed: Tally, replicated: Tally) -> dict[str, float]:
    """What is said of all counts together."""
    zeros = np.nanmean(replicated.zero_fraction, 1)
    varies = observed.variance[0] > 0
    ratio = replicated.variance.mean(0)[varies] / observed.variance[0][varies]
    return {
        "zero_fraction_observed": float(np.nanmean(observed.zero_fraction)),
        "zero_fraction_replicated": float(zeros.mean()),
        "zero_fraction_replicated_sd": float(zeros.std(ddof=min(1, len(zeros) - 1))),
        "variance_ratio": float(np.median(ratio)) if varies.any() else np.nan,
    }
