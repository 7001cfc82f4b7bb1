"""A plane in which components and labels lie apart, and what a fitted classifier says there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from scpln.inference.classifiers import (
    MISSING,
    ClassifierData,
    Scaling,
    component_probabilities,
    family,
    log_class_probabilities,
)

from ._data import check_covariates, codes_of, features_of

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from ._mixture_classifier import MixtureClassifier

    Floats = NDArray[np.float64]

#: Points of the grid along each side, and how far it goes beyond the rows, as a share of their range.
_SIDE, _MARGIN = 80, 0.06
#: Share of all variance that is added to the variance between groups, so that a second axis has a direction.
_ALL = 1e-3


@dataclass(frozen=True)
class Plane:
    """Where rows, components and borders are.

    Attributes
    ----------
    coordinates
        Of the rows (n × 2).
    means, covariances
        Of the components' rows there (K × 2, K × 2 × 2).
    x, y
        Grid.
    probabilities
        p(label) on the grid (y × x × C), at the place in all dimensions that rows there have by linear regression.
    is_exact
        Whether there are no other dimensions.
    """

    coordinates: Floats
    means: Floats
    covariances: Floats
    x: Floats
    y: Floats
    probabilities: Floats
    is_exact: bool


def plane_of(model: MixtureClassifier, x: Floats, labels: Any, covariates: Any = None) -> Plane | None:
    """The plane of a fitted model and its rows; None of a single column.

    Of an embedding with two columns it is that itself. Of more, its axes are those along which means of groups (components and labels) differ most, relative to
    the variance within groups, as in discriminant analysis.

    Parameters
    ----------
    model
        Fitted classifier.
    x, labels, covariates
        Rows, labels (None where one is missing) and covariates.
    """
    check_is_fitted(model)
    fitted = model._fitted
    given = check_covariates(covariates, len(x), fitted.n_covariates)
    codes = codes_of(labels, fitted.classes, len(x))
    share = component_probabilities(fitted.parameters, fitted.data(x, given, codes))
    own = features_of(x, np.empty((len(x), 0)), fitted.components, own=True)
    if own.shape[1] < 2:
        return None
    is_exact = fitted.components == "gaussian" and own.shape[1] == 2
    scaling = Scaling.of(own, np.ones(len(x)))
    scaled = scaling.design(own)[:, 1:]
    coordinates = (
        own if is_exact else scaled @ _axes(scaled, share.argmax(1) * (len(fitted.classes) + 1) + codes - MISSING)
    )
    low, high = coordinates.min(0), coordinates.max(0)
    margin = _MARGIN * np.where(high > low, high - low, 1.0)
    sides = [np.linspace(a - m, b + m, _SIDE) for a, b, m in zip(low, high, margin, strict=True)]
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    places = points if is_exact else _lifted(points, coordinates, scaled, scaling)
    weights = share / np.maximum(share.sum(0), 1e-300)
    means = weights.T @ coordinates
    off = coordinates[:, None] - means
    return Plane(
        coordinates,
        means,
        np.einsum("nk,nki,nkj->kij", weights, off, off),
        sides[0],
        sides[1],
        _probabilities(model, places, given.mean(0)).reshape(_SIDE, _SIDE, -1),
        is_exact,
    )


def _axes(scaled: Floats, group: NDArray[np.intp]) -> Floats:
    """Two directions (p × 2) that solve (B + 10⁻³ T) v = λ W v, with variances between groups, in all, and within."""
    numbers = np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    means = np.array([scaled[numbers == number].mean(0) for number in range(len(sizes))])
    between = means.T @ (sizes[:, None] * means) / len(scaled)
    everything = scaled.T @ scaled / len(scaled)
    within = everything - between + 1e-3 * np.eye(len(everything))
    vectors = eigh(between + _ALL * everything, within)[1][:, :-3:-1]
    return vectors * np.where(vectors.sum(0) < 0, -1.0, 1.0)


def _lifted(points: Floats, coordinates: Floats, scaled: Floats, scaling: Scaling) -> Floats:
    """Features at points of the plane, by regression of the rows' features on their coordinates."""
    centre = coordinates.mean(0)
    slopes = np.linalg.lstsq(coordinates - centre, scaled, rcond=None)[0]
    return scaling.mean + scaling.scale * ((points - centre) @ slopes)


def _probabilities(model: MixtureClassifier, places: Floats, covariates: Floats) -> Floats:
    """p(label) where features of x have these values: of compositions, log-ratios of shares."""
    fitted = model._fitted
    x = places if fitted.components == "gaussian" else softmax(places, axis=1)
    if fitted.components == "dirichlet":
        x = np.maximum(x, 1e-300)
    own = places if fitted.own else places[:, :0]
    features = np.column_stack([own, np.broadcast_to(covariates, (len(places), len(covariates)))])
    if fitted.components == "dirichlet_multinomial":
        x = x * fitted.total
    statistics = family(fitted.components).statistics(x)
    nobody = np.full(len(places), MISSING)
    data = ClassifierData(
        statistics, fitted.scaling.design(features), nobody, np.ones(len(places)), len(fitted.classes)
    )
    return np.exp(log_class_probabilities(fitted.parameters, data))
