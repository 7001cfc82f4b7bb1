"""Rows of hidden kinds, each with its own place and its own linear rule for the label, with everything they were drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import expit, gammaln, softmax

from scpln.utils import LARGEST_SEED, as_bool, one_of, positive_integer, positive_number

from ._simulate import names_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Kind = Literal["gaussian", "dirichlet", "dirichlet_multinomial"]

#: Of the published sets: means and standard deviations, and concentrations, of two components.
_MEANS, _DEVIATIONS = [[-1.0, -2.0], [5.0, 3.0]], [[1.0, 1.5], [2.0, 1.0]]
_CONCENTRATIONS = [[5.0, 3.0, 20.0], [15.0, 4.0, 2.0]]


def simulate_mixture_classifier(
    n_obs: int = 1000,
    *,
    components: Kind = "gaussian",
    n_components: int = 2,
    n_vars: int | None = None,
    scale: float = 1.0,
    standardize: bool = False,
    total: int = 1000,
    n_donors: int = 10,
    seed: int = 0,
) -> AnnData:
    r"""Draw rows and labels from a mixture of linear classifiers, and keep the truth beside them.

    .. math:: z_i \sim π, \quad x_i \mid z_i = k \sim f_k, \quad y_i \mid x_i, z_i = k \sim \mathrm{Bernoulli}(σ(b_k + w_k \cdot φ(x_i))),
        \quad b_k, w_{kj} \sim N(0, 1).

    With two components and the default number of columns they are those of the published sets [1]_: Gaussians at (−1, −2) and (5, 3), with standard
    deviations (1, 1.5) and (2, 1), or Dirichlet distributions of (5, 3, 20) and (15, 4, 2). Others are drawn.

    **Too small a scale.** As published, φ(x) = x (of counts, their shares). If means and standard deviations are small (`scale` of 0.1, or proportions, which are below 1), all logits are
    near to b_k, labels within a component are nearly coins, and no classifier predicts them. Under `standardize`, φ_k has mean 0 and variance 1 in component k, whatever
    the scale; the rule stays linear in x.

    Parameters
    ----------
    n_obs
        Rows n.
    components
        f: ``"gaussian"``, ``"dirichlet"``, or ``"dirichlet_multinomial"``, counts of such proportions.
    n_components
        K, with equal π.
    n_vars
        Columns p; by default 2 of Gaussians, and 3 parts of compositions.
    scale
        Factor of the means and standard deviations of Gaussians.
    standardize
        Whether labels depend on columns that are on one scale in each component.
    total
        Total of each row, of counts.
    n_donors
        Donors, of which each row has one at random.
    seed
        Same seed, same rows.

    Returns
    -------
    AnnData with rows in ``X``, and the truth in

    ``obs["label"]``, ``obs["component"]``, ``obs["donor"]``
        y (``"control"`` or ``"case"``), z, and donors.
    ``obs["true_probability"]``
        p(y = case | x) under the truth, with z unknown: what predicts best.
    ``uns["truth"]``
        ``weights``, ``means`` and ``deviations`` or ``concentrations``, and ``coefficients`` (K × (1 + p)) of x, or of shares.
    ``uns["simulation"]``
        The arguments.

    Raises
    ------
    ValueError
        A number is out of range.

    References
    ----------
    .. [1] Chaussard (2023), internship report and code, https://github.com/AlexandreChaussard/Stage-Microbiote; its code has labels without noise.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate_mixture_classifier(200, components="dirichlet_multinomial", total=50)
    >>> adata.shape, float(adata.X.sum(1).max()), sorted(adata.obs["label"].unique())
    ((200, 3), 50.0, ['case', 'control'])
    """
    arguments = dict(locals())
    one_of("components", components, get_args(Kind))
    for name in ("n_obs", "n_components", "total", "n_donors"):
        positive_integer(name, arguments[name])
    positive_integer("seed", seed, least=0, most=LARGEST_SEED)
    scale, standardize = positive_number("scale", scale), as_bool("standardize", standardize)
    is_gaussian = components == "gaussian"
    p = positive_integer(
        "n_vars", (2 if is_gaussian else 3) if n_vars is None else n_vars, least=1 if is_gaussian else 2
    )
    random, of_rows = (np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(2))
    truth = _gaussians(random, n_components, p, scale) if is_gaussian else _concentrations(random, n_components, p)
    truth["weights"] = np.full(n_components, 1 / n_components)
    truth["coefficients"] = random.standard_normal((n_components, 1 + p))

    component = of_rows.integers(n_components, size=n_obs)
    is_count = components == "dirichlet_multinomial"
    x = _draw(of_rows, truth, component, total if is_count else None)
    shares = x / total if is_count else x
    if standardize:
        truth["coefficients"] = _of_scaled(truth["coefficients"], shares, component)
    logits = truth["coefficients"][:, 0] + shares @ truth["coefficients"][:, 1:].T
    label = of_rows.random(n_obs) < expit(logits[np.arange(n_obs), component])
    density = np.log(truth["weights"]) + _log_density(x, truth, is_count=is_count)
    adata = AnnData(
        x,
        obs=pd.DataFrame(
            {
                "label": pd.Categorical.from_codes(label.astype(int), ["control", "case"]),
                "component": pd.Categorical(component.astype(str)),
                "donor": pd.Categorical.from_codes(of_rows.integers(n_donors, size=n_obs), names_of("donor", n_donors)),
                "true_probability": (softmax(density, axis=1) * expit(logits)).sum(1),
            },
            index=names_of("row", n_obs),
        ),
        var=pd.DataFrame(index=names_of("column", p)),
    )
    adata.uns["truth"] = truth
    adata.uns["simulation"] = {name: value for name, value in arguments.items() if value is not None}
    return adata


def _gaussians(random: np.random.Generator, n: int, p: int, scale: float) -> dict[str, Any]:
    """Means and standard deviations: the published ones, or others."""
    means, deviations = np.array(_MEANS), np.array(_DEVIATIONS)
    if (n, p) != means.shape:
        means, deviations = random.normal(0.0, 4.0, (n, p)), random.uniform(0.8, 2.0, (n, p))
    return {"means": scale * means, "deviations": scale * deviations}


def _concentrations(random: np.random.Generator, n: int, p: int) -> dict[str, Any]:
    """Concentrations: the published ones, or others."""
    found = np.array(_CONCENTRATIONS)
    return {"concentrations": found if found.shape == (n, p) else 0.5 + random.gamma(1.0, 5.0, (n, p))}


def _of_scaled(coefficients: Floats, shares: Floats, component: NDArray[np.intp]) -> Floats:
    """Coefficients of columns that have mean 0 and variance 1 in each component, as coefficients of the columns themselves."""
    found = coefficients.copy()
    for k in np.unique(component):
        mine = shares[component == k]
        found[k, 1:] /= np.maximum(mine.std(0), 1e-12)
        found[k, 0] -= found[k, 1:] @ mine.mean(0)
    return found


def _draw(random: np.random.Generator, truth: dict[str, Any], component: NDArray[np.intp], total: int | None) -> Floats:
    """Rows of these components."""
    if "means" in truth:
        noise = random.standard_normal((len(component), truth["means"].shape[1]))
        return truth["means"][component] + truth["deviations"][component] * noise
    draws = random.standard_gamma(truth["concentrations"][component])
    shares = draws / draws.sum(1, keepdims=True)
    return shares if total is None else random.multinomial(total, shares).astype(float)


def _log_density(x: Floats, truth: dict[str, Any], *, is_count: bool) -> Floats:
    """Log f_k(x_i) up to what all components share, n × K."""
    if "means" in truth:
        off = (x[:, None] - truth["means"]) / truth["deviations"]
        return -0.5 * (off**2).sum(2) - np.log(truth["deviations"]).sum(1)
    alpha = truth["concentrations"]
    if not is_count:
        return gammaln(alpha.sum(1)) - gammaln(alpha).sum(1) + np.log(x) @ (alpha - 1).T
    constant = gammaln(alpha.sum(1)) - gammaln(alpha).sum(1) - gammaln(x.sum(1)[:, None] + alpha.sum(1))
    return constant + gammaln(x[:, None] + alpha).sum(2)
