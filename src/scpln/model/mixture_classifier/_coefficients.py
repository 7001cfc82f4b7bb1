"""Coefficients of the classifiers on the scale of the features as they are given, with Wald errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import norm

from scpln.inference.classifiers import coefficient_covariance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scpln.inference.classifiers import ClassifierData, Run, Scaling

    Floats = NDArray[np.float64]

#: Coefficients in all up to which errors are computed: 32 MB.
MOST = 2000


def standard_errors(run: Run, data: ClassifierData, scaling: Scaling) -> Floats:
    """Of intercepts and slopes (K × R × (1 + f)) as they are given; NaN of more than 2,000, or where the information is singular."""
    parameters = run.parameters
    shape = parameters.coefficients.shape
    missing = np.full(shape, np.nan)
    if parameters.coefficients.size > MOST:
        return missing
    try:
        covariance = coefficient_covariance(parameters, data, run.responsibilities)
    except np.linalg.LinAlgError:
        return missing
    f = shape[2]
    to_given = np.diag(np.r_[1.0, 1 / scaling.scale])
    to_given[0, 1:] = -scaling.mean / scaling.scale
    blocks = [covariance[at : at + f, at : at + f] for at in range(0, len(covariance), f)]
    return np.array([np.sqrt(np.diag(to_given @ each @ to_given.T)) for each in blocks]).reshape(shape)


def coefficient_table(coefficients: Floats, errors: Floats, classes: NDArray, features: Sequence[str]) -> pd.DataFrame:
    """A row for each component, class and feature: ``coefficient``, ``se``, ``z`` and ``p_value`` (two-sided)."""
    rows = coefficients.shape[1]
    index = pd.MultiIndex.from_product(
        [range(len(coefficients)), list(classes)[-rows:], ["(Intercept)", *features]],
        names=["component", "class", "feature"],
    )
    table = pd.DataFrame({"coefficient": coefficients.ravel(), "se": errors.ravel()}, index=index)
    table["z"] = table["coefficient"] / table["se"]
    table["p_value"] = 2 * norm.sf(table["z"].abs())
    return table
