"""Cells with several modalities, and their bound written out gene by gene as an independent reference."""

import numpy as np
import scipy.sparse as sp
import torch

from scpln.inference import ABSENT, CountData
from scpln.module import JointLikelihood, make_likelihood

SIZES = {"poisson": 20, "nb": 12, "bernoulli": 16}
LIKELIHOOD_NAMES = ["poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli"]


def joint(sizes: dict[str, int], seed: int | None = None) -> JointLikelihood:
    """Likelihoods of modalities that are named after them, in double precision; with a seed, genes differ."""
    random = np.random.default_rng(seed)
    likelihood = JointLikelihood({name: make_likelihood(name, p) for name, p in sizes.items()}).double()
    with torch.no_grad():
        for parameter in likelihood.parameters() if seed is not None else ():
            parameter.copy_(torch.from_numpy(random.normal(0.3, 0.5, len(parameter))))
    return likelihood


def draw_joint(
    n: int, q: int, sizes: dict[str, int], *, d: int = 1, seed: int = 0, missing: float = 0.0
) -> tuple[CountData, dict, JointLikelihood]:
    """Counts, what they were drawn from, and likelihoods. A fraction `missing` of cells lacks all but one modality."""
    random = np.random.default_rng(seed)
    likelihood, p = joint(sizes, seed), sum(sizes.values())
    groups = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    truth = {
        "coefficients": np.column_stack([random.normal(0.5, 0.5, p), 0.3 * random.standard_normal((p, d - 1))]),
        "loadings": random.standard_normal((p, q)) * np.linspace(0.7, 0.4, q),
        "latent": random.standard_normal((n, q)),
    }
    design = np.column_stack([np.ones(n), random.standard_normal((n, d - 1))])
    offsets = 0.3 * random.standard_normal((n, len(sizes)))
    lacking = random.random(n) < missing
    kept = random.integers(len(sizes), size=n)
    offsets[lacking[:, None] & (kept[:, None] != np.arange(len(sizes)))] = ABSENT
    eta = offsets[:, groups] + design @ truth["coefficients"].T + truth["latent"] @ truth["loadings"].T
    counts = likelihood.sample(torch.from_numpy(eta), torch.Generator().manual_seed(seed)).numpy()
    return CountData(sp.csr_matrix(counts), offsets, design, groups=groups), truth, likelihood


def take_genes(data: CountData, genes: np.ndarray, cells: np.ndarray | slice = slice(None)) -> CountData:
    """The same cells, or some, with some of the genes; one size factor where these are of one group."""
    groups = data.groups[genes]
    counts, design = sp.csr_matrix(data.counts[cells][:, genes]), data.design[cells]
    if len(np.unique(groups)) == 1:
        return CountData(counts, data.offsets[cells, groups[0]], design)
    return CountData(counts, data.offsets[cells], design, groups=groups)


def log_probability(name: str, y: torch.Tensor, eta: torch.Tensor, parameters: dict) -> torch.Tensor:
    """Log-probability of entries, from textbook formulas; `parameters` are those of the genes on their natural scale."""
    if name == "bernoulli":
        return torch.where(y > 0, torch.log(-torch.expm1(-eta.exp())), -eta.exp())
    if name == "poisson_lognormal":
        t, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(100))
        log_rates = eta[..., None] + parameters["log_rate_sd"][:, None] * t
        terms = y[..., None] * log_rates - log_rates.exp() + (weights / weights.sum()).log()
        return terms.logsumexp(-1) - torch.lgamma(y + 1)
    base = y * eta - eta.exp() - torch.lgamma(y + 1)
    if name in ("nb", "zinb"):
        theta, mu = parameters["inverse_dispersion"], eta.exp()
        base = torch.lgamma(y + theta) - torch.lgamma(theta) - torch.lgamma(y + 1)
        base = base + theta * (theta / (theta + mu)).log() + y * (mu / (theta + mu)).log()
    if name in ("zip", "zinb"):
        pi = parameters["zero_inflation"]
        base = torch.where(y == 0, torch.log(pi + (1 - pi) * base.exp()), torch.log(1 - pi) + base)
    return base


def dense_elbo(
    data: CountData,
    sizes: dict[str, int],
    coefficients: torch.Tensor,
    loadings: torch.Tensor,
    parameters: dict[str, dict],
    mean: torch.Tensor,
    covariance: torch.Tensor,
    n_nodes: int = 40,
) -> torch.Tensor:
    """Bound of each cell, float64, by quadrature for all genes that a cell has, one modality after the other.

    `covariance` is (n, q, q), and `parameters` are by modality and name.
    """
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(n_nodes))
    weights = weights / weights.sum()
    mu = torch.from_numpy(data.design) @ coefficients.T + mean @ loadings.T
    variance = torch.einsum("pa,nab,pb->np", loadings, covariance, loadings)
    counts = torch.from_numpy(data.counts.toarray().astype(float))
    eye = torch.eye(mean.shape[1], dtype=torch.float64)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(mean, covariance),
        torch.distributions.MultivariateNormal(0 * mean[0], eye),
    )
    total, first = -divergence, 0
    for m, (name, p) in enumerate(sizes.items()):
        offsets = torch.from_numpy(data.offsets[:, m])
        has = (offsets > ABSENT).nonzero()[:, 0]
        genes = slice(first, first + p)
        center = mu[has, genes] + offsets[has, None]
        eta = center + variance[has, genes].sqrt() * nodes[:, None, None]
        entries = log_probability(name, counts[has, genes], eta, parameters.get(name, {}))
        expected = (weights[:, None, None] * entries).sum((0, 2))
        total, first = total.index_add(0, has, expected), first + p
    return total
