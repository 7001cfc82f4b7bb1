"""Fit the Poisson log-normal model of counts on a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import hold_interrupts, threads
from scpln.inference.genespace._infer import MAX_STEPS, TOLERANCE
from scpln.inference.genespace._maximize import CLOSED_STEPS, CLOSED_TOLERANCE, STEPS_FROM_GUESS, Maximizer
from scpln.inference.genespace._observations import UNSEEN_RATE
from scpln.inference.newton._convergence import History, finite_mean, judged
from scpln.module.covariances import Chain
from scpln.train import torch_threads

from ._infer import TreeStates, observe, states_of
from ._posteriors import PSEUDO_COUNT, TreePosteriors
from ._profile import LevelProfile, TreeProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData, TreeContrasts
    from scpln.inference.genespace._observations import Observations

#: Samples that the prior of the covariance counts for, by default.
SHRINKAGE = 20.0
#: Steps of expectation maximisation for the variances that the prior says levels have.
STEPS = 10


@dataclass(frozen=True)
class TreeResult(TreeStates):
    """A fitted model, with the posteriors of its samples.

    Attributes
    ----------
    coefficients
        B (p, d).
    chain
        Σ of all levels.
    history
        Lists with one entry per iteration: `"elbo"` (mean bound per sample, nats), `"objective"` (with the log-priors of coefficients and
        covariance, which is what is maximised) and `"seconds"` since the start.
    converged, reason
        Whether the bound stopped rising, and why the fit stopped, in words.
    """

    coefficients: Array
    chain: Chain
    history: dict[str, list[float]]
    converged: bool
    reason: str


def fit_pln_tree(
    data: CountData,
    contrasts: TreeContrasts,
    *,
    shrinkage: float = SHRINKAGE,
    prior_precision: float = 1e-2,
    max_iter: int = 1000,
    tol: float = 1e-4,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> TreeResult:
    r"""Fit the Poisson log-normal model of counts on a tree.

    .. math:: u_i \sim N(B x_i, \Sigma), \quad y_{i,\text{top}} \sim \text{Poisson}(e^{o_i + u_{i,\text{top}}}), \quad
        y_{i,\text{children of } v} \sim \text{Multinomial}(y_{iv}, \text{softmax}(H u_{iv}))

    with coordinates u of the tree (`TreeContrasts`) and a Markov chain over its levels (`Chain`). Since a Poisson count splits into independent ones, leaves are
    Poisson with log-rates that are sums along the tree; with one level this is the model of `scpln.inference.genespace.fit_pln` with any covariance.
    What is maximised is the bound over posteriors :math:`N(m_i, V_i)`, B and Σ, as there, with expected log-sum-exps bounded
    (`tilted_log_sum_exp`), plus log-priors of B and Σ.

    Parameters
    ----------
    data
        Counts of the leaves, one offset of each sample, and design.
    contrasts
        The tree, with leaves in the order of the columns of the counts.
    shrinkage
        ν of the conjugate prior of Σ, :math:`-\frac\nu2 [\log\det\Sigma + \text{tr}\, \Sigma^{-1} D]`: as much as ν samples say
        whose coordinates have no correlations, and one variance in each level, D, which is estimated first. 0 for none, with which Σ of few samples is singular.
    prior_precision
        λ of a prior N(0, 1/λ) of all coefficients but the intercepts.
    max_iter
        Most iterations.
    tol
        Converged when an iteration gains less than this, nats per sample, averaged over ten.
    n_threads
        Threads; all available ones when None.
    on_iteration
        Called with the number of iterations and the mean bound per sample. An interrupt (Ctrl-C) ends the iterations and keeps what
        they reached.

    Raises
    ------
    ValueError
        Sizes do not match, offsets are not those of samples or not finite, or `shrinkage` or `prior_precision` is negative.

    References
    ----------
    Chaussard, Bonnet, Gassiat and Le Corff (2025), Tree-based variational inference for Poisson log-normal models. Statistics and Computing 35, 135.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.core import CountData, Tree, TreeContrasts
    >>> from scpln.inference.tree import fit_pln_tree
    >>> contrasts = TreeContrasts(Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c"), ("b", "d")]), ["a", "c", "d"])
    >>> random = np.random.default_rng(0)
    >>> coordinates = [3, 3, 0] + random.multivariate_normal(
    ...     np.zeros(3), [[1, 0, 0], [0, 1, 0.8], [0, 0.8, 1]], size=500
    ... )
    >>> counts = random.poisson(np.exp(contrasts.log_rates(coordinates)))
    >>> result = fit_pln_tree(CountData(counts, np.zeros(500), np.ones((500, 1))), contrasts)
    >>> result.converged, result.chain.dense[1:, 1:].round(1)  # a little less than 1 and 0.8
    (True, array([[1. , 0.7],
           [0.7, 0.9]]))
    """
    for name, value in (("shrinkage", shrinkage), ("prior_precision", prior_precision)):
        if not value >= 0:
            msg = f"{name}={value!r}, but must be 0 or more."
            raise ValueError(msg)
    chain, history = Chain(contrasts.level_sizes), History()
    observations = observe(data, contrasts, chain)
    with threads(n_threads) as pool, torch_threads(1):
        posteriors = TreePosteriors(observations, contrasts)
        coefficients = _start(observations, posteriors.terms.nodes, contrasts)
        levels = LevelProfile(coefficients, chain, posteriors, prior_precision, pool)
        with hold_interrupts():
            for _ in range(STEPS):
                levels.settle(max_steps=STEPS_FROM_GUESS, tol=CLOSED_TOLERANCE)
                levels.maximize_given_posteriors()
        target = np.diagonal(chain.dense).copy()
        profile = TreeProfile(levels.coefficients, chain, posteriors, prior_precision, pool, shrinkage, target)
        maximizer = Maximizer(profile, history, max_iter, tol, on_iteration)
        maximizer.run(CLOSED_STEPS)
        with hold_interrupts() as held:
            profile.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
        states = states_of(posteriors)
    if not history.elbo:
        history.add(finite_mean(states.elbo), profile.objective / len(states.elbo))
    converged, reason = judged(maximizer.converged, held.after(maximizer.reason), states.elbo)
    return TreeResult(
        **vars(states),
        coefficients=profile.coefficients,
        chain=chain,
        history=history.lists,
        converged=converged,
        reason=reason,
    )


def _start(observations: Observations, nodes: Array, contrasts: TreeContrasts) -> Array:
    """B with the log-rates and log-ratios of all samples together as intercepts, and no effects."""
    total, top = nodes.sum(0), contrasts.top - 1
    z = np.log(total + PSEUDO_COUNT)
    exposure = np.exp(observations.offsets).sum()
    z[top] = np.log(np.maximum(total[top] / exposure, UNSEEN_RATE))
    coefficients = np.zeros((contrasts.n_leaves, observations.design.shape[1]))
    coefficients[:, 0] = z @ contrasts.matrix
    return coefficients
