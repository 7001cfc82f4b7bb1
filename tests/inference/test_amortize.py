"""Training of flows and encoders: where it starts, what it gains, what stays as it was."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from scpln.inference import (
    CountData,
    NotFiniteError,
    distill_gaussians,
    elbo,
    fit,
    infer_likelihood,
    log_weights,
    refine,
    standardize_context,
    summarize_weights,
    train_approximation,
)
from scpln.module import (
    FLOWS,
    Approximation,
    Batch,
    FlowPosterior,
    GaussianPosterior,
    Generative,
    LinearDecoder,
    PLNPCAModule,
    make_likelihood,
)
from scpln.train import _refine as refining
from scpln.train._amortize import divergence

from .conftest import draw

N, P, Q = 80, 15, 2


@dataclass
class Trained:
    """A module whose parameters are known, with posteriors of its cells that may be trained."""

    data: CountData
    module: PLNPCAModule
    gaussian: GaussianPosterior

    def posterior(self):
        batch = Batch.from_arrays(self.data.counts, self.data.offsets, self.data.design)
        return self.module.compose(*self.module.encode(batch, self.gaussian))

    def bounds(self, n_samples: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ELBO of each cell, its standard error, and the importance-weighted bound."""
        blocks = log_weights(self.data, self.module.generative, self.posterior(), n_samples=n_samples, n_threads=1)
        weights = np.concatenate([weights for _, weights in blocks], axis=1)
        return weights.mean(0), weights.std(0) / np.sqrt(n_samples), summarize_weights(weights).iw_bound

    def train(self, **options) -> None:
        """Train the flow or encoder, and the model too with reestimate=True."""
        approximation = self.module.approximation
        common = {"n_steps": 100, "learning_rate": 4e-3, "batch_size": 512, "seed": 0, "n_threads": 1}
        common |= {name: options.pop(name) for name in list(options) if name in common}
        if approximation.encodes:
            distill_gaussians(self.data, approximation, self.gaussian, **common)
        else:
            standardize_context(self.data, approximation, self.gaussian, common["batch_size"])
        working = copy.deepcopy(self.module.generative).float()
        options = {"n_samples": 4, "n_importance": 1, "reestimate": False, **options}
        train_approximation(self.data, working, approximation, self.gaussian, **common, **options)
        self.module.requires_grad_(False)
        if options["reestimate"]:
            self.module.generative.load_state_dict(working.state_dict())


def make(
    data: CountData,
    loadings: np.ndarray,
    coefficients: np.ndarray,
    gaussian: GaussianPosterior,
    *,
    flow: str | None = None,
    amortized: bool = False,
    diagonal: bool = False,
    likelihood: str = "poisson",
) -> Trained:
    torch.manual_seed(0)
    approximation = Approximation.build(
        data.n_genes,
        data.design.shape[1],
        loadings.shape[1],
        amortized=amortized,
        diagonal=diagonal,
        flow=flow,
        n_transforms=None,
        flow_hidden=(16,),
        encoder_hidden=(32, 32),
    )
    model = Generative(LinearDecoder(coefficients, loadings), make_likelihood(likelihood, data.n_genes)).double()
    return Trained(data, PLNPCAModule(model, approximation), gaussian)


@pytest.fixture(scope="module")
def fitted():
    """Sparse counts, fitted with Gaussian posteriors."""
    data, _ = draw(N, P, Q, 2, level=-1.0)
    return data, fit(data, Q, n_threads=1)


def of_fit(fitted, **options) -> Trained:
    data, result = fitted
    gaussian = GaussianPosterior(result.mean, result.covariance)
    return make(data, result.loadings, result.coefficients, gaussian, **options)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_starts_at_the_gaussians_bound(fitted, name):
    trained = of_fit(fitted, flow=name)
    trained.train(n_steps=1, learning_rate=1e-9)
    start, error, _ = trained.bounds()
    assert (np.abs(start - fitted[1].elbo) < 5 * error + 1e-3).all()


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_gains(fitted, name):
    trained = of_fit(fitted, flow=name)
    trained.train(n_steps=150, learning_rate=1e-2)
    values, error, iw_bound = trained.bounds()
    gain, noise = values.mean() - fitted[1].elbo.mean(), np.sqrt(np.square(error).sum()) / N
    assert gain > 3 * noise
    assert gain < iw_bound.mean() - fitted[1].elbo.mean() + 3 * noise


def test_a_flow_with_an_encoder_gains_over_the_encoder(fitted):
    values = []
    for flow in (None, "sylvester"):
        trained = of_fit(fitted, flow=flow, amortized=True)
        trained.train(learning_rate=1e-2)
        values.append(trained.bounds()[0].mean())
    assert values[1] > values[0] + 1e-3


@pytest.mark.parametrize("diagonal", [False, True])
def test_an_encoder_comes_close_to_every_cells_optimum(fitted, diagonal):
    data, _ = fitted
    result = fit(data, Q, posterior="meanfield" if diagonal else "fullrank", n_threads=1)
    axes = result.rotation
    gaussian = GaussianPosterior(result.mean, result.covariance).rotate(axes.T)
    trained = make(data, result.loadings @ axes.T, result.coefficients, gaussian, amortized=True, diagonal=diagonal)
    trained.train(n_steps=300, learning_rate=1e-2)
    posterior = trained.posterior()
    b, c = result.coefficients, result.loadings @ axes.T
    encoded = elbo(data, b, c, posterior.mean, posterior.packed_covariance, n_threads=1)
    assert (encoded < result.elbo + 1e-3).all()
    assert encoded.mean() > result.elbo.mean() - 0.02
    if diagonal:
        assert posterior.covariance[:, 0, 1] == pytest.approx(0)


def test_importance_weighted_training_raises_that_bound(fitted):
    """At the same model: IW₅ of the posterior that was trained for it, above that of the one that was not."""
    gains = []
    for seed in range(2):
        trained = of_fit(fitted, flow="affine")
        trained.train(n_samples=2, n_importance=5, n_steps=200, seed=seed, learning_rate=1e-2)
        gaussian = of_fit(fitted)
        bounds = []
        for each in (trained, gaussian):
            blocks = log_weights(each.data, each.module.generative, each.posterior(), n_samples=2000, n_threads=1)
            weights = np.concatenate([weights for _, weights in blocks], axis=1).reshape(-1, 5, N)
            bounds.append((logsumexp(weights, axis=1) - np.log(5)).mean())
        gains.append(bounds[0] - bounds[1])
    assert min(gains) > 0


def test_the_model_stays_as_it_was_unless_reestimated(fitted):
    for reestimate in (False, True):
        trained = of_fit(fitted, flow="affine")
        trained.train(n_steps=3, reestimate=reestimate)
        same = np.array_equal(trained.module.loadings, fitted[1].loadings)
        same_b = np.array_equal(trained.module.coefficients, fitted[1].coefficients)
        assert same == same_b == (not reestimate)


@pytest.mark.parametrize("flow", [None, "iaf"])
def test_a_fixed_encoder_stays_while_the_rest_moves(fitted, flow):
    trained = of_fit(fitted, flow=flow, amortized=True)
    approximation = trained.module.approximation
    before = copy.deepcopy(approximation.state_dict())
    working = copy.deepcopy(trained.module.generative).float()
    options = {"n_steps": 3, "n_samples": 2, "n_importance": 1, "learning_rate": 1e-2, "batch_size": 30, "seed": 0}
    train_approximation(
        trained.data, working, approximation, None, **options, reestimate=True, encoder_fixed=True, n_threads=1
    )
    for name, value in approximation.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert moved == (name.startswith("flow") and "transforms" in name and "mask" not in name and moved)
    if flow is not None:
        assert any(not torch.equal(value, before[name]) for name, value in approximation.state_dict().items())
    assert not torch.equal(working.decoder.loadings.double(), trained.module.loadings)


def test_nothing_is_left_to_train(fitted):
    trained = of_fit(fitted, amortized=True)
    options = {"n_steps": 3, "n_samples": 2, "n_importance": 1, "learning_rate": 1e-2, "batch_size": 30, "seed": 0}
    ascent = train_approximation(
        trained.data,
        trained.module.generative.float(),
        trained.module.approximation,
        None,
        **options,
        reestimate=False,
        encoder_fixed=True,
    )
    assert ascent.n_steps == 0


def test_the_divergence_is_that_between_gaussians():
    a, b = (torch.tril(torch.randn(5, 3, 3, dtype=torch.float64)) for _ in range(2))
    for scale in (a, b):
        scale.diagonal(dim1=1, dim2=2).abs_().add_(0.1)
    m, k = torch.randn(2, 5, 3, dtype=torch.float64)
    ours, other = (torch.distributions.MultivariateNormal(*these) for these in ((m, None, None, a), (k, None, None, b)))
    expected = torch.distributions.kl_divergence(ours, other)
    torch.testing.assert_close(divergence(m, a, k, b), expected)


def test_an_encoder_learns_given_gaussians(fitted):
    trained = of_fit(fitted, amortized=True)
    options = {"learning_rate": 1e-2, "batch_size": 40, "seed": 0, "n_threads": 1}
    ascent = distill_gaussians(trained.data, trained.module.approximation, trained.gaussian, n_steps=400, **options)
    assert ascent.bound[0] < -0.3
    assert -0.05 < ascent.bound[-1] < 0


@pytest.mark.parametrize("flow", ["sylvester", "affine"])
def test_refinement_repairs_a_poor_encoder(fitted, flow):
    trained = of_fit(fitted, flow=flow, amortized=True)
    trained.train(n_steps=25, learning_rate=1e-2)
    posterior = trained.posterior()
    model = copy.deepcopy(trained.module.generative).float()
    poor, *_ = trained.bounds()
    trained.posterior = lambda: refine(trained.data, model, posterior, n_steps=100, n_threads=1)
    better, *_ = trained.bounds()
    assert better.mean() > poor.mean() + 0.5 * (fitted[1].elbo.mean() - poor.mean())
    assert (better > poor - 0.05).mean() > 0.95


def test_refinement_leaves_an_optimum_where_it_is(fitted):
    trained = of_fit(fitted, flow="affine")
    trained.train(n_steps=1, learning_rate=1e-9)
    posterior = trained.posterior()
    model = copy.deepcopy(trained.module.generative).float()
    refined = refine(trained.data, model, posterior, n_steps=30, n_threads=1)
    before, *_ = trained.bounds()
    trained.posterior = lambda: refined
    assert trained.bounds()[0].mean() > before.mean() - 5e-3
    assert isinstance(refined, FlowPosterior)
    assert (refined.gaussian.mean != posterior.gaussian.mean).any()


def test_refinement_keeps_diagonal_gaussians_diagonal(fitted):
    data, result = fitted
    diagonal = np.stack([np.diagonal(v) for v in GaussianPosterior(result.mean, result.covariance).covariance])
    packed = np.column_stack([diagonal[:, 0], np.zeros(N), diagonal[:, 1]])
    trained = make(data, result.loadings, result.coefficients, GaussianPosterior(result.mean, packed), flow="affine")
    trained.train(n_steps=1)
    model = copy.deepcopy(trained.module.generative).float()
    refined = refine(data, model, trained.posterior(), n_steps=5, diagonal=True, n_threads=1)
    assert (refined.gaussian.covariance[:, 0, 1] == 0).all()
    free = refine(data, model, trained.posterior(), n_steps=5, n_threads=1)
    assert (free.gaussian.covariance[:, 0, 1] != 0).any()


def test_an_interrupted_refinement_gives_nothing(fitted, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    trained = of_fit(fitted, flow="affine")
    trained.train(n_steps=1)
    monkeypatch.setattr(refining, "backpropagate_bound", interrupt)
    with pytest.raises(KeyboardInterrupt):
        refine(trained.data, trained.module.generative.float(), trained.posterior(), n_steps=5)


def test_a_cell_that_cannot_be_computed_is_named(fitted):
    trained = of_fit(fitted, flow="affine")
    trained.train(n_steps=1)
    offsets = trained.data.offsets.copy()
    offsets[[7, 11]] = np.nan
    data = CountData(trained.data.counts, offsets, trained.data.design)
    options = {"n_steps": 9, "n_samples": 1, "n_importance": 1, "learning_rate": 1e-2, "batch_size": 100, "seed": 0}
    with pytest.raises(NotFiniteError, match=r"the bound of cells \[7, 11\] was not finite"):
        train_approximation(
            data,
            copy.deepcopy(trained.module.generative).float(),
            trained.module.approximation,
            trained.gaussian,
            **options,
            reestimate=True,
            n_threads=1,
        )


LIKELIHOODS = ["poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli", "gaussian"]
KINDS = {"gaussian": {}, "flow": {"flow": "sylvester"}, "encoder": {"amortized": True}}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_bounds_are_below_the_log_likelihood_of_one_dimension(likelihood, kind):
    """And the importance-weighted bound is within Monte-Carlo error of it; by quadrature, for every cell."""
    data, truth = draw(40, 8, 1, level=-0.5)
    b, c = truth["coefficients"], truth["loadings"]
    likelihood_module = make_likelihood(likelihood, 8).double()
    if likelihood == "bernoulli":
        data = CountData((data.counts > 0).astype(float), data.offsets, data.design)
    gaussian = GaussianPosterior(*infer_likelihood(data, b, c, likelihood_module, n_threads=1))
    trained = make(data, c, b, gaussian, likelihood=likelihood, **kind)
    if kind:
        trained.train(n_steps=60, learning_rate=1e-2)
    z = torch.linspace(-12, 12, 6001, dtype=torch.float64)
    batch = Batch.from_arrays(data.counts, data.offsets, data.design, dtype=torch.float64)
    with torch.no_grad():
        log_joint = trained.module.generative.log_joint(z[:, None, None].expand(-1, 40, 1), batch)
    exact = (log_joint.logsumexp(0) + torch.log(z[1] - z[0])).numpy()
    values, error, iw_bound = trained.bounds(n_samples=2000)
    assert (values < exact + 4 * error + 1e-6).all()
    assert values.mean() < exact.mean() + 4 * np.sqrt(np.square(error).sum()) / 40 + 1e-6
    blocks = log_weights(data, trained.module.generative, trained.posterior(), n_samples=2000, n_threads=1)
    ess = np.concatenate([summarize_weights(weights).ess for _, weights in blocks])
    noise = np.sqrt((1 / ess - 1) / 2000)
    assert (np.abs(iw_bound - exact) < 5 * noise + 1e-6).all()
