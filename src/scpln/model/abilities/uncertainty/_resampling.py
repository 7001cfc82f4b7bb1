"""Bootstrap and jackknife of a model's parameters."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import scvi

from scpln.core import threads
from scpln.inference.uncertainty import Replicates, Resampling, refit_samples
from scpln.utils import as_bool, positive_integer, positive_integer_or_none, progress_bar, resolve_seed, warn

from ._resampled import Resampled
from ._standard_errors import StandardErrors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.inference.uncertainty import Refit, ResamplingName

#: Most samples.
MOST_SAMPLES = 100_000
#: Most units that are left out one by one, unless they are donors.
MOST_LEFT_OUT = 2000


class ResampledParameters(StandardErrors):
    """Models whose parameters can be estimated again from samples of their cells, starting from where they are."""

    @abstractmethod
    def _refit(self, data: CountData) -> Refit:
        """Estimates from some of the cells, on one thread, or an error where these are not what was trained."""

    @abstractmethod
    def _root(self) -> NDArray[np.float64]:
        """R (p, k) with Σ = R Rᵀ."""

    def bootstrap(
        self,
        n_samples: int = 200,
        *,
        donor_key: str | None = None,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> Resampled:
        """Estimate the parameters again from samples of the cells, drawn with replacement.

        Each fit starts from the model's parameters, and takes a fraction of the time of training. The model stays as it is. Ctrl-C
        ends it, and keeps the samples that are done.

        Parameters
        ----------
        n_samples
            Number of samples: 200 for standard errors, 1,000 and more for percentiles.
        donor_key
            Column of ``obs`` with donors, or other groups whose cells are not independent: whole donors are then drawn.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0. Neither the number of samples nor of threads changes what a
            sample is.
        n_threads
            Samples that are fitted at a time; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar.

        Raises
        ------
        ValueError
            If the training cells are not there, or there is no such column.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLN(adata)
        >>> model.train(progress=False)
        >>> model.bootstrap(20, progress=False).get_covariance_errors(["gene_0", "gene_1"]).shape
        (2, 2)
        """
        n_samples = positive_integer("n_samples", n_samples, most=MOST_SAMPLES)
        if n_samples < 2:
            msg = "n_samples=1 has no spread. Take 200 for standard errors."
            raise ValueError(msg)
        self._check_trained_here()
        sampling = Resampling(self.summary_stats.n_cells, self._clusters(donor_key))
        samples = sampling.bootstrap(n_samples, resolve_seed(seed))
        return self._resampled("bootstrap", sampling, samples, donor_key, n_threads, progress)

    def jackknife(
        self,
        *,
        donor_key: str | None = None,
        n_blocks: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> Resampled:
        """Estimate the parameters again without each cell, each donor, or each block of cells.

        Parameters
        ----------
        donor_key
            Column of ``obs`` with donors, each of which is left out.
        n_blocks
            Blocks of cells, in their order, each of which is left out, where cells are many; each cell if None.
        n_threads, progress
            As in `bootstrap`.

        Raises
        ------
        ValueError
            If the training cells are not there, there is no such column, or cells are more than 2,000 and there are no blocks.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=60, n_vars=5, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLN(adata)
        >>> model.train(progress=False)
        >>> model.jackknife(n_blocks=20, progress=False)
        jackknife of 20 samples (20 blocks, 5 genes)
        """
        self._check_trained_here()
        n, clusters = self.summary_stats.n_cells, self._clusters(donor_key)
        n_blocks = positive_integer_or_none("n_blocks", n_blocks)
        if n_blocks is not None:
            if clusters is not None or not 2 <= n_blocks <= n:
                msg = f"n_blocks={n_blocks!r} cuts {n:,} cells into 2 blocks or more, at most one a cell, and goes without donor_key."
                raise ValueError(msg)
            clusters = np.arange(n) * n_blocks // n
        elif clusters is None and n > MOST_LEFT_OUT:
            msg = f"Leaving out each of {n:,} cells takes as many fits. Pass n_blocks=100, say, or take model.bootstrap()."
            raise ValueError(msg)
        sampling = Resampling(n, clusters)
        unit = "block" if n_blocks is not None else donor_key
        return self._resampled("jackknife", sampling, sampling.jackknife(), unit, n_threads, progress)

    def _resampled(
        self,
        kind: ResamplingName,
        sampling: Resampling,
        samples: list[NDArray[np.intp]],
        unit: str | None,
        n_threads: int | None,
        progress: bool,
    ) -> Resampled:
        n_threads = positive_integer_or_none("n_threads", n_threads) or scvi.settings.num_threads
        with threads(n_threads) as pool:
            n_workers = min(pool.n_threads, len(samples))
        refit = self._refit(self._read(self.adata).data)
        with progress_bar(kind, len(samples), unit="sample", show=as_bool("progress", progress)) as bar:
            found, interrupted = refit_samples(refit, samples, n_workers, lambda count: bar.update(count, np.nan))
            bar.finish(f"{len(found)} samples")
        if len(found) < max(2, len(samples) if kind == "jackknife" else 2):
            msg = (
                f"{len(found):,} of {len(samples):,} samples have estimates{', since it was interrupted' if interrupted else ''}, too few for "
                f"a {kind}. Take a bootstrap of more, or leave out what few cells have."
            )
            raise RuntimeError(msg)
        if len(found) < len(samples):
            why = "it was interrupted" if interrupted else "their fits did not converge"
            warn(
                f"{len(samples) - len(found):,} of {len(samples):,} samples have no estimates: {why}. They are left out."
            )
        coefficients, roots = (np.stack(part) for part in zip(*found, strict=True))
        estimate = self._linear_map()[0].detach().cpu().double().numpy(), self._root()
        replicates = Replicates(kind, coefficients, roots, estimate, sampling.n_units).transformed(self._units())
        return Resampled(replicates, list(self.genes), self.covariates, "cell" if unit is None else unit)
