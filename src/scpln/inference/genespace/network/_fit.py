"""Fit Poisson log-normal models whose precision is sparse, and choose one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace._fit import fit_pln
from scpln.inference.genespace._infer import FAMILIES, MAX_STEPS, TOLERANCE, posteriors_of
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace._result import PLNResult
from scpln.inference.genespace.terms import terms_of
from scpln.inference.newton._convergence import judged
from scpln.module.covariances import Diagonal, SparsePrecision
from scpln.train import torch_threads

from ._path import MOST_MORE, penalty_grid, solve_path
from ._penalized import PenalizedProfile
from ._stability import INSTABILITY, subsamples, with_stability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scpln.core import Array, CountData
    from scpln.inference.genespace._infer import PosteriorName
    from scpln.module import Likelihood

    from ._path import Network

Rule: TypeAlias = Literal["bic", "ebic", "stars"]
RULES: tuple[Rule, ...] = get_args(Rule)
#: Columns of the table of a path.
COLUMNS = ("penalty", "n_edges", "bound", "bic", "ebic", "stability", "converged", "reason")
#: How much more exactly the fit without edges is made, on which the first penalty depends, and less exactly those of subsamples.
WITHOUT_EDGES, LOOSER = 1e-2, 10.0
#: How a network is chosen of penalties that are given.
DEFAULT_RULE: Rule = "ebic"


@dataclass(frozen=True, kw_only=True)
class NetworkResult(PLNResult):
    """A fitted model with a sparse precision, and what was found at all penalties.

    Attributes
    ----------
    penalty
        λ of this model.
    path
        Columns of a table with a row for each penalty, from the largest down: `"penalty"`, `"n_edges"`, `"bound"` (the sum over cells, nats),
        `"bic"`, `"ebic"`, `"stability"`, `"converged"` and `"reason"`. What was not computed is NaN.
    """

    penalty: float
    path: dict[str, list]


def fit_network(
    data: CountData,
    penalty: float | Sequence[float] | Rule,
    *,
    likelihood: Likelihood | None = None,
    posterior: PosteriorName = "fullrank",
    prior_precision: float = 1e-2,
    max_iter: int = 1000,
    tol: float = 1e-5,
    seed: int = 0,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> NetworkResult:
    r"""Fit a Poisson log-normal model whose precision Ω is sparse: a network of genes [1]_.

    What is maximised is the bound of `fit_pln`, less

    .. math:: n \lambda \sum_{j \ne k} |\Omega_{jk}|.

    Between graphical lassos, which find edges, quasi-Newton steps in B and the entries of Ω with edges find their values. Several penalties
    are gone through from the largest down, each from where the one before ended.

    Parameters
    ----------
    data
        Counts, offsets and design.
    penalty
        λ, one number above 0; or several; or the rule by which one of 30 is chosen, from the smallest that leaves no edge to a tenth of it, and of up to 30 below these while the last is the best (to a
        hundredth): `"bic"`, `"ebic"` with γ = ½, or `"stars"`, the smallest at which 20 subsamples agree (β = 0.05). Of several that are given, `"ebic"` chooses.
    likelihood, posterior, prior_precision
        As in `fit_pln`.
    max_iter, tol
        As in `fit_pln`, for each penalty.
    seed
        Of the subsamples.
    n_threads
        Threads; all available ones when None.
    on_iteration
        As in `fit_pln`. An interrupt ends the path, and what it has is chosen from.

    Raises
    ------
    ValueError
        Sizes do not match, offsets are not finite, or `penalty` is none of these.

    References
    ----------
    .. [1] Chiquet, Robin and Mariadassou (2019), Variational inference for sparse network reconstruction from count data. ICML, PMLR 97, 1162-1171.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace.network import fit_network
    >>> random = np.random.default_rng(0)
    >>> precision = np.eye(4) + np.diag([-0.4, -0.4, -0.4], 1) + np.diag([-0.4, -0.4, -0.4], -1)
    >>> log_rates = 2 + random.multivariate_normal(np.zeros(4), np.linalg.inv(precision), size=400)
    >>> data = CountData(random.poisson(np.exp(log_rates)), np.zeros(400), np.ones((400, 1)))
    >>> result = fit_network(data, 0.15)
    >>> first, second = result.covariance.edges
    >>> first.tolist(), second.tolist()
    ([0, 1, 2], [1, 2, 3])
    """
    penalties = None if isinstance(penalty, str) else checked_penalties(penalty)
    rule = checked_rule(penalty) if isinstance(penalty, str) else DEFAULT_RULE
    observations = Observations.of(data)
    n, p = observations.shape
    start = fit_pln(
        data,
        Diagonal(p),
        likelihood=likelihood,
        posterior=posterior,
        prior_precision=prior_precision,
        max_iter=max_iter,
        tol=WITHOUT_EDGES * tol,
        n_threads=n_threads,
    )
    with threads(n_threads) as pool, torch_threads(1):

        def profile_of(some: Observations) -> PenalizedProfile:
            covariance = SparsePrecision(p)
            covariance.restore({"precision": start.covariance.precision})
            posteriors = FAMILIES[posterior](some, terms_of(some, start.likelihood))
            return PenalizedProfile(start.coefficients, covariance, posteriors, prior_precision, pool)

        profile = profile_of(observations)
        profile.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
        networks: list[Network] = []
        wanted: Iterable[float]
        if penalties is not None or rule == "stars":
            wanted = penalty_grid(profile) if penalties is None else penalties
        else:
            wanted = _extended(penalty_grid(profile), networks, rule, n, p)
        some = islice(wanted, 1 if start.interrupted else None)
        networks, interrupted = _collected(solve_path(profile, some, max_iter, tol, on_iteration), networks)
        if rule == "stars" and len(networks) > 1 and not interrupted:
            parts = [profile_of(observations.take(cells)) for cells in subsamples(n, seed)]
            stable, interrupted = _collected(with_stability(networks, parts, max_iter, LOOSER * tol))
            networks[: len(stable)] = stable
        with hold_interrupts() as held:
            chosen = choose(networks, rule, n, p)
            profile.penalize(chosen.penalty)
            profile.return_to(chosen.place)
            profile.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
    held.pressed |= interrupted or start.interrupted
    cells = posteriors_of(profile.posteriors)
    converged, reason = judged(chosen.converged, held.after(chosen.reason), cells.elbo)
    return NetworkResult(
        **vars(cells),
        coefficients=profile.coefficients,
        covariance=profile.covariance,
        likelihood=profile.posteriors.terms.likelihood,
        history=chosen.history.lists,
        converged=converged,
        reason=reason,
        penalty=chosen.penalty,
        path=_table(networks, n, p),
    )


def checked_penalties(penalty: float | Sequence[float]) -> Array:
    """Penalties from the largest down, each once, after checking that they may be some."""
    try:
        penalties = np.atleast_1d(np.asarray(penalty, np.float64))
    except (TypeError, ValueError):
        penalties = np.empty(0)
    if penalties.ndim != 1 or not len(penalties) or not np.isfinite(penalties).all() or not (penalties > 0).all():
        msg = f"penalty={penalty!r}, but it must be a number above 0, several, or one of {', '.join(map(repr, RULES))}."
        raise ValueError(msg)
    return np.unique(penalties)[::-1]


def checked_rule(rule: str) -> Rule:
    """A rule, after checking that it is one."""
    if rule not in RULES:
        msg = f"penalty={rule!r}, but it must be a number above 0, several, or one of {', '.join(map(repr, RULES))}."
        raise ValueError(msg)
    return rule


def choose(networks: list[Network], rule: Rule, n_cells: int, n_genes: int) -> Network:
    """The network that a rule chooses of those of a path that did not diverge; without stability, `"ebic"` stands in for `"stars"`."""
    sound = [network for network in networks if not network.diverged]
    if not sound:
        return networks[0]
    known = [network for network in sound if np.isfinite(network.stability)]
    if rule == "stars" and known:
        stable = [network for network in known if network.stability >= 1 - 2 * INSTABILITY]
        return stable[-1] if stable else known[0]
    if rule == "bic":
        return max(sound, key=lambda network: network.bic(n_cells))
    return max(sound, key=lambda network: network.ebic(n_cells, n_genes))


def _extended(grid: Array, networks: list[Network], rule: Rule, n_cells: int, n_genes: int) -> Iterator[float]:
    """The penalties of a grid, and smaller ones in its ratio as long as the last network that was found is the best."""
    yield from grid
    for number in range(1, MOST_MORE + 1):
        if not networks or choose(networks, rule, n_cells, n_genes) is not networks[-1]:
            return
        yield float(grid[-1] * (grid[-1] / grid[0]) ** (number / (len(grid) - 1)))


def _collected(path: Iterator[Network], networks: list[Network] | None = None) -> tuple[list[Network], bool]:
    """Networks of a path, added to others, of which an interrupt leaves those that are done, and whether there was one."""
    networks = [] if networks is None else networks
    try:
        for network in path:
            networks.append(network)
    except KeyboardInterrupt:
        return networks, True
    return networks, any("interrupted" in network.reason for network in networks)


def _table(networks: list[Network], n_cells: int, n_genes: int) -> dict[str, list]:
    """Columns of what was found."""
    columns: dict[str, list] = {
        name: [getattr(network, name) for network in networks]
        for name in ("penalty", "n_edges", "bound", "stability", "converged", "reason")
    }
    columns["bic"] = [network.bic(n_cells) for network in networks]
    columns["ebic"] = [network.ebic(n_cells, n_genes) for network in networks]
    return {name: columns[name] for name in COLUMNS}
