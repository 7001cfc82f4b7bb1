"""Labels of cells from an embedding or counts, with probabilities that are calibrated on cells that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scvi import REGISTRY_KEYS
from threadpoolctl import threadpool_limits

from scpln.data import read_labels, setup_args, states
from scpln.inference.linear import ClassDistances, CovarianceName, fit_label_weights
from scpln.model.base import Objective
from scpln.utils import as_bool, in_range, one_of, positive_integer, positive_number, progress_bar, resolve_seed

from ._base import number_of_threads
from ._features import design_of, scaling_of
from ._held_out import parts_to_judge, read_groups
from ._layer import LinearLayer
from ._predictions import LabelPredictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.data import Data
    from scpln.inference.linear import LabelWeights

    Floats = NDArray[np.float64]

#: Weights in all up to which their covariance is full, unless it is said.
MOST_FULL = 700
MAX_EPOCHS = 100


class LabelClassifier(LabelPredictions):
    r"""Labels of cells by softmax regression with a distribution over its weights.

    .. math:: y_i \sim \text{Categorical}(\text{softmax}(W^\top x_i)), \quad w_{jc} \sim N(0, s^2), \quad q(W) = N(\mu, \Sigma)

    of features x, an embedding or logarithms of counts. μ, Σ and s² maximise a bound of the log-evidence without draws: it counts the divergence of q(W) from the prior
    once, and bounds the expected logarithm of the softmax by tilting (Knowles and Minka, 2011). Probabilities are means over draws of W, and of each cell's
    latent state if its posterior is given, at a temperature that is fitted to cells held out in turn. So are thresholds for a share of errors, and conformal sets.

    Labels are those of the ``labels_key`` that `setup_anndata` was given; cells without one (missing, or the ``unlabeled_category``) have no part in training.
    Batches and covariates are not read: take an embedding that is free of them.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata` with a ``labels_key``.
    use_rep
        Entry of ``obsm`` with the features, such as ``"X_plnpca"``; by default log(1 + count / size factor) of all genes, or the values of data that are no counts.
    covariance
        Family of Σ: ``"full"``, ``"diagonal"`` (mean-field), or ``"auto"``, full of up to 700 weights.
    prior_scale
        s, logits per standard deviation of the feature that varies most; by default the one of the highest bound (type-II maximum likelihood).
    registry
        For loading; leave it out.

    References
    ----------
    D. A. Knowles and T. P. Minka (2011), Non-conjugate variational message passing for multinomial and binary regression, NIPS. C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger
    (2017), On calibration of modern neural networks, ICML. M. Sadinle, J. Lei and L. Wasserman (2019), Least ambiguous set-valued classifiers with bounded error levels, JASA 114: 223-234.

    Examples
    --------
    >>> import numpy as np, scpln
    >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=20, n_latent=2)
    >>> adata.obs["side"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "right", "left")
    >>> scpln.model.setup_anndata(adata, labels_key="side")
    >>> model = scpln.model.LabelClassifier(adata)
    >>> model.train(progress=False)
    >>> sorted(set(model.predict()))
    ['left', 'right']
    >>> model.predict(soft=True).columns.to_list()
    ['left', 'right']
    >>> model.get_label_uncertainty().columns.to_list()
    ['probability', 'entropy', 'expected_entropy', 'mutual_information', 'novelty']
    >>> model.predict_sets(error=0.05).shape
    (300, 2)
    """

    _objective = Objective("elbo", "nats per cell")

    def __init__(
        self,
        adata: Data | None = None,
        use_rep: str | None = None,
        *,
        covariance: Literal["auto", "full", "diagonal"] = "auto",
        prior_scale: float | None = None,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("covariance", covariance, ("auto", *get_args(CovarianceName)))
        self.covariance = covariance
        self._take(use_rep, prior_scale)
        self.label_names, self.label_dtype = self._known_labels()
        self.init_params_ = self._get_init_params(locals())

    def _known_labels(self) -> tuple[list[str], str]:
        """Labels that cells may have, as text, and the type that they had."""
        if setup_args(self.registry)["labels_key"] is None:
            msg = "LabelClassifier needs labels of some cells. Call scpln.model.setup_anndata(adata, labels_key='a column of adata.obs')."
            raise ValueError(msg)
        state = states(self.registry)[REGISTRY_KEYS.LABELS_KEY]
        names = list(state["categorical_mapping"])
        if len(names) < 2:
            msg = f"A classifier tells labels apart, and cells have {names or 'none'}. Label cells of two kinds or more, and set up again."
            raise ValueError(msg)
        return names, state["dtype"]

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-5,
        calibrate: bool = True,
        cv_key: str | None = None,
        target_error: float | None = None,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over weights, their covariance and the prior's scale, and calibrate on cells that are held out in turn.

        Parameters
        ----------
        max_epochs
            At most so many iterations; by default 100.
        tol
            Converged when an iteration changes the bound by less than this, nats per cell.
        calibrate
            Whether to call `calibrate` afterwards, with the cells of training, `cv_key` and `target_error`.
        cv_key
            Column of ``obs`` with batches or donors, which are held out as a whole. Say one if new cells are of others: they are predicted worse than cells of known ones.
        target_error
            Share of errors among cells that get a label, see `calibrate`.
        seed
            Of draws and parts; by default ``scvi.settings.seed``, or 0.
        n_threads
            Threads of linear algebra; by default ``scvi.settings.num_threads``, or as many as it takes by itself.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.

        Raises
        ------
        ValueError
            There are as many labels as cells that have one, or groups are given and there is one.
        """
        options: dict[str, Any] = {
            "max_epochs": positive_integer("max_epochs", MAX_EPOCHS if max_epochs is None else max_epochs),
            "tol": positive_number("tol", tol),
            "seed": resolve_seed(seed),
        }
        then, show = as_bool("calibrate", calibrate), as_bool("progress", progress)
        threads = number_of_threads(n_threads)
        target = None if target_error is None else in_range("target_error", target_error, 0, 1)
        assert self.adata is not None
        groups = read_groups(self.adata.obs, cv_key)
        known, codes = self._labelled(self.adata)
        if then:  # what calibration lacks is said before the fit
            parts_to_judge(codes, None if groups is None else groups[known], options["seed"])
        self.is_trained_ = False
        cells, values = self._read(None), self._values(None, known)
        centre, scale = scaling_of(values)
        design = design_of(values, centre, scale)
        bar_of = progress_bar(type(self).__name__, options["max_epochs"], at_most=True, show=show)
        with threadpool_limits(threads), bar_of as bar:
            fit = self._fit(design, codes, options, bar.update)
            reason = "converged" if fit.converged else f"reached the maximum of {options['max_epochs']} iterations"
            bar.finish(reason)
        distances = ClassDistances.of(design[:, 1:], codes, len(self.label_names))
        self.module = LinearLayer.of(
            {
                "centre": centre,
                "scale": scale,
                "mean": fit.mean,
                "factor": fit.covariance.factor,
                "class_means": distances.means,
                "whitener": distances.whitener,
                "distance_quantiles": distances.quantiles,
            }
        )
        n_labels = np.bincount(codes, minlength=len(self.label_names)).tolist()
        training = {
            "elbo": fit.bound / len(codes),
            "converged": fit.converged,
            "reason": reason,
            "n_labelled": len(codes),
        }
        training |= {
            "prior_scale": float(np.sqrt(fit.prior_variance)),
            "covariance": self._family,
            "n_by_label": n_labels,
        }
        history = {"elbo": [value / len(codes) for value in fit.history]}
        self._finish_training(cells, {**training, **options}, history)
        if then:
            with threadpool_limits(threads):
                self.calibrate(cv_key=cv_key, target_error=target, seed=options["seed"])

    @property
    def _family(self) -> CovarianceName:
        """Of the covariance that is fitted, or was."""
        if self.covariance != "auto":
            return self.covariance
        if "covariance" in self.training_:
            return self.training_["covariance"]
        n = len(self.genes) if self.use_rep is None else self.adata.obsm[self.use_rep].shape[1]
        return "full" if (n + 1) * len(self.label_names) <= MOST_FULL else "diagonal"

    def _labelled(self, adata: Data) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions of the cells that have a label, and the labels' codes."""
        codes, _ = read_labels(adata, self.registry) or (np.empty(0, np.int64), [])
        known = np.flatnonzero(codes >= 0)
        if not len(known):
            msg = f"No cell has a label in adata.obs[{setup_args(self.registry)['labels_key']!r}] that the model knows. Pass cells with labels among {self.label_names[:20]}."
            raise ValueError(msg)
        if len(self.label_names) >= len(known) and adata is self.adata:
            msg = f"There are {len(self.label_names):,} labels of {len(known):,} cells: nothing can be learned of labels that one cell has. Is labels_key a column of names of cells?"
            raise ValueError(msg)
        return known, codes[known].astype(np.intp)

    def _fit(self, design: Floats, codes: NDArray[np.intp], options: dict[str, Any], on_iteration: Any) -> LabelWeights:
        """Weights of the layer."""
        return fit_label_weights(
            design,
            codes,
            len(self.label_names),
            covariance=self._family,
            prior_variance=None if self.prior_scale is None else self.prior_scale**2,
            max_iter=options["max_epochs"],
            tol=options["tol"],
            on_iteration=on_iteration,
        )
