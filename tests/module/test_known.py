"""Log size factors of groups of genes in decoders, encoders and contexts, and groups that cells lack."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scpln.module import ABSENT, Approximation, Batch, Encoder, GaussianFeatures, LinearDecoder, MLPDecoder

N, P, GROUPS = 5, 8, np.array([0, 1, 1, 0, 2, 2, 2, 0])


def batch(offsets: np.ndarray, **options) -> Batch:
    counts = np.random.default_rng(0).poisson(1.0, (N, P))
    if "groups" in options:
        counts = counts * (offsets[:, GROUPS] > ABSENT)
    return Batch.from_arrays(counts, offsets, np.ones((N, 1)), **options)


@pytest.fixture
def patchy() -> np.ndarray:
    offsets = np.random.default_rng(1).normal(size=(N, 3))
    offsets[0, 1] = offsets[2, 0] = offsets[2, 2] = ABSENT
    return offsets


@pytest.mark.parametrize("softmax", [None, False, True])
def test_decoders_add_the_size_of_each_gene(softmax, patchy):
    torch.manual_seed(0)
    decoder = (
        LinearDecoder(np.zeros((P, 1), np.float32), np.ones((P, 2), np.float32))
        if softmax is None
        else MLPDecoder(P, 1, 2, hidden=(4,), softmax=softmax)
    )
    z = torch.randn(3, N, 2)
    without = decoder(z, batch(np.zeros(N)))
    expected = without + torch.from_numpy(patchy[:, GROUPS]).float()
    torch.testing.assert_close(decoder(z, batch(patchy, groups=GROUPS)), expected)
    same = batch(np.repeat(patchy[:, [1]], 3, axis=1), groups=GROUPS)
    torch.testing.assert_close(decoder(z, same), decoder(z, batch(patchy[:, 1])))


def test_absence_is_an_indicator_for_encoders(patchy):
    torch.manual_seed(0)
    encoder = Encoder(P, 1, 2, hidden=(16,), n_groups=3)
    known = batch(patchy, groups=GROUPS)
    assert known.log_sizes.abs().max() < 5
    np.testing.assert_array_equal(known.absence, patchy <= ABSENT)
    with torch.no_grad():
        encoder.trunk.known.weight[:, 3:] = 0
        encoder.trunk.known.weight[:, :3] = 1e3  # what the -60 would be seen with
    ours = encoder(known)[0]
    zeros = np.where(patchy <= ABSENT, 0.0, patchy)
    theirs = encoder(replace(known, offsets=torch.from_numpy(zeros).float()))[0]
    torch.testing.assert_close(ours, theirs)


def test_contexts_stay_small_in_cells_that_lack_what_all_others_have(patchy):
    """Also where all cells that the scale was learned from had everything."""
    complete = batch(np.where(patchy <= ABSENT, 0.1, patchy), groups=GROUPS)
    features = GaussianFeatures(2, 1, n_groups=3)
    gaussian = torch.randn(N, 2), torch.eye(2).expand(N, 2, 2)
    features.standardize([(*gaussian, complete)])
    context = features(*gaussian, batch(patchy, groups=GROUPS))
    assert context.shape == (N, features.size)
    assert context.abs().max() < 10
    np.testing.assert_array_equal(context[:, :3], patchy <= ABSENT)


@pytest.mark.parametrize("amortized", [False, True])
def test_approximations_have_room_for_all_groups(amortized, patchy):
    approximation = Approximation.build(
        P, 1, 2, amortized=amortized, diagonal=False, flow="iaf", n_transforms=1,
        flow_hidden=(8,), encoder_hidden=(8,), n_groups=3,
    )  # fmt: skip
    gaussian = None if amortized else (torch.zeros(N, 2), torch.eye(2).expand(N, 2, 2))
    posterior = approximation(batch(patchy, groups=GROUPS), gaussian)
    assert posterior.draw(4).log_q.isfinite().all()


def test_networks_without_groups_are_what_they_were():
    """Sizes and names of parameters, on which saved models depend."""
    encoder, features = Encoder(P, 3, 2, hidden=(16,)), GaussianFeatures(2, 3)
    assert encoder.trunk.known.weight.shape == (16, 3)
    assert Encoder(P, 3, 2, hidden=(16,), covariates=False).trunk.known.weight.shape == (16, 1)
    assert features.size == len(features.center) == 2 + 3 + 1 + 2
    assert not any("entries" in name for name in encoder.state_dict())


@pytest.mark.parametrize("grouped", [False, True])
def test_entries_are_added_to_sizes_and_enter_encoders_by_themselves(grouped, patchy):
    entries = np.random.default_rng(2).normal(size=(N, P))
    entries[1, 3] = entries[4, 0] = ABSENT
    known = batch(patchy, groups=GROUPS) if grouped else batch(np.arange(5.0))
    both = replace(known, entries=torch.from_numpy(entries).float())
    expected = entries + (patchy[:, GROUPS] if grouped else np.arange(5.0)[:, None])
    torch.testing.assert_close(both.gene_offsets, torch.from_numpy(expected).float())
    encoder = Encoder(P, 1, 2, hidden=(16,), n_groups=3 * grouped, by_entry=True)
    with torch.no_grad():
        without = replace(known, entries=torch.zeros(N, P))
        moved = (encoder(both)[0] - encoder(without)[0]).abs().sum(1)
        assert (moved > 0).all()
        encoder.trunk.entries.weight[:, :P] = 0  # indicators of what was not observed are left
        moved = (encoder(both)[0] - encoder(without)[0]).abs().sum(1)
    np.testing.assert_array_equal(moved > 0, (entries <= ABSENT).any(1))
