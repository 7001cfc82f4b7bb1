"""Rising factorials, against sums over their factors."""

import numpy as np
import pytest
import torch

from scpln.core import digamma_rising, log_rising
from scpln.module.treewalk._rising import log_rising as of_tensors

ARGUMENTS = [1e-6, 0.3, 7.5, 9_999.9, 10_000.1, 1e6, 1e10, 1e16, 1e100]


@pytest.mark.parametrize("n", [0, 1, 7, 3000])
@pytest.mark.parametrize("a", ARGUMENTS)
def test_values_and_slopes_are_sums_over_factors(a, n):
    factors = np.longdouble(a) + np.arange(n)
    value, slope = float(np.log(factors).sum()), float((1 / factors).sum())
    assert log_rising(a, n) == pytest.approx(value, rel=1e-12, abs=1e-10)
    assert digamma_rising(a, n) == pytest.approx(slope, rel=1e-11, abs=1e-11 if a <= 1e4 else 0)
    argument = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    found = of_tensors(argument, torch.tensor(float(n)))
    found.backward()
    assert found.item() == pytest.approx(value, rel=1e-12, abs=1e-10)
    assert argument.grad.item() == pytest.approx(slope, rel=1e-6, abs=1e-11 if a <= 1e4 else 0)
