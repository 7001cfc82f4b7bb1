"""What every flow obeys: identity at the start, log-determinant, inverse, normalisation, bounds, gradients."""

import copy
import math

import pytest
import torch

from scpln.module.flows import FLOWS, Affine, make_flow

N_CONTEXT = 4
KINDS = {**FLOWS, "affine": Affine}
CASES = [(name, q) for name, kind in KINDS.items() for q in (1, 2, 3) if q >= kind.smallest_n_latent]
SIZES_2 = [name for name, kind in KINDS.items() if kind.smallest_n_latent <= 2]

every_case = pytest.mark.parametrize(("name", "q"), CASES)
every_flow = pytest.mark.parametrize("name", KINDS)


def make(name, q, *, seed=0, perturb=0.0, dtype=torch.float32):
    """A flow, its parameters moved at random by `perturb`."""
    torch.manual_seed(seed)
    flow = Affine(q, N_CONTEXT, hidden=(16, 16)) if name == "affine" else make_flow(name, q, N_CONTEXT, hidden=(16, 16))
    flow = flow.to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += perturb * torch.randn_like(parameter)
    return flow


def make_input(q, *, leading=(6,), n=5, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*leading, n, q, generator=generator, dtype=dtype)
    return noise, torch.randn(n, N_CONTEXT, generator=generator, dtype=dtype)


def skewed_loss(u, log_det):
    """A loss whose gradient no symmetry makes zero."""
    return (u.exp() + u.square()).mean() - log_det.mean()


@every_case
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
@pytest.mark.parametrize("n", [1, 5])
def test_shapes(name, q, leading, n):
    noise, context = make_input(q, leading=leading, n=n)
    u, log_det = make(name, q, perturb=0.2)(noise, context)
    assert u.shape == noise.shape
    assert log_det.shape == noise.shape[:-1]
    assert u.dtype == log_det.dtype == torch.float32


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_starts_at_the_identity(name, q, dtype, tolerance, scale):
    noise, context = make_input(q, leading=(100,), dtype=dtype)
    u, log_det = make(name, q, dtype=dtype)(noise, scale * context)
    torch.testing.assert_close(u, noise, atol=tolerance, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), atol=tolerance, rtol=0)


@every_case
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_log_determinant_is_autograds(name, q, spread):
    flow = make(name, q, perturb=0.3, dtype=torch.float64)
    noise, context = make_input(q, leading=(), n=4, dtype=torch.float64)
    _, log_det = flow(spread * noise, context)
    for i in range(4):
        cell = context[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda x, cell=cell: flow(x[None], cell)[0][0], spread * noise[i])
        sign, expected = torch.linalg.slogdet(jacobian)
        assert sign > 0
        torch.testing.assert_close(log_det[i], expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("name", "q"), CASES)
def test_inverse_undoes_forward(name, q):
    flow = make(name, q, perturb=0.3, dtype=torch.float64)
    noise, context = make_input(q, leading=(2, 50), dtype=torch.float64)
    u, log_det = flow(2 * noise, context)
    assert (u - 2 * noise).abs().max() > 0.1
    found, log_det_there = flow.inverse(u, context)
    torch.testing.assert_close(found, 2 * noise, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(log_det_there, log_det, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("name", [name for name, q in CASES if q == 1])
def test_density_of_draws_is_normalised_in_one_dimension(name):
    """∫ q(u) du over the images of a grid, with widths from the map and densities from its log-determinant."""
    flow = make(name, 1, perturb=0.3, dtype=torch.float64)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None, None]
    context = make_input(1, n=1, dtype=torch.float64)[1]
    with torch.no_grad():
        u, log_det = flow(grid, context)
    density = torch.exp(-0.5 * grid.square().sum(-1) - log_det)[:, 0] / math.sqrt(2 * math.pi)
    assert torch.trapezoid(density, u[:, 0, 0]).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", SIZES_2)
def test_density_of_draws_is_normalised_in_two_dimensions(name):
    """∫ q(u) du over the images of squares, whose areas are those of the quadrilaterals that the map makes of them."""
    flow = make(name, 2, perturb=0.15, dtype=torch.float64)
    context = make_input(2, n=1, dtype=torch.float64)[1]
    edges = torch.linspace(-6, 6, 241, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    with torch.no_grad():
        corners = flow(torch.cartesian_prod(edges, edges)[:, None], context)[0].reshape(241, 241, 2)
        centres = torch.cartesian_prod(middles, middles)[:, None]
        log_det = flow(centres, context)[1]
    diagonal, other = corners[1:, 1:] - corners[:-1, :-1], corners[:-1, 1:] - corners[1:, :-1]
    area = 0.5 * (diagonal[..., 0] * other[..., 1] - diagonal[..., 1] * other[..., 0])
    assert (area > 0).all()
    density = torch.exp(-0.5 * centres.square().sum(-1) - log_det).reshape(240, 240) / (2 * math.pi)
    assert (density * area).sum().item() == pytest.approx(1, abs=2e-3)


@every_case
def test_finite_at_extremes(name, q):
    flow = make(name, q, perturb=0.3)
    _, context = make_input(q)
    noise = torch.linspace(-20, 20, 41)[:, None, None] * torch.tensor([1.0, -1.0, 1.0])[:q].expand(5, q)
    u, log_det = flow(noise, 100 * context)
    assert u.isfinite().all()
    assert log_det.isfinite().all()
    (u.square().mean() - log_det.mean()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in flow.parameters())


@every_case
def test_an_outlying_context_acts_as_ten(name, q):
    flow = make(name, q, perturb=0.3)
    noise, _ = make_input(q, n=2)
    u, _ = flow(noise[:, :1].expand(-1, 2, -1), torch.tensor([[1e3], [1e6]]).expand(2, N_CONTEXT))
    torch.testing.assert_close(u[:, 0], u[:, 1], atol=1e-2, rtol=1e-2)


@every_case
def test_no_gradient_is_dead(name, q):
    flow = make(name, q)
    data = make_input(q, leading=(20,), n=20)
    skewed_loss(*flow(*data)).backward()
    zeros = {label: p for label, p in flow.named_parameters() if not p.any() and p.numel()}
    assert zeros
    for label, parameter in zeros.items():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any(), label
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter -= 0.01 * parameter.grad.sign()
            parameter.grad = None
    skewed_loss(*flow(*data)).backward()
    dead = {label for label, p in flow.named_parameters() if p.numel() and not p.grad.any()}
    assert dead <= ({"direction", "reflections"} if q == 1 else set())


@every_case
def test_each_cell_follows_its_own_context(name, q):
    flow = make(name, q, perturb=0.3, dtype=torch.float64)
    noise, context = make_input(q, dtype=torch.float64)
    u, log_det = flow(noise, context)
    other = context.clone()
    other[0] += 1
    moved, moved_log_det = flow(noise, other)
    assert (moved[:, 0] - u[:, 0]).abs().max() > 1e-3
    torch.testing.assert_close(moved[:, 1:], u[:, 1:])
    torch.testing.assert_close(moved_log_det[:, 1:], log_det[:, 1:])
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(flow(noise[:, order], context[order])[0], u[:, order])


@every_flow
def test_gradient_reaches_noise_and_context(name):
    flow = make(name, 2, perturb=0.3, dtype=torch.float64)
    noise, context = make_input(2, leading=(2,), n=2, dtype=torch.float64)
    assert torch.autograd.gradcheck(flow, (noise.requires_grad_(), context.requires_grad_()), atol=1e-5, rtol=1e-4)


@every_flow
def test_seed_state_and_precision(name):
    data = make_input(3)
    flow, same, other = make(name, 3, perturb=0.3), make(name, 3, perturb=0.3), make(name, 3, seed=7, perturb=0.3)
    torch.testing.assert_close(flow(*data), same(*data), atol=0, rtol=0)
    assert not torch.equal(flow(*data)[0], other(*data)[0])
    other.load_state_dict(flow.state_dict())
    torch.testing.assert_close(other(*data), flow(*data), atol=0, rtol=0)
    u, log_det = copy.deepcopy(flow).double()(data[0].double(), data[1].double())
    assert u.dtype == log_det.dtype == torch.float64
    torch.testing.assert_close(u.float(), flow(*data)[0], atol=1e-3, rtol=1e-3)


def log_bent(z):
    """Log-density of (log of a standard exponential, normal around half of its square): skewed and bent, (..., 2)."""
    first, second = z.unbind(-1)
    return first - first.exp() - 2 * (second - 0.5 * first.square()).square() - 0.5 * math.log(math.pi / 2)


def fit_to_bent(modules, n_steps, lr):
    """Train a composition of flows by reverse KL, and return its bound on log ∫ p = 0."""
    context = make_input(2, n=4)[1]
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=lr)
    generator = torch.Generator().manual_seed(0)

    def bound(n_draws):
        z = noise = torch.randn(n_draws, 4, 2, generator=generator)
        log_q = -0.5 * noise.square().sum(-1) - math.log(2 * math.pi)
        for module in modules:
            z, log_det = module(z, context)
            log_q = log_q - log_det
        return (log_bent(z) - log_q).mean()

    for _ in range(n_steps):
        optimiser.zero_grad()
        (-bound(50)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
    with torch.no_grad():
        return bound(5000).item()


@pytest.fixture(scope="module")
def gaussian():
    """The best Gaussian for the bent density, and its bound."""
    affine = make("affine", 2)
    return affine, fit_to_bent([affine], 400, 1e-2)


@pytest.mark.parametrize("name", FLOWS)
def test_training_gains_over_the_best_gaussian(name, gaussian):
    affine, bound = gaussian
    assert -1.5 < bound < -0.1
    reached = fit_to_bent([make(name, 2), copy.deepcopy(affine)], 200, 1e-2)
    assert bound + 0.04 < reached < 0.02


def test_unknown_flow():
    with pytest.raises(ValueError, match=r"no flow 'glow': choose one of 'iaf', 'maf', .*'sylvester'\."):
        make_flow("glow", 2, 3)


@pytest.mark.parametrize("name", [name for name, kind in FLOWS.items() if kind.smallest_n_latent > 1])
def test_one_dimension_names_the_flows_that_work(name):
    with pytest.raises(ValueError, match=r"with n_latent=1: 'nsf', 'planar', 'radial', 'sylvester'\."):
        make_flow(name, 1, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_latent": 0}, "n_latent is 0"),
        ({"n_context": 0}, "n_context is 0"),
        ({"n_transforms": 1.5}, r"n_transforms is 1\.5"),
        ({"n_transforms": True}, "n_transforms is True"),
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"hidden": (64, 0)}, r"hidden is \(64, 0\)"),
        ({"hidden": 64}, r"hidden is 64, .*for instance \(64, 64\)"),
    ],
)
def test_sizes_are_checked(changed, message):
    with pytest.raises(ValueError, match=message):
        make_flow("nsf", **{"n_latent": 2, "n_context": 3, **changed})


@pytest.mark.parametrize(("noise", "context"), [((4, 5, 3), (5, 4)), ((4, 5, 2), (6, 4)), ((4, 5, 2), (5, 3))])
def test_shapes_that_disagree(noise, context):
    flow = make("radial", 2)
    for call in (flow, flow.inverse):
        with pytest.raises(ValueError, match=r"points \(\.\.\., n, 2\) and a context \(n, 4\)"):
            call(torch.zeros(noise), torch.zeros(context))
