"""The sparse first layer of encoders against the dense product."""

import numpy as np
import pytest
import torch

from scpln.module import Batch, CountBatch, Encoder
from scpln.module.encoders._count_linear import CountLinear


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 1.0], ids=lambda share: f"{share:.0%} non-zeros")
def test_it_is_the_dense_product_forward_and_backward(share):
    rng = np.random.default_rng(0)
    y = rng.poisson(3.0, (13, 29)) * (rng.random((13, 29)) < share)
    torch.manual_seed(0)
    layer = CountLinear(29, 7).double()
    out = layer(CountBatch.from_counts(y, torch.float64))
    upstream = torch.randn(out.shape, dtype=torch.float64)
    out.backward(upstream)
    x = torch.from_numpy(np.log1p(y))
    torch.testing.assert_close(out.detach(), x @ layer.weight.detach())
    torch.testing.assert_close(layer.weight.grad, x.T @ upstream)


def test_real_values_keep_their_sign():
    y = np.array([[-3.0, 0.0, 2.0]])
    layer = CountLinear(3, 4).double()
    out = layer(CountBatch.from_counts(y, torch.float64)).detach()
    x = torch.tensor([[-np.log(4.0), 0.0, np.log(3.0)]])
    torch.testing.assert_close(out, x @ layer.weight.detach())


def test_an_encoder_does_not_see_covariates_unless_it_may():
    batch, other = (Batch.from_arrays(np.eye(2, 5), np.zeros(2), [[1.0, x], [1.0, x]]) for x in (0.0, 1.0))
    for covariates in (False, True):
        torch.manual_seed(0)
        encoder = Encoder(5, 2, 3, hidden=(8,), covariates=covariates)
        same = torch.equal(encoder(batch)[0], encoder(other)[0])
        assert same is not covariates
