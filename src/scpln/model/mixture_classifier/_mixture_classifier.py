"""Mixture of linear classifiers, as an estimator of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from scpln import __version__
from scpln.inference.classifiers import (
    ComponentsName,
    Covariance,
    entropy,
    mutual_information,
    separated,
)
from scpln.utils import warn

from ._choice import Criterion, choose
from ._coefficients import coefficient_table, standard_errors
from ._data import Rows, check_covariates, check_groups, check_labels, check_rows, check_weights
from ._fitted import Fitted
from ._fitter import Fitter
from ._options import fit_options
from ._predictions import Predictions
from ._saving import read, write

if TYPE_CHECKING:
    import os

    import pandas as pd

    from scpln.inference.classifiers import ClassifierData, Run, Scaling

#: What is saved beside parameters.
_RESULTS = (
    *("n_iter_", "converged_", "n_dropped_", "log_likelihood_", "log_likelihood_path_", "mutual_information_"),
    *("label_entropy_", "separated_", "intercept_se_", "coef_se_", "n_features_in_", "covariate_names_"),
)


class MixtureClassifier(Predictions, ClassifierMixin, BaseEstimator):
    r"""Classifier of rows of hidden kinds, each of which has its own place and its own linear rule for the label.

    .. math:: p(x, y, z = k) = π_k \, f_k(x) \, p_k(y \mid x), \qquad p_k(y = c \mid x) \propto \exp(b_{kc} + w_{kc} \cdot φ(x)).

    One class may be several states, each told from the other classes by something else. With Gaussian f it is the generalised linear cluster-weighted model
    [1]_ (R: flexmix, flexCWM), which mixtures of logistic regressions are a part of; with Dirichlet-multinomial f it is one of counts, such as cell types of
    donors. It is fitted by expectation maximisation of the likelihood of x and y together, with priors that keep variances and weights finite.

    Parameters
    ----------
    n_components
        K, the number of components; or None, to choose one from 1 to `max_components`.
    components
        f: ``"gaussian"`` (an embedding), ``"dirichlet_multinomial"`` (counts, in which zeros are allowed) or ``"dirichlet"`` (proportions without zeros).
    covariance
        Of Gaussian components: ``"full"``, ``"diagonal"``, ``"spherical"``, or ``"tied"``, the same one for all.
    criterion
        What chooses K: ``"bic"`` or ``"icl"``, of x and y together; or ``"held_out"``, log p(y | x) of rows that were held out, by `groups` if ``fit`` is given some.
    max_components
        Largest K that is tried.
    n_init
        Starts, which are k-means++ of x, k-means of x and y, and random rows in turn; each takes 20 steps, and the best goes on.
    ridge
        Of Gaussian components: scale of the prior of covariances, as a share of the variances of all rows.
    prior_scale
        Standard deviation of the normal prior of the classifiers' coefficients, but intercepts, of features on one scale: separated classes do not make them infinite.
    concentration_scale
        Standard deviation of the normal prior of log α of Dirichlet and Dirichlet-multinomial components; ``numpy.inf`` for none.
    features
        φ: ``"auto"``, x itself of Gaussian components, and centred log-ratios of compositions (of counts + 0.5); or ``"covariates"``, only what ``fit`` is given as such.
    max_iter, tol
        Most steps, and the gain of the penalised log-likelihood, nats for each row, below which it has converged.
    random_state
        Seed of starts and folds; None or an instance of ``RandomState`` makes one.

    Attributes
    ----------
    classes_
        Labels (C).
    n_components_
        K of the components that are left.
    weights_
        π (K), falling.
    means_, covariances_, concentrations_
        Those of the components, what they have of these.
    coef_, intercept_
        Coefficients of features as they are given (K × R × f and K × R): R = 1 of two classes, of the second against the first, or else the number of classes.
    coef_se_, intercept_se_
        Wald errors of these, by Louis's information, which knows that components are hidden, given π and the components' densities; NaN of more than 2,000 coefficients.
    log_likelihood_, log_likelihood_path_
        log p(x, y) of all rows, and the penalised one in every step, which rises, nats.
    mutual_information_, label_entropy_
        I(z; y) and H(y), nats; where they are nearly the same, components are the labels, and the classifiers had nothing to do.
    separated_
        Components in which classes are separated, so that coefficients and their errors are what the prior makes them.
    selection_
        Table of criteria by K, if it was chosen.
    n_iter_, converged_, n_dropped_
        Steps, whether they sufficed, and components that became empty.
    n_features_in_, feature_names_in_
        Columns of X, and their names if it has some.

    References
    ----------
    .. [1] Ingrassia, Punzo and Vittadini (2015), The generalized linear mixed cluster-weighted model, Journal of Classification.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate_mixture_classifier(n_obs=600, seed=1)
    >>> model = scpln.model.MixtureClassifier(n_components=2).fit(adata.X, adata.obs["label"])
    >>> model.predict_proba(adata.X[:2]).shape, model.predict_component(adata.X[:2]).shape
    ((2, 2), (2,))
    >>> model.score(adata.X, adata.obs["label"]) > 0.75
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        components: ComponentsName = "gaussian",
        covariance: Covariance = "full",
        criterion: Criterion = "bic",
        max_components: int = 5,
        n_init: int = 10,
        ridge: float = 1e-3,
        prior_scale: float = 2.5,
        concentration_scale: float = 3.0,
        features: Literal["auto", "covariates"] = "auto",
        max_iter: int = 500,
        tol: float = 1e-6,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.components = components
        self.covariance = covariance
        self.criterion = criterion
        self.max_components = max_components
        self.n_init = n_init
        self.ridge = ridge
        self.prior_scale = prior_scale
        self.concentration_scale = concentration_scale
        self.features = features
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.components != "gaussian"
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, covariates: Any = None, groups: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X
            Rows (n × p): an embedding, counts, or proportions, as `components` says.
        y
            Labels (n); rows whose label is missing (None, NaN) are clustered with the others, and say nothing of labels.
        sample_weight
            Weights of rows (n): 2 is the row twice, 0 is no row.
        covariates
            Features of the classifiers that components do not depend on (n × q).
        groups
            Groups of rows, such as donors, which ``criterion="held_out"`` holds out as a whole.

        Returns
        -------
        The model.

        Raises
        ------
        ValueError
            X has values that `components` has no density of, there are more components than rows, y has one class, or lengths differ.
        """
        options = fit_options(self.get_params())
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        check_rows(x, options.components)
        classes, codes = check_labels(y, len(x))
        given = check_covariates(covariates, len(x))
        names = getattr(covariates, "columns", [f"covariate{number}" for number in range(given.shape[1])])
        if self.features == "covariates" and not given.shape[1]:
            msg = (
                "features='covariates', and there are none. Pass them to fit(..., covariates=...), or features='auto'."
            )
            raise ValueError(msg)
        weights = check_weights(sample_weight, len(x))
        of_groups = check_groups(groups, len(x))
        rows = Rows.merged(x, given, codes, weights, of_groups)
        own = self.features == "auto"
        run, data, scaling = self._run(rows, Fitter(options, own, len(classes)))
        total = int(np.median(x.sum(1))) if options.components == "dirichlet_multinomial" else 0
        self.covariate_names_ = [str(name) for name in names]
        self._set(Fitted(classes, run.parameters, scaling, options.components, own, given.shape[1], total))
        self._set_results(run, data, scaling)
        self._warn()
        return self

    def _run(self, rows: Rows, fitter: Fitter) -> tuple[Run, ClassifierData, Scaling]:
        """The fit of the number of components that is asked for, or chosen."""
        if self.n_components is None:
            numbers = range(1, min(self.max_components, len(rows)) + 1)
            self.selection_, found = choose(rows, numbers, self.criterion, fitter)
            return found
        self.selection_ = None
        if self.n_components > len(rows):
            msg = f"n_components={self.n_components}, and X has {len(rows):,} different rows. Pass n_components={len(rows)} or fewer."
            raise ValueError(msg)
        return fitter.fit(rows, self.n_components)

    def _set(self, fitted: Fitted) -> None:
        """Attributes that follow from what was fitted."""
        parameters = fitted.parameters
        self._fitted = fitted
        self.classes_ = fitted.classes
        self.n_components_ = parameters.n_components
        self.weights_ = parameters.weights
        for name, array in parameters.components.arrays.items():
            if name != "ridge":
                setattr(self, f"{name}_", array)
        given = fitted.scaling.unscaled(parameters.coefficients)
        self.intercept_, self.coef_ = given[..., 0], given[..., 1:]

    def _set_results(self, run: Run, data: ClassifierData, scaling: Scaling) -> None:
        """Attributes that the data are needed for."""
        parameters, found = run.parameters, run.responsibilities
        self.n_iter_, self.converged_, self.n_dropped_ = run.n_steps, run.converged, run.n_dropped
        self.log_likelihood_, self.log_likelihood_path_ = run.log_likelihood, run.path
        self.mutual_information_ = mutual_information(found, data.labels, data.weights, data.n_classes)
        self.label_entropy_ = entropy(data.labels, data.weights, data.n_classes)
        self.separated_ = separated(parameters, data, found)
        errors = standard_errors(run, data, scaling)
        self.intercept_se_, self.coef_se_ = errors[..., 0], errors[..., 1:]

    def _warn(self) -> None:
        """Say what the user should know of the fit."""
        if not self.converged_:
            warn(
                f"MixtureClassifier has not converged in {self.n_iter_} steps. Pass a larger max_iter, or a larger tol.",
                ConvergenceWarning,
            )
        if self.n_dropped_ and self.n_components is not None:
            warn(
                f"{self.n_dropped_} components became empty and were dropped: {self.n_components_} are left. Pass a smaller n_components."
            )

    def get_coefficients(self) -> pd.DataFrame:
        """Coefficients of the classifiers, for features as they are given, with Wald errors.

        Returns
        -------
        Table with a row for each component, class and feature (of two classes the second one, against the first): ``coefficient``, ``se``, ``z`` and ``p_value``. In
        components with ``separated_`` classes they are what the prior makes them. Rows of one donor count as if they were independent here: for donors, draw donors.
        """
        check_is_fitted(self)
        own = self.n_features_in_ if self._fitted.own else 0
        names = [f"x{number}" for number in range(own)]
        if own and hasattr(self, "feature_names_in_"):
            names = [str(name) for name in self.feature_names_in_]
        coefficients = np.concatenate([self.intercept_[..., None], self.coef_], axis=2)
        errors = np.concatenate([self.intercept_se_[..., None], self.coef_se_], axis=2)
        return coefficient_table(coefficients, errors, self.classes_, [*names, *self.covariate_names_])

    def save(self, dir_path: str | os.PathLike, overwrite: bool = False) -> None:
        """Save the model as a directory of safetensors and JSON.

        Parameters
        ----------
        dir_path
            Directory, made if necessary.
        overwrite
            Whether a model that is there may be replaced.

        Raises
        ------
        ValueError
            There is a model already, or a file of another kind has a name that is needed.
        """
        check_is_fitted(self)
        params = {
            name: getattr(value, "item", lambda value=value: value)() for name, value in self.get_params().items()
        }
        if not isinstance(params["random_state"], int):
            params["random_state"] = None
        results = {name: getattr(self, name) for name in _RESULTS}
        if hasattr(self, "feature_names_in_"):
            results["feature_names_in_"] = [str(name) for name in self.feature_names_in_]
        write(dir_path, params, self._fitted, results, overwrite=overwrite, version=__version__)

    @classmethod
    def load(cls, dir_path: str | os.PathLike) -> Self:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Directory that ``save`` wrote.

        Returns
        -------
        The fitted model.

        Raises
        ------
        ValueError
            There is no such model, or it is damaged or was changed.
        """
        params, fitted, results = read(dir_path)
        model = cls(**params)
        for name, value in results.items():
            setattr(model, name, np.array(value, dtype=object) if name == "feature_names_in_" else value)
        model._set(fitted)
        return model
