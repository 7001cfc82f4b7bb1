"""New cells that the model finds next to impossible: their posteriors are the optimum, or they are named."""

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats

from scpln.inference import CountData, describe_stuck, elbo, gaussian_elbo, infer, infer_gaussians
from scpln.inference.newton import _retry, _states
from scpln.inference.newton._families import FAMILIES
from scpln.inference.newton._retry import Retry
from scpln.inference.newton._states import CellStates
from scpln.module import make_likelihood

P, Q, NODES = 12, 2, 48
LIKELIHOODS = ["poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli", "gaussian"]
DISPERSION, GATE, SD = 2.0, 0.1, 0.7


def likelihood_of(name):
    likelihood = make_likelihood(name, P)
    values = {"log_inverse_dispersion": np.log(DISPERSION), "gate_logits": special.logit(GATE), "log_sd": np.log(SD)}
    values["sd_logits"] = -2.0
    with torch.no_grad():
        for key, parameter in likelihood.named_parameters():
            parameter.fill_(values[key.removeprefix("base.")])
    return likelihood


def log_prob(name, y, eta):
    """Log-probabilities by SciPy, in float64; log-rates grow like a logarithm beyond 25, as the likelihoods define them."""
    if name == "gaussian":
        return stats.norm.logpdf(y, eta, SD)
    if name != "poisson":
        eta = np.where(eta > 25, 25 + np.log1p(np.maximum(eta - 25, 0)), eta)
    if name == "bernoulli":
        rate = np.exp(eta)
        return np.where(y > 0, np.log(-np.expm1(-rate) + 1e-300), -rate)
    if name == "poisson_lognormal":  # its integral, compared with SciPy's in tests/module
        return likelihood_of(name).double().log_prob(torch.as_tensor(eta), torch.as_tensor(y)).detach().numpy()
    if "nb" in name:
        values = stats.nbinom.logpmf(y, DISPERSION, DISPERSION / (DISPERSION + np.exp(eta)))
    else:
        values = y * eta - np.exp(eta) - special.gammaln(y + 1)
    if not name.startswith("zi"):
        return values
    some = np.log1p(-GATE) + values
    return np.where(y == 0, np.logaddexp(np.log(GATE), some), some)


def optimum(name, y, b, c, start):
    """Largest bound of a cell over N(m, L Lᵀ), by BFGS and quadrature, from a few starting points."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()

    def negative(x):
        scale = np.array([[np.exp(x[2]), 0], [x[3], np.exp(x[4])]])
        spread = np.sqrt(((c @ scale) ** 2).sum(1))
        eta = b + c @ x[:2] + nodes[:, None] * spread
        kl = 0.5 * (x[:2] @ x[:2] + (scale**2).sum() - Q) - x[2] - x[4]
        return kl - (weights @ log_prob(name, y, eta)).sum()

    with np.errstate(all="ignore"):
        found = [optimize.minimize(negative, [*m, -1, 0, -1], method="BFGS") for m in start]
    return -min(result.fun for result in found)


def make_data(name):
    """Cells of the model, and one that lacks two genes that all others have."""
    random = np.random.default_rng(0)
    b, c = random.normal(size=P), random.normal(size=(P, Q)) / 2
    if name == "bernoulli":
        b[:3], c[:3] = 57.0, [[18.0, 2.2], [-2.2, 18.0], [13.5, 13.5]]
    else:
        b[:3], c[:3] = [6.0, 5.0, 6.5], [[4.0, 0.5], [-0.5, 4.0], [2.0, 2.0]]
    z = random.normal(size=(5, Q))
    eta = b + z @ c.T
    if name == "gaussian":
        y = eta + SD * random.normal(size=eta.shape)
    else:
        y = random.poisson(np.exp(np.minimum(eta, 9)))
        y = np.minimum(y, 1) if name == "bernoulli" else y
    y[-1, :3] = [0, 0, 1]
    if name == "bernoulli":
        y[-1, 3:] = (np.random.default_rng(1).random(P) < 0.5)[3:]
    return CountData(y.astype(float), np.zeros(len(y)), np.ones((len(y), 1))), b[:, None], c


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_new_cells_reach_an_independent_optimum(name):
    data, b, c = make_data(name)
    likelihood = likelihood_of(name)
    mean, covariance = infer_gaussians(data, b, c, likelihood, n_threads=1)
    bound = gaussian_elbo(data, b, c, likelihood, mean, covariance, n_threads=1)
    for i, y in enumerate(data.counts):
        start = [np.zeros(Q), mean[i], np.array([-3.0, -3.0])]
        best = optimum(name, y, b[:, 0], c, start)
        assert bound[i] == pytest.approx(best, abs=0.05, rel=1e-4), i  # posteriors are found with 12 nodes


def test_cells_whose_every_float32_step_is_refused_are_found_in_float64(monkeypatch):
    retried = []
    original = _retry.Retry.run

    def run(self, cells, stuck):
        retried.append((cells.dtype, *stuck))
        return original(self, cells, stuck)

    monkeypatch.setattr(_retry.Retry, "run", run)
    monkeypatch.setattr(_states, "LARGEST_START", np.inf)  # from where float32 finds no way
    data, b, c = make_data("bernoulli")
    infer_gaussians(data, b, c, likelihood_of("bernoulli"), n_threads=1)
    assert retried == [(np.float32, 4)]


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_large_loadings_are_no_obstacle(posterior):
    """Where loadings are 30, as of maximum likelihood, rates at the start must not be out of reach of all steps."""
    random = np.random.default_rng(0)
    c = random.normal(0, 0.3, (200, 4))
    c[:20] = random.normal(0, 15, (20, 4))
    b = np.full((200, 1), -1.0)
    b[:20] = -25.0
    counts = random.poisson(np.exp(np.minimum(b[:, 0] + random.normal(size=(30, 4)) @ c.T, 3.0)))
    data = CountData(counts, np.zeros(30), np.ones((30, 1)))
    together = elbo(data, b, c, *infer(data, b, c, posterior=posterior, n_threads=1))
    alone = []
    for cell in range(30):
        one = data.subset(np.array([cell]))
        alone += list(elbo(one, b, c, *infer(one, b, c, posterior=posterior, n_threads=1)))
    np.testing.assert_allclose(together, alone, atol=1e-2)
    assert together.min() > -3000


@pytest.mark.parametrize("name", ["poisson", "bernoulli"])
def test_cells_that_do_not_converge_are_named(name, monkeypatch):
    monkeypatch.setattr("scpln.inference.newton.poisson._infer.MAX_STEPS", 1)
    monkeypatch.setattr("scpln.inference.newton.general._infer.MAX_STEPS", 1)
    data, b, c = make_data(name)
    with pytest.warns(
        UserWarning, match=r"posteriors of 5 of 5 cells did not converge, in float64 either: 0, 1, 2, 3, 4\."
    ):
        infer_gaussians(data, b, c, likelihood_of(name), n_threads=1)


def test_the_message_names_cells():
    message = describe_stuck(np.arange(6), 1000, [f"cell {i}" for i in range(1000)])
    assert message.startswith("The posteriors of 6 of 1,000 cells did not converge")
    assert "'cell 0', 'cell 1', 'cell 2', 'cell 3', 'cell 4', …. Do not rely" in message


def test_a_second_attempt_replaces_nothing_by_what_is_no_number():
    """Of four cells, the new bounds of two are better; NaN is better than nothing, and nothing is better than NaN."""
    data = CountData(np.ones((4, 2), np.float32), np.zeros(4), np.ones((4, 1)))
    family = FAMILIES["fullrank"](1)
    cells = CellStates.at(np.full((4, 1), 7.0), family, 1.0, np.float64)
    old, new = np.array([-5.0, np.nan, -5.0, np.nan]), np.array([np.nan, -5.0, -4.0, np.nan])

    def move(_part, states):
        states.mean[:] = 3.0
        return np.empty(0, np.intp)

    def bound(_part, mean, _covariance):
        return new if mean[0, 0] == 3.0 else old

    left = Retry(data, family, move, bound, 0.1, None).run(cells, np.arange(4))
    assert not len(left)
    assert cells.mean[:, 0].tolist() == [7.0, 3.0, 3.0, 7.0]
