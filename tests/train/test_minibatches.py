"""Minibatches: every cell once an epoch, with its own counts, whatever holds them."""

import itertools

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scpln.inference import CountData, Minibatches

N, P = 150, 6


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """Every row is different, and says which it is."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (N, P)).astype(np.float32)
    counts[:, 0] = np.arange(N)
    return counts


def make_data(counts, rows=None) -> CountData:
    design = np.column_stack([np.ones(N), np.arange(N)])
    return CountData(counts if rows is None else rows, np.arange(N) / 10, design)


class OnDisk:
    """Rows that can be sliced, or taken at increasing positions, like a backed matrix; it remembers what was taken."""

    def __init__(self, counts) -> None:
        self._counts, self.shape, self.taken = counts, counts.shape, []

    def __getitem__(self, rows):
        self.taken.append(rows)
        return sp.csr_matrix(self._counts[rows])


FORMS = {"dense": np.asarray, "csr": sp.csr_matrix, "csr array": sp.csr_array, "on disk": OnDisk}


def epochs(batches: Minibatches, n: int) -> list[list]:
    """The first n epochs, each a list of positions and batches."""
    stream = iter(batches)
    return [list(itertools.islice(stream, batches.per_epoch)) for _ in range(n)]


@pytest.mark.parametrize("size", [1, 32, 64, 149, 150, 1000])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_epoch_visits_every_cell_once(counts, form, size):
    batches = Minibatches(make_data(counts, form(counts)), size)
    for epoch in epochs(batches, 2):
        assert sorted(np.concatenate([cells for cells, _ in epoch])) == list(range(N))
        assert {len(cells) for cells, _ in epoch[:-1]} <= {min(size, N)}
        for cells, batch in epoch:
            np.testing.assert_array_equal(batch.counts.dense, counts[cells])
            np.testing.assert_allclose(batch.offsets, cells / 10, rtol=1e-6)
            np.testing.assert_array_equal(batch.design, np.column_stack([np.ones(len(cells)), cells]))


def test_order_is_the_seeds(counts):
    def order(seed):
        return [np.concatenate([cells for cells, _ in epoch]) for epoch in epochs(make(seed), 2)]

    def make(seed):
        return Minibatches(make_data(counts), 40, seed=seed)

    first, again, other = order(0), order(0), order(1)
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any(), "another order in the next epoch"
    assert (first[0] != other[0]).any()


def test_cells_on_disk_come_in_runs(counts):
    rows = OnDisk(counts)
    ((cells, _), *_), *_ = epochs(Minibatches(make_data(counts, rows), 64), 1)
    assert (np.diff(cells) == 1).sum() >= 62
    assert all((np.diff(taken) > 0).all() for taken in rows.taken), "h5py wants increasing positions"


def test_hdf5(counts, tmp_path):
    with h5py.File(tmp_path / "counts.h5", "w") as file:
        file["counts"] = counts
        for cells, batch in epochs(Minibatches(make_data(counts, file["counts"]), 64), 1)[0]:
            np.testing.assert_array_equal(batch.counts.dense, counts[cells])


def test_all_cells_are_made_into_tensors_once(counts):
    rows = OnDisk(counts)
    (_, first), (_, second) = itertools.islice(Minibatches(make_data(counts, rows), N), 2)
    assert first is second
    assert len(rows.taken) == 1


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_cells_in_their_order(counts, form):
    parts = list(Minibatches(make_data(counts, form(counts)), 64, dtype=torch.float64).in_order())
    assert [len(cells) for cells, _ in parts] == [64, 64, 22]
    np.testing.assert_array_equal(np.concatenate([cells for cells, _ in parts]), np.arange(N))
    np.testing.assert_array_equal(np.concatenate([batch.counts.dense for _, batch in parts]), counts)
    assert parts[0][1].counts.dense.dtype == parts[0][1].offsets.dtype == parts[0][1].design.dtype == torch.float64
