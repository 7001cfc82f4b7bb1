"""Values of cells, such as ages or scores, from an embedding or counts, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from scpln.data import cell_positions, get_column
from scpln.inference.linear import conformal_quantile, fit_value_weights
from scpln.model.base import Annotation, Objective
from scpln.utils import as_bool, in_range, one_of, positive_integer, progress_bar, resolve_seed

from ._base import LinearModel, number_of_threads
from ._features import design_of, scaling_of
from ._held_out import N_FOLDS, fold_of_cells, read_groups, some_cells
from ._layer import LinearLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data
    from scpln.inference.linear import ValueWeights
    from scpln.model.base import Evaluated

    Floats = NDArray[np.float64]

MAX_EPOCHS = 1000
#: Fewest cells with a value.
_FEWEST = 3


class LabelRegressor(LinearModel):
    r"""Values of cells by linear regression with a distribution over its weights, in closed form.

    .. math:: y_i \sim N(w^\top x_i, \sigma^2), \quad w_j \sim N(0, s^2), \quad w \mid y \sim N(\mu, \Sigma), \quad \Sigma^{-1} = s^{-2} I + X^\top X / \sigma^2

    of features x, an embedding or logarithms of counts, and values that are scaled to variance 1. s² and σ² are those of the highest evidence (MacKay, 1992). Intervals are
    those of the normal predictive distribution, or split-conformal ones of cells held out in turn.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata`.
    target_key
        Column of ``obs`` with numbers; cells without one (NaN) have no part in training.
    use_rep
        Entry of ``obsm`` with the features; by default log(1 + count / size factor) of all genes, or the values of data that are no counts.
    covariance
        ``"full"``, the exact posterior, or ``"diagonal"``, the mean-field one: the same means, and less uncertainty of the weights.
    prior_scale
        s, in standard deviations of the value per standard deviation of the feature that varies most; by default the one of the highest evidence.
    registry
        For loading; leave it out.

    References
    ----------
    D. J. C. MacKay (1992), Bayesian interpolation, Neural Computation 4: 415-447.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=20, n_latent=2)
    >>> adata.obs["age"] = adata.obsm["true_latent"][:, 0]
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.LabelRegressor(adata, "age")
    >>> model.train(progress=False)
    >>> model.predict().columns.to_list()
    ['mean', 'sd', 'epistemic_sd', 'lower', 'upper']
    """

    _objective = Objective("log_evidence", "nats per cell")

    def __init__(
        self,
        adata: Data | None = None,
        target_key: str | None = None,
        use_rep: str | None = None,
        *,
        covariance: Literal["full", "diagonal"] = "full",
        prior_scale: float | None = None,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        if target_key is None:
            msg = (
                "LabelRegressor needs values of some cells: pass target_key=, the name of a column of obs with numbers."
            )
            raise ValueError(msg)
        one_of("covariance", covariance, ("full", "diagonal"))
        self.target_key, self.covariance = target_key, covariance
        self._take(use_rep, prior_scale)
        if adata is not None:
            self._targets(adata)
        self.init_params_ = self._get_init_params(locals())

    def train(
        self,
        max_epochs: int | None = None,
        *,
        calibrate: bool = True,
        cv_key: str | None = None,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Find the variances of the highest evidence, and with them the weights; and compare with cells that are held out in turn.

        Parameters
        ----------
        max_epochs
            At most so many steps of the variances; by default 1,000.
        calibrate
            Whether to hold out cells of training in five parts, whose errors intervals can be made of.
        cv_key
            Column of ``obs`` with batches or donors, which are held out as a whole.
        seed
            Of the parts; by default ``scvi.settings.seed``, or 0.
        n_threads
            Threads of linear algebra; by default ``scvi.settings.num_threads``, or as many as it takes by itself.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.

        Raises
        ------
        ValueError
            There are fewer than three values, all are the same, or there is one group.
        """
        epochs = positive_integer("max_epochs", MAX_EPOCHS if max_epochs is None else max_epochs)
        seed, then, show = resolve_seed(seed), as_bool("calibrate", calibrate), as_bool("progress", progress)
        threads = number_of_threads(n_threads)
        assert self.adata is not None
        groups, targets = read_groups(self.adata.obs, cv_key), self._targets(self.adata)
        known = np.flatnonzero(np.isfinite(targets))
        y = targets[known]
        self.is_trained_ = False
        cells, values = self._read(None), self._values(None, known)
        with threadpool_limits(threads), progress_bar(type(self).__name__, 1, show=show) as bar:
            centre, scale = scaling_of(values)
            design, middle, spread = design_of(values, centre, scale), float(y.mean()), float(y.std())
            fit = self._fit(design, (y - middle) / spread, epochs)
            errors = self._held_out_errors(design, (y - middle) / spread, groups, known, epochs, seed) if then else None
            reason = "closed form" if fit.converged else f"reached the maximum of {epochs} steps of the variances"
            bar.update(1, fit.bound / len(y))
            bar.finish(reason)
        arrays: dict[str, NDArray | float] = {
            "centre": centre,
            "scale": scale,
            "mean": fit.mean,
            "covariance": fit.covariance,
        }
        arrays |= {"target_mean": middle, "target_scale": spread, "noise_variance": fit.noise_variance}
        if errors is not None:
            arrays["held_out_errors"] = np.sort(errors)
        self.module = LinearLayer.of(arrays)
        evidence = fit.bound / len(y) - np.log(spread)
        training = {"log_evidence": evidence, "converged": fit.converged, "reason": reason, "n_labelled": len(y)}
        training |= {
            "prior_scale": float(np.sqrt(fit.prior_variance)),
            "noise_sd": float(np.sqrt(fit.noise_variance) * spread),
        }
        self._finish_training(cells, {**training, "max_epochs": epochs, "seed": seed}, {"log_evidence": [evidence]})

    def _fit(self, design: Floats, y: Floats, epochs: int) -> ValueWeights:
        variance = None if self.prior_scale is None else self.prior_scale**2
        return fit_value_weights(design, y, covariance=self.covariance, prior_variance=variance, max_iter=epochs)

    def _held_out_errors(
        self, design: Floats, y: Floats, groups: NDArray | None, known: NDArray, epochs: int, seed: int
    ) -> Floats:
        """|y − mean| / standard deviation of cells, each predicted by a fit to other parts."""
        some = some_cells(len(y), seed)
        fold = fold_of_cells(
            np.zeros(len(some), np.intp), None if groups is None else groups[known[some]], N_FOLDS, seed
        )
        errors = np.empty(len(some))
        for number in np.unique(fold):
            kept, out = some[fold != number], fold == number
            fit = self._fit(design[kept], y[kept], epochs)
            x = design[some[out]]
            variance = fit.noise_variance + np.einsum("nf,fg,ng->n", x, fit.covariance, x, optimize=True)
            errors[out] = np.abs(y[some[out]] - x @ fit.mean) / np.sqrt(variance)
        return errors

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        interval: float = 0.9,
        conformal: bool = False,
    ) -> pd.DataFrame:
        """Values of cells, and how sure they are.

        Parameters
        ----------
        adata
            Annotated data with the entry of ``obsm``, or the genes, that the model reads; by default its own.
        indices
            Positions of cells, or a mask over them; by default all.
        interval
            Probability of the interval.
        conformal
            Whether the interval is as wide, in standard deviations, as the errors of held-out cells say, whatever their distribution; or else as the normal one says.

        Returns
        -------
        Table with a row for each cell: ``mean``, ``sd`` of a new value, ``epistemic_sd`` of the mean, which more training cells would make smaller, and ``lower`` and ``upper`` ends of the interval, in
        the unit of the value.

        Raises
        ------
        RuntimeError
            The model is not trained, or `conformal` is set and it was trained with ``calibrate=False``.
        """
        self._require_trained()
        interval, conformal = in_range("interval", interval, 0, 1), as_bool("conformal", conformal)
        width = float(norm.ppf(0.5 + interval / 2))
        if conformal:
            if "held_out_errors" not in self.module:
                msg = "conformal=True needs errors of held-out cells, and this LabelRegressor was trained with calibrate=False. Train it again, or leave it out."
                raise RuntimeError(msg)
            width = max(conformal_quantile(self.module.array("held_out_errors"), 1 - interval), 0.0)
        design, scale = self._design(adata, indices), float(self.module.array("target_scale"))
        mean = float(self.module.array("target_mean")) + scale * (design @ self.module.array("mean"))
        of_mean = np.einsum("nf,fg,ng->n", design, self.module.array("covariance"), design, optimize=True)
        sd = scale * np.sqrt(of_mean + float(self.module.array("noise_variance")))
        columns = {"mean": mean, "sd": sd, "epistemic_sd": scale * np.sqrt(of_mean)}
        columns |= {"lower": mean - width * sd, "upper": mean + width * sd}
        return pd.DataFrame(columns, index=self._names(adata, indices))

    def _targets(self, adata: Data) -> Floats:
        """Values to learn from (n), NaN where there is none.

        Raises
        ------
        ValueError
            The column has no numbers, fewer than three, or one.
        """
        numbers = self._numbers(adata)
        known = numbers[np.isfinite(numbers)]
        if len(known) < _FEWEST or known.std() == 0:
            msg = f"adata.obs[{self.target_key!r}] (target_key) has {len(np.unique(known))} different values in {len(known):,} cells, too few for a regression. Name a column with more."
            raise ValueError(msg)
        return numbers

    def _numbers(self, adata: Data) -> Floats:
        """Values of the cells (n), NaN where there is none."""
        column = get_column(adata.obs, self.target_key, "target_key")
        numbers = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(float)
        text = column[np.isnan(numbers) & column.notna().to_numpy()]
        if len(text):
            msg = f"adata.obs[{self.target_key!r}] (target_key) has values that are no numbers, such as {text.iloc[0]!r}. For labels, use LabelClassifier."
            raise ValueError(msg)
        return np.where(np.isfinite(numbers), numbers, np.nan)

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        del diagnostics  # there are no latent states
        table = self.predict(adata)
        return Annotation(obs={name: table[name].to_numpy() for name in ("mean", "sd", "epistemic_sd")})

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """Errors and coverage of the cells that have a value."""
        found = super()._evaluation(adata, indices, n_samples, seed)
        targets = self._numbers(adata) if self.target_key in adata.obs else np.full(adata.n_obs, np.nan)
        positions = cell_positions(indices, adata.n_obs)
        chosen = np.arange(adata.n_obs) if positions is None else positions
        known = chosen[np.isfinite(targets[chosen])]
        if not len(known):
            return found
        table, y = self.predict(adata, known), targets[known]
        inside = (y >= table["lower"].to_numpy()) & (y <= table["upper"].to_numpy())
        mean, sd = table["mean"].to_numpy(), table["sd"].to_numpy()
        scores = {
            "r2": float(1 - ((y - mean) ** 2).mean() / y.var()) if y.var() > 0 else float("nan"),
            "rmse": float(np.sqrt(((y - mean) ** 2).mean())),
            "log_score": float(norm.logpdf(y, mean, sd).mean()),
            "coverage_90": float(inside.mean()),
        }
        return found.plus(scores, notes=dict.fromkeys(scores, f"of {len(known):,} cells with a value"))
