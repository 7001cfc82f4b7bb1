"""Fit with several starts: short runs, of which the best goes on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ._dirichlet import DirichletComponents
from ._dirichlet_multinomial import DirichletMultinomialComponents
from ._em import maximization, run_em
from ._gaussian import GaussianComponents
from ._logistic import n_rows
from ._model import MixtureParameters
from ._starts import STARTS, start_responsibilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._components import Components
    from ._em import Run
    from ._model import ClassifierData

    Floats = NDArray[np.float64]

ComponentsName = Literal["gaussian", "dirichlet", "dirichlet_multinomial"]
COMPONENTS: tuple[ComponentsName, ...] = get_args(ComponentsName)
_FAMILIES: dict[str, type[Components]] = {
    each.name: each for each in (GaussianComponents, DirichletComponents, DirichletMultinomialComponents)
}
#: Newton steps of classifiers in the first maximisation.
_FIRST_STEPS = 5


@dataclass(frozen=True)
class FitOptions:
    """How a model is fitted.

    Attributes
    ----------
    components
        Family of the components.
    family
        What it is started with: ``covariance`` and ``ridge``, or ``scale``.
    prior_scale
        Standard deviation of the prior of coefficients of scaled features.
    n_starts, n_short
        Starts, and steps of each before the best goes on.
    max_steps, tol
        Of the run that goes on.
    most_rows
        Rows that short runs take, of more.
    seed
        Of the starts.
    """

    components: ComponentsName = "gaussian"
    family: dict[str, Any] = field(default_factory=dict)
    prior_scale: float = 2.5
    n_starts: int = 10
    n_short: int = 20
    max_steps: int = 500
    tol: float = 1e-6
    most_rows: int = 20_000
    seed: int = 0


def family(name: ComponentsName) -> type[Components]:
    """The class of a family of components."""
    return _FAMILIES[name]


def start_parameters(data: ClassifierData, responsibilities: Floats, options: FitOptions) -> MixtureParameters:
    """Parameters at the maximum given responsibilities, or near to it."""
    weighted = responsibilities * data.weights[:, None]
    start: Any = family(options.components)
    components = start.start(data.statistics, weighted, **options.family)
    shape = responsibilities.shape[1], n_rows(data.n_classes), data.features.shape[1]
    sizes = weighted.sum(0)
    empty = MixtureParameters(sizes / sizes.sum(), components, np.zeros(shape), options.prior_scale)
    return maximization(empty, data, responsibilities, steps=_FIRST_STEPS)


def fit_mixture_classifier(
    data: ClassifierData, places: Floats, n_components: int, options: FitOptions | None = None
) -> Run:
    """Fit a mixture of linear classifiers.

    Starts take turns: k-means++ of x, k-means of (x, y), random rows. Each takes a few steps, and the one with the largest penalised log-likelihood goes
    on. Components are ordered by π, the largest first.

    Parameters
    ----------
    data
        Rows.
    places
        What distances between rows are measured in, for the starts (n × d).
    n_components
        K, at most the number of rows.
    options
        How.

    Returns
    -------
    The run, with as many components as were left.

    Raises
    ------
    numpy.linalg.LinAlgError
        The covariance of a component is singular in every start: there is no ridge, or it is too small.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> group = random.integers(2, size=400)
    >>> x = random.standard_normal((400, 2)) + 6 * group[:, None]
    >>> y = (random.random(400) < 1 / (1 + np.exp(-3 * (x[:, 0] - 6 * group) * np.where(group, 1, -1)))).astype(int)
    >>> from scpln.inference.classifiers import ClassifierData
    >>> data = ClassifierData(x, np.column_stack([np.ones(400), x]), y, np.ones(400), 2)
    >>> found = fit_mixture_classifier(data, x, 2)
    >>> found.converged, found.parameters.weights.round(1).tolist()
    (True, [0.6, 0.4])
    >>> np.sign(np.sort(found.parameters.coefficients[:, 0, 1])).tolist()
    [-1.0, 1.0]
    """
    options = options or FitOptions()
    random = np.random.default_rng(options.seed)
    n_starts = options.n_starts if n_components > 1 else 1
    some = np.arange(len(data))
    if len(data) > options.most_rows and n_starts > 1:
        some = np.sort(random.choice(len(data), options.most_rows, replace=False))
    short, of_short = data.subset(some), places[some]
    best, failure = None, None
    for number in range(n_starts):
        kind = STARTS[number % len(STARTS)]
        try:
            first = start_parameters(
                short, start_responsibilities(kind, short, of_short, n_components, random), options
            )
            run = run_em(first, short, max_steps=options.n_short, tol=options.tol)
        except np.linalg.LinAlgError as error:
            failure = error
            continue
        if np.isfinite(run.objective) and (best is None or run.objective > best.objective):
            best = run
    if best is None:
        raise failure or np.linalg.LinAlgError
    return _ordered(_continued(best, data, options))


def _continued(short: Run, data: ClassifierData, options: FitOptions) -> Run:
    run = run_em(short.parameters, data, max_steps=options.max_steps, tol=options.tol)
    joined = run.path
    if len(short.responsibilities) == len(data) and not run.n_dropped:
        joined = np.concatenate([short.path[:-1], run.path])
    return replace(run, path=joined, n_steps=short.n_steps + run.n_steps, n_dropped=short.n_dropped + run.n_dropped)


def _ordered(run: Run) -> Run:
    order = np.argsort(-run.parameters.weights, kind="stable")
    return replace(run, parameters=run.parameters.subset(order), responsibilities=run.responsibilities[:, order])
