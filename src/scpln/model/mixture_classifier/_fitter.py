"""From rows to the data of a fit, and from these to a fit, in the same way for all rows and for some that are held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.classifiers import ClassifierData, FitOptions, Run, Scaling, family, fit_mixture_classifier

from ._data import features_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._data import Rows


@dataclass(frozen=True)
class Fitter:
    """How rows are read and fitted.

    Attributes
    ----------
    options
        Of the fit.
    own
        Whether features of x are among the classifiers' features.
    n_classes
        C.
    """

    options: FitOptions
    own: bool
    n_classes: int

    def scaling(self, rows: Rows) -> Scaling:
        """Scales of the rows' features."""
        features = features_of(rows.x, rows.covariates, self.options.components, own=self.own)
        return Scaling.of(features, rows.weights)

    def data(self, rows: Rows, scaling: Scaling) -> ClassifierData:
        """Statistics of the family, and the classifiers' design."""
        components = self.options.components
        features = features_of(rows.x, rows.covariates, components, own=self.own)
        statistics = family(components).statistics(rows.x)
        return ClassifierData(statistics, scaling.design(features), rows.codes, rows.weights, self.n_classes)

    def fit(self, rows: Rows, n_components: int) -> tuple[Run, ClassifierData, Scaling]:
        """The fit of so many components, with what it was fitted to.

        Raises
        ------
        ValueError
            A covariance is singular in every start.
        """
        scaling = self.scaling(rows)
        data = self.data(rows, scaling)
        try:
            run = fit_mixture_classifier(data, self._places(rows), n_components, self.options)
        except np.linalg.LinAlgError as error:
            msg = (
                f"The covariance of a component is singular with ridge={self.options.family.get('ridge')}. Pass a larger ridge, such as 1e-3, another "
                "covariance, or fewer components."
            )
            raise ValueError(msg) from error
        return run, data, scaling

    def _places(self, rows: Rows) -> NDArray[np.float64]:
        """What distances between rows are measured in: features of x, on one scale."""
        x = features_of(rows.x, np.empty((len(rows), 0)), self.options.components, own=True)
        return Scaling.of(x, rows.weights).design(x)[:, 1:]
