"""Stochastic ascent: it converges, counts its steps, and survives what is not finite."""

import itertools

import numpy as np
import pytest
import torch

from scpln.inference import Ascent, NotFiniteError
from scpln.train._ascent import ascend

CELLS = np.array([3, 5, 8])


class Hill(torch.nn.Module):
    """Bound −|x − 1|² of three cells, with a second parameter that does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(3))
        self.idle = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
        self.steps = 0

    def step(self, cells, batch) -> torch.Tensor:
        self.steps += 1
        bound = -(self.x - 1).square()
        (-bound.mean()).backward()
        return bound.detach()


def run(module: Hill, step=None, *, n_steps: int, on_step=None, learning_rate: float = 0.1) -> Ascent:
    batches = itertools.repeat((CELLS, None))
    return ascend(step or module.step, module, batches, n_steps=n_steps, learning_rate=learning_rate, on_step=on_step)


def test_it_raises_the_bound():
    module, seen = Hill(), []
    result = run(module, n_steps=305, on_step=lambda number, bound: seen.append((number, bound)))
    np.testing.assert_allclose(module.x.detach(), 1, atol=0.02)
    assert (module.idle == 0).all()
    assert (result.n_steps, result.n_skipped, module.steps) == (305, 0, 305)
    assert result.reason == "305 stochastic steps"
    assert [number for number, _ in seen] == list(range(10, 301, 10))
    assert [bound for _, bound in seen] == result.bound[:30]
    assert len(result.bound) == len(result.seconds) == 31, "the last five steps are in the history too"
    assert result.bound[0] < result.bound[-1]
    assert (np.diff(result.seconds) >= 0).all()


def test_no_batch_is_read_in_vain():
    batches = iter([(CELLS, None)] * 5)
    module = Hill()
    ascend(module.step, module, batches, n_steps=3, learning_rate=0.1)
    assert len(list(batches)) == 2


def test_a_step_that_is_not_finite_is_left_out():
    module, xs = Hill(), []

    def step(cells, batch):
        xs.append(module.x.detach().clone())
        bound = module.step(cells, batch)
        return bound if module.steps not in (4, 5) else torch.tensor([0.0, torch.nan, -torch.inf])

    result = run(module, step, n_steps=20)
    assert (result.n_steps, result.n_skipped) == (20, 2)
    assert result.reason == "20 stochastic steps (2 of them skipped, since something was not finite)"
    assert torch.equal(xs[3], xs[5])
    assert not torch.equal(xs[5], xs[6])
    assert np.isfinite(result.bound).all()


def test_cells_that_are_never_finite_are_named():
    module, good = Hill(), []

    def step(cells, batch):
        bound = module.step(cells, batch)
        if module.steps <= 60:
            good.append(module.x.detach().clone())
            return bound
        module.x.data += 100  # what led there is not kept
        return torch.tensor([0.0, torch.nan, torch.inf])

    with pytest.raises(
        NotFiniteError, match=r"the bound of cells \[5, 8\] was not finite in 5 steps in a row"
    ) as error:
        run(module, step, n_steps=1000)
    assert error.value.cells.tolist() == [5, 8]
    assert error.value.parameter == ""
    assert any(torch.equal(module.x, x) for x in good[50:]), "parameters of the last copy"
    ascent = error.value.ascent
    assert (ascent.n_steps, ascent.n_skipped, ascent.failed) == (65, 5, True)
    assert ascent.reason.startswith("failed after 65 stochastic steps (5 of them skipped")
    assert len(ascent.bound) == 6


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_parameter_whose_gradient_is_never_finite_is_named(value):
    module = Hill()

    def step(cells, batch):
        bound = module.step(cells, batch)
        module.x.grad[1] = value
        return bound

    with pytest.raises(FloatingPointError, match="the gradient of x was not finite in 5 steps in a row") as error:
        run(module, step, n_steps=10)
    assert (error.value.parameter, len(error.value.cells)) == ("x", 0)
    assert (module.x == 0).all()


def test_the_guard_counts_steps_in_a_row():
    module = Hill()

    def step(cells, batch):
        bound = module.step(cells, batch)
        return bound if module.steps % 5 == 0 else bound * torch.nan

    assert run(module, step, n_steps=30).n_skipped == 24


@pytest.mark.parametrize("where", ["on_step", "step"])
def test_an_interrupt_keeps_what_was_reached(where):
    module, reached = Hill(), []

    def stop(number, bound):
        reached.append(module.x.detach().clone())
        if where == "on_step" and number == 20:
            raise KeyboardInterrupt

    def step(cells, batch):
        if where == "step" and module.steps == 24:
            raise KeyboardInterrupt
        return module.step(cells, batch)

    result = run(module, step, n_steps=100, on_step=stop)
    assert result.interrupted
    assert (module.x > reached[0]).all()
    assert result.n_steps == (20 if where == "on_step" else 24)
    assert len(result.bound) == (2 if where == "on_step" else 3)
    assert result.reason == f"interrupted after {result.n_steps} stochastic steps; what they reached is kept"


def test_large_gradients_are_no_danger():
    module = Hill()

    def step(cells, batch):
        bound = module.step(cells, batch)
        if module.steps % 7 == 0:
            module.x.grad *= 1e30
        return bound

    run(module, step, n_steps=400)
    np.testing.assert_allclose(module.x.detach(), 1, atol=0.1)


def test_nothing_to_do():
    assert Ascent().reason == "nothing was left for stochastic steps to train"
