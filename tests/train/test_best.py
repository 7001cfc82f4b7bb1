"""The best parameters are those with the least loss, and patience counts the epochs since."""

import math

import numpy as np
import pytest
import torch

from scpln.train._best import BestParameters


def follow(losses, patience=3):
    module, best = torch.nn.BatchNorm1d(1), BestParameters(patience)
    for epoch, loss in enumerate(losses, start=1):
        torch.nn.init.constant_(module.weight, epoch)
        torch.nn.init.constant_(module.running_mean, -epoch)
        best.update(loss, module, epoch)
        if best.stopped:
            break
    return module, best


@pytest.mark.parametrize("seed", range(5))
def test_the_first_of_the_least_is_kept(seed):
    losses = np.random.default_rng(seed).integers(0, 6, 20).astype(float)
    module, best = follow(losses, patience=100)
    assert best.epoch == losses.argmin() + 1
    best.load_into(module)
    assert (module.weight.item(), module.running_mean.item()) == (best.epoch, -best.epoch)


@pytest.mark.parametrize(
    ("losses", "epoch", "stops"),
    [
        ([3, 2, 2, 2, 2], 2, True),
        ([3, 4, 4, 2, 3, 3], 4, False),
        ([math.nan] * 3, None, True),
        ([math.nan, 5, math.nan, math.inf], 2, False),
    ],
)
def test_patience(losses, epoch, stops):
    _, best = follow(losses)
    assert (best.epoch, best.stopped) == (epoch, stops)


def test_without_a_best_nothing_changes():
    module, best = follow([math.nan])
    before = module.weight.item()
    best.load_into(module)
    assert module.weight.item() == before


def test_a_state_goes_on():
    _, first = follow([3, 1, 2, 2])
    second = BestParameters(3)
    second.load_state_dict(first.state_dict())
    module = torch.nn.BatchNorm1d(1)
    second.update(1.5, module, 5)
    assert (second.stopped, second.epoch) == (True, 2)
    second.load_into(module)
    assert module.weight.item() == 2
