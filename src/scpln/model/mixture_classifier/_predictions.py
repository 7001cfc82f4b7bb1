"""What a fitted mixture classifier says of rows: labels, components, likelihoods, draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted, validate_data

from scpln.inference.classifiers import (
    bic,
    component_probabilities,
    icl,
    log_class_probabilities,
    log_classes,
    log_likelihood,
)
from scpln.utils import positive_integer

from ._data import check_covariates, check_rows, check_weights, codes_of, features_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.inference.classifiers import ClassifierData

    from ._fitted import Fitted

    Floats = NDArray[np.float64]


class Predictions:
    """Methods of a fitted mixture classifier."""

    classes_: NDArray
    _fitted: Fitted

    def predict(self, X: Any, covariates: Any = None) -> NDArray:
        """The most probable label of each row.

        Parameters
        ----------
        X
            Rows (n × p), as in ``fit``.
        covariates
            Those of the classifiers (n × q), if the model was fitted with some.

        Returns
        -------
        Labels (n).
        """
        best = self.predict_log_proba(X, covariates).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any, covariates: Any = None) -> Floats:
        """Probabilities of the labels, p(y = c | x) = Σ_k p(z = k | x) p_k(y = c | x).

        Parameters
        ----------
        X, covariates
            As in ``predict``.

        Returns
        -------
        Probabilities (n × C), in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X, covariates))

    def predict_log_proba(self, X: Any, covariates: Any = None) -> Floats:
        """Logarithms of ``predict_proba``.

        Parameters
        ----------
        X, covariates
            As in ``predict``.

        Returns
        -------
        Logarithms of probabilities (n × C), nats.
        """
        data = self._read(X, None, covariates)
        return log_class_probabilities(self._fitted.parameters, data)

    def predict_component(self, X: Any, y: Any = None, covariates: Any = None) -> NDArray[np.intp]:
        """The most probable component of each row.

        Parameters
        ----------
        X, y, covariates
            As in ``predict_component_proba``.

        Returns
        -------
        Numbers of components, from 0 (n).
        """
        return self.predict_component_proba(X, y, covariates).argmax(1)

    def predict_component_proba(self, X: Any, y: Any = None, covariates: Any = None) -> Floats:
        """Probabilities of the components, given x, and given the label too where there is one.

        Parameters
        ----------
        X
            Rows (n × p).
        y
            Labels (n); missing ones (None, NaN) are not looked at. None: given x only.
        covariates
            As in ``predict``.

        Returns
        -------
        p(z = k | x, y) or p(z = k | x), n × K.

        Raises
        ------
        ValueError
            A label is not among ``classes_``.
        """
        return component_probabilities(self._fitted.parameters, self._read(X, y, covariates))

    def score(self, X: Any, y: Any, sample_weight: Any = None, covariates: Any = None) -> float:
        """Share of rows whose label is predicted.

        Parameters
        ----------
        X, y, covariates
            Rows, their labels, and covariates.
        sample_weight
            Weights of rows (n).

        Returns
        -------
        Accuracy.
        """
        return float(accuracy_score(y, self.predict(X, covariates), sample_weight=sample_weight))

    def score_samples(self, X: Any, y: Any = None, covariates: Any = None) -> Floats:
        """Log-likelihood of each row: log p(x, y), or log p(x) where there is no label.

        Parameters
        ----------
        X, y, covariates
            As in ``predict_component_proba``.

        Returns
        -------
        Log-likelihoods (n), nats.
        """
        return log_likelihood(self._fitted.parameters, self._read(X, y, covariates))

    def bic(self, X: Any, y: Any = None, sample_weight: Any = None, covariates: Any = None) -> float:
        """Bayesian information criterion −2 log L + k log n of rows: less is better, as of scikit-learn's mixtures.

        Parameters
        ----------
        X, y, covariates
            As in ``predict_component_proba``.
        sample_weight
            Weights of rows (n).

        Returns
        -------
        BIC, twice nats.
        """
        data = self._read(X, y, covariates, sample_weight)
        fit = float(data.weights @ log_likelihood(self._fitted.parameters, data))
        return bic(fit, self._fitted.parameters.n_parameters, float(data.weights.sum()))

    def icl(self, X: Any, y: Any = None, sample_weight: Any = None, covariates: Any = None) -> float:
        """BIC plus twice the entropy of the components given the rows: less is better, and less for components that lie apart.

        Parameters
        ----------
        X, y, sample_weight, covariates
            As in ``bic``.

        Returns
        -------
        ICL, twice nats.
        """
        data, parameters = self._read(X, y, covariates, sample_weight), self._fitted.parameters
        fit = float(data.weights @ log_likelihood(parameters, data))
        return icl(fit, parameters.n_parameters, data.weights, component_probabilities(parameters, data))

    def sample(
        self, n_samples: int = 1, *, totals: Any = None, covariates: Any = None, random_state: int | None = 0
    ) -> tuple[Floats, NDArray, NDArray[np.intp]]:
        """Draw rows, labels and components from the model.

        Parameters
        ----------
        n_samples
            Rows n.
        totals
            Of counts: total of each row, or one for all. By default the median total of the rows that the model was fitted to.
        covariates
            Those of the rows (n × q), if the model was fitted with some.
        random_state
            Seed.

        Returns
        -------
        x (n × p), labels (n), and components (n).

        Raises
        ------
        ValueError
            Covariates or totals are not as many as rows.
        """
        check_is_fitted(self)
        n, fitted = positive_integer("n_samples", n_samples), self._fitted
        parameters = fitted.parameters
        random = np.random.default_rng(random_state)
        given = check_covariates(covariates, n, fitted.n_covariates)
        component = random.choice(parameters.n_components, n, p=parameters.weights)
        counts = np.broadcast_to(np.asarray(fitted.total if totals is None else totals, dtype=np.int64), n)
        x = parameters.components.sample(component, random, counts)
        features = fitted.scaling.design(features_of(x, given, fitted.components, own=fitted.own))
        probabilities = np.exp(log_classes(parameters, features))[np.arange(n), component]
        label = (random.random(n)[:, None] > probabilities.cumsum(1)[:, :-1]).sum(1)
        return x, self.classes_[label], component

    def _read(self, X: Any, y: Any, covariates: Any, sample_weight: Any = None) -> ClassifierData:
        """Rows, checked, as the parameters read them."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        fitted = self._fitted
        check_rows(x, fitted.components)
        return fitted.data(
            x,
            check_covariates(covariates, len(x), fitted.n_covariates),
            codes_of(y, fitted.classes, len(x)),
            check_weights(sample_weight, len(x)),
        )
