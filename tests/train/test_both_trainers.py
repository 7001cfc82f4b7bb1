"""What holds of both trainers by gradients: schedule, clipping, and the guard against what is not finite."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scpln.train import _gradients, _guard
from scpln.train._schedule import WARM_UP, warmup_cosine

from .trainers import N_CELLS, TRAINERS, Hill

FOLDER = Path(__file__).parent


@pytest.fixture(params=TRAINERS)
def train(request):
    return TRAINERS[request.param]


@pytest.fixture
def adam_steps(monkeypatch):
    """Learning rate and gradient of each step of Adam."""
    steps, step = [], torch.optim.Adam.step

    def record(optimizer, closure=None):
        (group,) = optimizer.param_groups
        steps.append((group["lr"], group["params"][0].grad.clone()))
        return step(optimizer, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", record)
    return steps


def test_both_take_the_same_steps():
    """Bit for bit, with skipped steps and clipped gradients."""
    modules = []
    for train in TRAINERS.values():
        modules.append(Hill(spoiled={3, 4, 30}, scale=20.0))
        course = train(modules[-1], 60)
        assert (course.n_steps, course.n_skipped, course.error) == (60, 3, None)
    ours, theirs = (torch.stack(module.seen) for module in modules)
    assert torch.equal(ours, theirs)
    assert torch.equal(modules[0].x, modules[1].x)
    assert (ours[0] - 1).norm() > (modules[0].x - 1).norm()


def test_the_learning_rate_rises_and_falls(train, adam_steps):
    train(Hill(), 100, 0.3)
    rates = np.array([rate for rate, _ in adam_steps])
    assert rates.tolist() == [0.3 * warmup_cosine(step, 100) for step in range(100)]
    np.testing.assert_allclose(rates[:3], 0.3 * np.array([1, 2, 3]) / WARM_UP, rtol=5e-3)
    assert rates.argmax() == WARM_UP - 1
    assert (np.diff(rates[WARM_UP - 1 :]) < 0).all()
    assert rates[50] == pytest.approx(0.15)
    assert rates[-1] < 1e-3


def test_a_skipped_step_uses_up_its_share_of_the_schedule(train, adam_steps):
    train(Hill(spoiled={2, 7}), 10)
    assert [rate for rate, _ in adam_steps] == [
        0.1 * warmup_cosine(step, 10) for step in range(10) if step + 1 not in (2, 7)
    ]


def test_gradients_are_clipped_as_torch_does(train, adam_steps):
    module = Hill(scale=3.0)
    train(module, 30)
    clipped = 0
    for seen, (_, gradient) in zip(module.seen, adam_steps, strict=True):
        parameter = torch.nn.Parameter(seen)
        parameter.grad = 2 * 3.0 * (seen - 1)
        clipped += bool(torch.nn.utils.clip_grad_norm_([parameter], 10.0) > 10)
        assert torch.allclose(gradient, parameter.grad, rtol=1e-6)
        assert gradient.norm() <= 10.0001
    assert 0 < clipped < 30


def test_clipping_is_torchs_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    for size in (0.01, 1.0, 100.0):
        ours = [size * torch.randn(shape, generator=generator) for shape in ((3,), (2, 4))]
        theirs = [torch.nn.Parameter(torch.zeros_like(each)) for each in ours]
        for parameter, gradient in zip(theirs, ours, strict=True):
            parameter.grad = gradient.clone()
        norms = _gradients.gradient_norms(ours)
        _gradients.clip_gradients(ours, norms.norm(), 2.0)
        torch.nn.utils.clip_grad_norm_(theirs, 2.0)
        assert all(torch.equal(gradient, parameter.grad) for parameter, gradient in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("what", ["bound", "gradient"])
def test_a_step_that_is_not_finite_moves_nothing(train, what):
    spoiled = {1, 4, 5, 12}
    module = Hill(spoiled, what)
    course = train(module, 20)
    assert (course.n_steps, course.n_skipped, course.error) == (20, 4, None)
    assert "4 of them skipped, since something was not finite" in course.reason
    moved = [not torch.equal(*pair) for pair in zip(module.seen, module.seen[1:], strict=False)]
    assert moved == [step not in spoiled for step in range(1, 20)]


def test_steps_are_counted_in_a_row(train):
    module = Hill(spoiled={step for step in range(1, 31) if step % 5})
    assert train(module, 30).n_skipped == 24


@pytest.mark.parametrize("bad_from", [1, 4, _guard.COPY_EVERY + 3])
@pytest.mark.parametrize("what", ["bound", "gradient"])
def test_several_in_a_row_end_it_with_the_last_copy(train, bad_from, what):
    module = Hill(range(bad_from, 1000), what)
    course = train(module, 200)
    assert (course.n_steps, course.n_skipped) == (bad_from + 4, 5)
    assert course.reason.startswith("failed after")
    kept = 0 if bad_from <= _guard.COPY_EVERY else _guard.COPY_EVERY
    assert torch.equal(module.x, module.seen[kept])
    assert module.n_seen == kept + (kept > 0), "buffers are restored too, as they were before the step was taken"
    assert course.error.cells.tolist() == (list(range(N_CELLS)) if what == "bound" else [])
    assert course.error.parameter == ("" if what == "bound" else "x")


def test_an_error_without_culprits_names_none():
    error = _guard.NotFiniteError(np.arange(0), "", None)
    assert str(error).startswith("the bound or its gradient was not finite in 5 steps in a row.")


#: Each of two processes goes through every course; steps are spoiled in the first process only.
TWO = """
import json, sys
import torch
from trainers import TRAINERS, Hill

rank, file = sys.argv[1:]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=int(rank), world_size=2)
for train in TRAINERS.values():
    for spoiled in [{2, 3, 9}, {4, 5, 6, 7, 8}]:
        module = Hill(spoiled if rank == "0" else ())
        course = train(module, 12)
        print(json.dumps([course.n_steps, course.n_skipped, module.x.tolist(), str(course.error)]))
torch.distributed.destroy_process_group()
"""


def test_two_processes_skip_the_same_steps(tmp_path):
    """What one of them cannot take, the other does not take, and they stop together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(rank), str(tmp_path / "meeting")],
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    spoiled, sound = ([json.loads(line) for line in out.splitlines()] for out, _ in outputs)
    assert [course[:2] for course in spoiled] == [[12, 3], [8, 5]] * len(TRAINERS)
    assert [course[:3] for course in spoiled] == [course[:3] for course in sound]
    for (*_, error), (*_, other_error), fails in zip(spoiled, sound, [False, True] * len(TRAINERS), strict=True):
        assert error.startswith("the bound of cells" if fails else "None")
        assert other_error.startswith("the bound or its gradient was not finite" if fails else "None")


def test_the_device_changes_nothing():
    here, there = Hill(), Hill()
    TRAINERS["ascent"](here, 30)
    TRAINERS["ascent"](there, 30, device="cpu")
    assert torch.equal(here.x, there.x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_module_back():
    here, there = Hill(scale=20.0), Hill(scale=20.0)
    TRAINERS["ascent"](here, 30)
    TRAINERS["ascent"](there, 30, device="cuda")
    assert there.x.device.type == "cpu"
    assert there.seen[0].device.type == "cuda"
    assert torch.allclose(here.x, there.x, atol=1e-5)
