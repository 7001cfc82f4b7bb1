"""Arguments of a mixture classifier, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from sklearn.utils import check_random_state

from scpln.inference.classifiers import COMPONENTS, COVARIANCES, FitOptions
from scpln.utils import in_range, one_of, positive_integer, positive_number

from ._choice import Criterion

if TYPE_CHECKING:
    from collections.abc import Mapping


def fit_options(given: Mapping[str, Any]) -> FitOptions:
    """How a model with these arguments is fitted.

    Raises
    ------
    TypeError, ValueError
        One of them is of another type, out of range, or not among its choices.
    """
    one_of("components", given["components"], COMPONENTS)
    one_of("covariance", given["covariance"], COVARIANCES)
    one_of("criterion", given["criterion"], get_args(Criterion))
    one_of("features", given["features"], ("auto", "covariates"))
    if given["n_components"] is not None:
        positive_integer("n_components", given["n_components"])
    positive_integer("max_components", given["max_components"])
    scale, ridge = given["concentration_scale"], in_range("ridge", given["ridge"], 0)
    scale = scale if scale == np.inf else positive_number("concentration_scale", scale)
    is_gaussian = given["components"] == "gaussian"
    return FitOptions(
        components=given["components"],
        family={"covariance": given["covariance"], "ridge": ridge} if is_gaussian else {"scale": float(scale)},
        prior_scale=positive_number("prior_scale", given["prior_scale"]),
        n_starts=positive_integer("n_init", given["n_init"]),
        max_steps=positive_integer("max_iter", given["max_iter"]),
        tol=positive_number("tol", given["tol"]),
        seed=_seed(given["random_state"]),
    )


def _seed(random_state: Any) -> int:
    """The seed; of None one that nobody knows; of a generator of scikit-learn's kind, its next number."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return positive_integer("random_state", random_state, least=0)
    return int(check_random_state(random_state).randint(2**31 - 1))
