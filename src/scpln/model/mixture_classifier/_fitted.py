"""What a fitted mixture classifier consists of, and how it is written as numbers and plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from scpln.inference.classifiers import (
    ClassifierData,
    ComponentsName,
    MixtureParameters,
    Scaling,
    family,
)

from ._data import features_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """Classes (C), parameters, and how rows become what these are parameters of.

    Attributes
    ----------
    classes
        Labels, in order.
    parameters
        Of scaled features.
    scaling
        Of the features.
    components
        Name of the family.
    own
        Whether features of x are among the classifiers' features.
    n_covariates
        Columns of covariates.
    total
        Median total of the rows, of counts.
    """

    classes: NDArray
    parameters: MixtureParameters
    scaling: Scaling
    components: ComponentsName
    own: bool
    n_covariates: int
    total: int

    def data(
        self, x: Floats, covariates: Floats, codes: NDArray[np.intp], weights: Floats | None = None
    ) -> ClassifierData:
        """Rows as the parameters read them."""
        weights = np.ones(len(x)) if weights is None else weights
        features = features_of(x, covariates, self.components, own=self.own)
        statistics = family(self.components).statistics(x)
        return ClassifierData(statistics, self.scaling.design(features), codes, weights, len(self.classes))

    def state(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """Plain values, and arrays, that make it again."""
        shape = self.parameters.components
        plain: dict[str, Any] = {
            "classes": self.classes.tolist(),
            "classes_dtype": self.classes.dtype.str,
            "components": self.components,
            "own": self.own,
            "n_covariates": self.n_covariates,
            "total": self.total,
            "prior_scale": self.parameters.prior_scale,
            "family": {name: getattr(shape, name) for name in ("covariance", "scale") if hasattr(shape, name)},
        }
        arrays = {
            "weights": self.parameters.weights,
            "coefficients": self.parameters.coefficients,
            "feature_means": self.scaling.mean,
            "feature_scales": self.scaling.scale,
        }
        arrays |= {f"component_{name}": array for name, array in shape.arrays.items()}
        return plain, {name: np.ascontiguousarray(array, dtype=float) for name, array in arrays.items()}

    @classmethod
    def of_state(cls, plain: dict[str, Any], arrays: dict[str, Floats]) -> Fitted:
        """The one that had this state."""
        make = cast("Any", family(plain["components"]))
        of_components = {
            name.removeprefix("component_"): array for name, array in arrays.items() if name.startswith("component_")
        }
        parameters = MixtureParameters(
            arrays["weights"],
            make(**of_components, **plain["family"]),
            arrays["coefficients"],
            float(plain["prior_scale"]),
        )
        return cls(
            np.array(plain["classes"], dtype=plain["classes_dtype"]),
            parameters,
            Scaling(arrays["feature_means"], arrays["feature_scales"]),
            plain["components"],
            bool(plain["own"]),
            int(plain["n_covariates"]),
            int(plain["total"]),
        )
