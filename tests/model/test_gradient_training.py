"""Training by gradients: the course of it, what stops it, what it keeps, and that it disturbs nothing else."""

import itertools
import logging
import math
import signal
import warnings

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from scpln.inference import RUN, CountData, NotFiniteError
from scpln.module import Loss
from scpln.train._guard import COPY_EVERY
from scpln.train.epochs import CheckpointOptions, DeviceOptions, TrainingOptions, default_epochs, train_by_gradients
from scpln.train.epochs import _fit as _lightning
from scpln.train.epochs._kl_warmup import epochs_at_full_weight
from scpln.train.epochs._loader import CellData, CellLoader, split_cells


@pytest.fixture(autouse=True)
def keyboard_interrupts():
    """Let SIGINT raise KeyboardInterrupt, also where a shell started the tests in the background, ignoring it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


N_CELLS, N_GENES, N_LATENT = 60, 12, 2
HISTORY = {
    f"{name}_{stage}" for name in ("elbo", "reconstruction_loss", "kl_local") for stage in ("train", "validation")
}


def make_data(n_cells: int = N_CELLS, matrix=sp.csr_matrix) -> CountData:
    rng = np.random.default_rng(0)
    latent, loadings = rng.normal(size=(n_cells, N_LATENT)), rng.normal(size=(N_LATENT, N_GENES))
    counts = rng.poisson(np.exp(0.5 + 0.7 * latent @ loadings))
    batches = np.arange(n_cells) % 3
    return CountData(matrix(counts), rng.normal(size=n_cells) * 0.1, np.ones((n_cells, 1)), batches)


class Tiny(nn.Module):
    """Poisson autoencoder with a linear encoder and decoder; `script` may interfere with each call."""

    def __init__(self, script=None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.encoder, self.decoder = nn.Linear(N_GENES, 2 * N_LATENT), nn.Linear(N_LATENT, N_GENES)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)
        self.script, self.calls = script, []

    def loss(self, batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> Loss:
        self.calls.append({"training": self.training, "kl_weight": kl_weight, "free_bits": free_bits, "batch": batch})
        y = batch.counts.dense
        mean, log_scale = self.encoder(torch.log1p(y)).chunk(2, dim=1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        eta = self.decoder(z) + batch.offsets[:, None]
        reconstruction = (eta.exp() - y * eta + torch.lgamma(y + 1)).sum(1)
        kl = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
        if self.script is not None:
            reconstruction = self.script(self, reconstruction)
        parts = {"reconstruction_loss": reconstruction.detach(), "kl_local": kl.detach()}
        return Loss((reconstruction + kl_weight * kl).mean(), parts)

    @property
    def training_calls(self) -> list[dict]:
        return [call for call in self.calls if call["training"]]


def options(**changes) -> TrainingOptions:
    settings = {"max_epochs": 6, "batch_size": 16, "learning_rate": 0.02, "validation_size": 0.2, "patience": 100}
    return TrainingOptions(**settings | changes)


CPU = DeviceOptions("cpu")


def run(module, data=None, *, labels=None, directory=None, every=1, resume=False, settings=None, **changes):
    return train_by_gradients(
        module,
        make_data() if data is None else data,
        options(**changes),
        labels=labels,
        device=CPU,
        checkpoint=CheckpointOptions(directory, every, resume, settings or {}),
        progress=False,
    )


def weights(module: nn.Module) -> np.ndarray:
    return torch.cat([value.detach().ravel() for value in module.parameters()]).numpy().copy()


def without_time(history: dict) -> dict:
    return {name: values for name, values in history.items() if name != "seconds"}


# Which cells, in which batches


@pytest.mark.parametrize(
    ("n_cells", "share", "expected"), [(100, 0.1, 10), (10, 0.01, 1), (10, 0.99, 9), (9, 0.5, 0), (50, 0.0, 0)]
)
def test_cells_are_split(n_cells, share, expected):
    train, validation = split_cells(n_cells, share, seed=1)
    assert len(validation) == expected
    assert sorted([*train, *validation]) == list(range(n_cells))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    np.testing.assert_array_equal(train, split_cells(n_cells, share, seed=1)[0])


def test_the_split_follows_from_the_seed():
    assert split_cells(100, 0.2, seed=0)[1].tolist() != split_cells(100, 0.2, seed=1)[1].tolist()


def as_tensors(loader) -> list[tuple]:
    return [
        (cells, batch.counts.dense, batch.offsets, batch.design, batch.batches, batch.labels) for cells, batch in loader
    ]


@pytest.mark.parametrize("where", ["csr", "dense", "disk", "one batch"])
def test_batches_hold_the_cells_that_they_say(where, tmp_path):
    data, counts = make_data(), make_data(matrix=np.asarray).counts
    if where == "dense":
        data = make_data(matrix=np.asarray)
    if where == "disk":
        file = h5py.File(tmp_path / "counts.h5", "w")
        data = CountData(file.create_dataset("counts", data=counts), data.offsets, data.design, data.batches)
    labels = np.arange(N_CELLS) % 4 - 1
    chosen = np.arange(0, N_CELLS, 2)
    loader = CellLoader(data, chosen, 100 if where == "one batch" else 8, labels=labels, seed=0)
    batches = list(loader)
    assert len(batches) == len(loader) == (1 if where == "one batch" else 4)
    assert sorted(np.concatenate([cells for cells, _ in batches])) == chosen.tolist()
    for cells, batch in batches:
        np.testing.assert_array_equal(batch.counts.dense, counts[cells])
        np.testing.assert_allclose(batch.offsets, data.offsets[cells], rtol=1e-6)
        np.testing.assert_array_equal(batch.design, data.design[cells])
        np.testing.assert_array_equal(batch.batches, data.batches[cells])
        np.testing.assert_array_equal(batch.labels, labels[cells])


def test_batches_without_codes():
    data = make_data()
    data = CountData(data.counts, data.offsets, data.design)
    _, batch = next(iter(CellLoader(data, np.arange(5), 3)))
    assert batch.batches is None
    assert batch.labels is None


def test_batches_are_even():
    loader = CellLoader(make_data(), np.arange(17), 8)
    assert [len(cells) for cells, _ in loader] == [6, 6, 5]


def test_the_order_follows_from_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        loader = CellLoader(make_data(), np.arange(N_CELLS), 1, seed=seed)
        loader.set_epoch(epoch)
        return [int(cells[0]) for cells, _ in loader]

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4
    assert [int(cells[0]) for cells, _ in CellLoader(make_data(), np.arange(5), 1)] == list(range(5))


def test_from_disk_neighbours_stay_together(tmp_path):
    n_cells = 4 * RUN
    data = make_data(n_cells)
    with h5py.File(tmp_path / "counts.h5", "w") as file:
        counts = file.create_dataset("counts", data=data.counts.toarray())
        loader = CellLoader(CountData(counts, data.offsets, data.design), np.arange(n_cells), RUN, seed=0)
        runs = [cells for cells, _ in loader]
    assert all((np.diff(cells) == 1).all() for cells in runs)
    assert [int(cells[0]) for cells in runs] != list(range(0, n_cells, RUN))


def test_data_say_what_scvi_tools_asks():
    cells = CellData(make_data(), 16, validation_size=0.2, seed=0)
    assert (cells.n_train, cells.n_val, len(cells.test_idx)) == (48, 12, 0)
    assert (len(cells.train_idx), len(cells.val_idx), cells.steps_per_epoch) == (48, 12, 3)


# The course of training


@pytest.mark.parametrize("n_cells", [20, 200])
def test_the_weight_of_kl_is_counted_in_steps(n_cells):
    module = Tiny()
    result = run(module, make_data(n_cells), max_epochs=9, kl_warmup=1 / 3, free_bits=0.25)
    steps, n_warm_up = module.training_calls, result.n_steps // 3
    expected = [min(1.0, step / n_warm_up) for step in range(result.n_steps)]
    np.testing.assert_allclose([call["kl_weight"] for call in steps], expected)
    assert steps[n_warm_up]["kl_weight"] == 1.0
    assert {call["free_bits"] for call in steps} == {0.25}
    validation = [call for call in module.calls if not call["training"]]
    assert {(call["kl_weight"], call["free_bits"]) for call in validation} == {(1.0, 0.0)}
    assert result.history["kl_weight"][-1] == 1.0


def test_without_warm_up_the_weight_of_kl_is_1():
    module = Tiny()
    run(module, max_epochs=1, kl_warmup=0.0)
    assert {call["kl_weight"] for call in module.calls} == {1.0}


def test_it_learns():
    module = Tiny()
    result = run(module, max_epochs=100)
    elbo = result.history["elbo_validation"]
    assert elbo[-1] > elbo[0] + 5
    assert not module.training
    assert all(value.grad is None for value in module.parameters())
    assert all(value.device.type == "cpu" for value in module.parameters())


@pytest.mark.parametrize("n_cells", [N_CELLS, 9])
def test_history_has_the_names_of_scvi_tools(n_cells):
    result = run(Tiny(), make_data(n_cells), max_epochs=4)
    expected = HISTORY | {"train_loss", "validation_loss", "kl_weight", "seconds"}
    if n_cells == 9:
        expected = {name for name in expected if "validation" not in name}
    assert set(result.history) == expected
    assert all(len(values) == 4 for values in result.history.values())
    assert all(
        isinstance(value, float) and math.isfinite(value) for values in result.history.values() for value in values
    )
    for stage in ("train", "validation")[: 2 if n_cells > 9 else 1]:
        np.testing.assert_allclose(
            result.history[f"elbo_{stage}"],
            -np.add(result.history[f"reconstruction_loss_{stage}"], result.history[f"kl_local_{stage}"]),
        )
    assert (np.diff(result.history["seconds"]) > 0).all()


class Exact(Tiny):
    """Without draws, so that its values can be computed again."""

    def loss(self, batch, *, kl_weight=1.0, free_bits=0.0):
        y = batch.counts.dense
        losses = y.square().sum(1) * self.decoder.bias.mean().exp()
        kl = y.sum(1) + batch.offsets
        return Loss((losses + kl_weight * kl).mean(), {"reconstruction_loss": losses.detach(), "kl_local": kl.detach()})


@pytest.mark.parametrize("batch_size", [5, 13, 100])
def test_epochs_are_means_over_cells(batch_size):
    data, module = make_data(), Exact()
    result = run(module, data, batch_size=batch_size, learning_rate=1e-12, max_epochs=2)
    y, scale = data.counts.toarray(), np.exp(weights(module.decoder)[-N_GENES:].mean())
    for stage, cells in (("train", result.train_cells), ("validation", result.validation_cells)):
        losses, kl = (y[cells] ** 2).sum(1) * scale, y[cells].sum(1) + data.offsets[cells]
        assert result.history[f"reconstruction_loss_{stage}"] == pytest.approx([losses.mean()] * 2, rel=1e-6)
        assert result.history[f"kl_local_{stage}"] == pytest.approx([kl.mean()] * 2, rel=1e-6)
        assert result.history[f"elbo_{stage}"] == pytest.approx([-(losses + kl).mean()] * 2, rel=1e-6)
    assert result.history["validation_loss"] == pytest.approx(-np.array(result.history["elbo_validation"]))


def test_validation_takes_the_same_draws_every_time():
    result = run(Tiny(), learning_rate=1e-12, max_epochs=3)
    assert len(set(np.round(result.history["elbo_validation"], 4))) == 1
    assert len(set(np.round(result.history["elbo_train"], 4))) == 3


def test_gradients_are_clipped(monkeypatch):
    norms = []
    step = torch.optim.Adam.step

    def record(optimizer, closure=None):
        (group,) = optimizer.param_groups
        norms.append(float(torch.cat([value.grad.ravel() for value in group["params"]]).norm()))
        return step(optimizer, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", record)
    run(Tiny(), gradient_clip=1e6)
    free = norms.copy()
    norms.clear()
    run(Tiny(), gradient_clip=0.5)
    assert max(norms) == pytest.approx(0.5, rel=1e-4)
    assert min(free) > 0.5


def test_frozen_parameters_stay():
    module = Tiny()
    module.decoder.requires_grad_(False)
    before = weights(module.decoder)
    run(module)
    np.testing.assert_array_equal(weights(module.decoder), before)


def test_labels_reach_the_module():
    module, labels = Tiny(), np.arange(N_CELLS) % 4 - 1
    run(module, labels=labels, max_epochs=1)
    assert {int(label) for call in module.calls for label in call["batch"].labels} == {-1, 0, 1, 2}


# Same seed, same numbers; nothing else is disturbed


def test_the_seed_decides():
    results = []
    for seed, elsewhere in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(elsewhere)
        module = Tiny()
        result = run(module, seed=seed)
        results.append((weights(module), without_time(result.history)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not np.allclose(results[0][0], results[2][0])


def test_random_numbers_elsewhere_go_on():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    module = Tiny()
    state = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    run(module)
    assert torch.equal(torch.get_rng_state(), state[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def test_it_is_quiet_and_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    names = ["lightning", "lightning.pytorch", "lightning.fabric"]
    loggers, records = [logging.getLogger(name) for name in names], []
    handler = logging.Handler()
    handler.emit = records.append
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.addHandler(handler)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            filters = list(warnings.filters)
            run(Tiny())
            assert warnings.filters == filters
    finally:
        for each in loggers:
            each.removeHandler(handler)
    assert (records, caught, capfd.readouterr()) == ([], [], ("", ""))
    assert [each.level for each in loggers] == levels
    assert list(tmp_path.iterdir()) == []


def test_levels_come_back_after_an_error():
    def fail(module, values):
        raise ZeroDivisionError

    before = logging.getLogger("lightning.pytorch").level
    with pytest.raises(ZeroDivisionError), warnings.catch_warnings():
        run(Tiny(fail))
    assert logging.getLogger("lightning.pytorch").level == before


def test_threads(monkeypatch):
    seen = []

    def look(module, values):
        seen.append(torch.get_num_threads())
        return values

    before = torch.get_num_threads()
    run(Tiny(look), max_epochs=1)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
    monkeypatch.setattr(_lightning, "ENTRIES_FOR_THREADS", 1)
    monkeypatch.setattr("scpln.core._threads.available_threads", lambda: 2)
    seen.clear()
    run(Tiny(look), max_epochs=1)
    assert set(seen) == {2}


def test_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr("scpln.utils._progress._is_watched", lambda: True)
    train_by_gradients(Tiny(), make_data(), options(), device=CPU, description="Tiny")
    out, err = capsys.readouterr()
    assert out == ""
    assert "Tiny" in err
    assert "6/6" in err
    assert "nats per cell; 6 epochs (18 steps)" in err


def test_several_devices_are_refused():
    with pytest.raises(ValueError, match=r"devices=2 are 2 devices.*devices=1"):
        train_by_gradients(Tiny(), make_data(), options(), device=DeviceOptions("cpu", 2), progress=False)


# What is not finite


def spoil(*steps: int, what=lambda values: values * math.nan):
    """Script that spoils the given training steps, counted from 1."""

    def script(module: Tiny, values: torch.Tensor) -> torch.Tensor:
        return what(values) if module.training and len(module.training_calls) in steps else values

    return script


def nan_gradient(values: torch.Tensor) -> torch.Tensor:
    return values + torch.sqrt(values.detach() * 0 + 0 * values)


@pytest.mark.parametrize("what", [lambda values: values * math.nan, nan_gradient], ids=["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped(what):
    module, seen = Tiny(), []
    spoiled = spoil(3, 4, 5, 9, 10, 14, what=what)

    def script(module, values):
        if module.training:
            seen.append(weights(module))
        return spoiled(module, values)

    module.script = script
    result = run(module)
    assert (result.n_steps, result.n_skipped, result.failed) == (18, 6, False)
    assert "18 steps, 6 of them skipped, since something was not finite" in result.reason
    moved = [not np.array_equal(*pair) for pair in itertools.pairwise(seen)]
    assert moved == [step not in (3, 4, 5, 9, 10, 14) for step in range(1, 18)]
    assert np.isfinite(weights(module)).all()
    assert all(math.isfinite(value) for values in result.history.values() for value in values)


@pytest.mark.parametrize("bad_from", [1, 4, COPY_EVERY + 3])
def test_several_in_a_row_end_it_with_the_last_good_parameters(bad_from):
    module, seen = Tiny(), {}
    spoiled = spoil(*range(bad_from, 1000))

    def script(module, values):
        seen.setdefault(len(module.training_calls), weights(module))
        return spoiled(module, values)

    module.script = script
    result = run(module, max_epochs=50)
    assert result.failed
    assert (result.n_steps, result.n_skipped) == (bad_from + 4, 5)
    assert result.reason.startswith("failed after")
    assert isinstance(result.failure, NotFiniteError)
    kept = 1 if bad_from <= COPY_EVERY else COPY_EVERY + 1
    np.testing.assert_array_equal(weights(module), seen[kept])
    assert not module.training
    assert result.best_epoch is None


def test_the_error_names_the_cells():
    """The third cell of each batch is bad: these cells are named, by their position in the data."""

    def script(module, values):
        return values.index_fill(0, torch.tensor([2]), math.inf) if module.training else values

    module = Tiny(script)
    failure = run(module).failure
    (cell,) = failure.cells
    batch = module.training_calls[-1]["batch"]
    np.testing.assert_array_equal(batch.counts.dense[2], make_data().counts.toarray()[cell])
    assert f"the bound of cells [{cell}] was not finite in 5 steps in a row" in str(failure)


def test_the_error_names_the_parameter():
    class Broken(Tiny):
        def loss(self, batch, **weights):
            output = super().loss(batch, **weights)
            return Loss(output.value + nan_gradient(self.decoder.bias).sum() * 0, output.parts)

    failure = run(Broken()).failure
    assert failure.parameter == "decoder.bias"
    assert "the gradient of decoder.bias was not finite" in str(failure)


# Stopping early


class Scripted(Tiny):
    """Its n-th validation gives the n-th value; remembers the weights at each."""

    def __init__(self, values) -> None:
        super().__init__()
        self.values, self.at_validation = values, []

    def loss(self, batch, **weights_of_terms):
        output = super().loss(batch, **weights_of_terms)
        if self.training:
            return output
        self.at_validation.append(weights(self))
        n = len(batch)
        value = self.values[len(self.at_validation) - 1] if len(self.at_validation) <= len(self.values) else 9.0
        return Loss(output.value, {"reconstruction_loss": torch.full((n,), float(value)), "kl_local": torch.zeros(n)})


@pytest.mark.parametrize(
    ("values", "patience", "best", "last"),
    [
        ([1, 1, 1, 1, 5, 4, 3, 6, 6], 3, 7, 10),  # the first four are of the warm-up
        ([1, 1, 1, 1, 5, 6, 4, 6, 6], 2, 7, 9),
        ([1, 1, 1, 1, 5, math.nan, math.nan], 2, 5, 7),
    ],
)
def test_it_stops_early_and_keeps_the_best(values, patience, best, last):
    module = Scripted(values)
    result = run(module, max_epochs=12, patience=patience)
    assert (result.best_epoch, result.n_epochs, result.stopped_early) == (best, last, True)
    np.testing.assert_array_equal(weights(module), module.at_validation[best - 1])
    assert result.reason == (
        f"stopped early after {last} epochs ({3 * last} steps); "
        f"the weights of epoch {best}, best for the validation cells, are kept"
    )


def test_the_best_is_kept_if_all_epochs_are_done():
    module = Scripted([1, 1, 5, 4, 8, 8])
    result = run(module)
    assert (result.best_epoch, result.n_epochs, result.stopped_early) == (4, 6, False)
    np.testing.assert_array_equal(weights(module), module.at_validation[3])


def test_without_early_stopping_the_last_is_kept():
    module = Scripted([1, 1, 5, 4, 8, 8])
    result = run(module, early_stopping=False, patience=1)
    assert (result.best_epoch, result.n_epochs) == (None, 6)
    np.testing.assert_array_equal(weights(module), module.at_validation[-1])
    assert result.reason == "6 epochs (18 steps)"


@pytest.mark.parametrize("kl_warmup", [0.0, 0.4, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("n_cells", [20, N_CELLS])
def test_the_last_epoch_counts_whatever_the_warm_up(n_cells, kl_warmup):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run(Tiny(), make_data(n_cells), kl_warmup=kl_warmup)
    assert result.history["kl_weight"][-1] == 1.0
    assert result.best_epoch is not None
    counted = [weight == 1 for weight in result.history["kl_weight"]]
    assert epochs_at_full_weight(kl_warmup, 6, result.n_steps // 6) == sum(counted) >= 1


@pytest.mark.parametrize("kl_warmup", [0.9, 1.0])
def test_a_warm_up_that_leaves_one_epoch_is_told(kl_warmup):
    with pytest.warns(UserWarning, match=r"kl_warmup=.* leaves early_stopping only the last of 6 epochs"):
        run(Tiny(), kl_warmup=kl_warmup)


def test_a_warm_up_that_leaves_less_than_patience_is_logged(caplog):
    caplog.set_level(logging.INFO, "scpln")
    run(Tiny(), patience=4)
    assert "not end training: kl_warmup=0.333 leaves it 4 of 6 epochs, and patience=4" in caplog.text


def test_cells_too_few_to_validate_are_logged(caplog):
    caplog.set_level(logging.INFO, "scpln")
    run(Tiny(), make_data(9))
    assert "9 cells are too few to validate on some of them: early_stopping has no effect." in caplog.text


def test_checkpoints_that_come_too_late_are_told(tmp_path):
    with pytest.warns(UserWarning, match="checkpoint_every=7 is more than max_epochs=6"):
        run(Tiny(), directory=tmp_path, every=7)


@pytest.mark.parametrize(
    "changes",
    [{}, {"kl_warmup": 0.0, "patience": 3}, {"kl_warmup": 1.0, "early_stopping": False}, {"validation_size": 0.0}],
)
def test_nothing_is_said_of_settings_that_go_together(changes, caplog, tmp_path):
    caplog.set_level(logging.INFO, "scpln")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(Tiny(), directory=tmp_path, every=6, **changes)
    assert caplog.text == ""


def test_validation_that_is_never_finite_is_told():
    result = run(Scripted([math.nan] * 12), patience=2)
    assert (result.best_epoch, result.stopped_early) == (None, True)
    assert result.reason == (
        "stopped early after 4 epochs (12 steps); "
        "no bound of the validation cells was finite, and the last weights are kept"
    )


def test_few_cells_are_all_trained_on():
    result = run(Tiny(), make_data(5), patience=1)
    assert (result.n_epochs, result.best_epoch, len(result.train_cells)) == (6, None, 5)


# Ctrl-C


def press_ctrl_c(step: int):
    def script(module, values):
        if module.training and len(module.training_calls) == step:
            signal.raise_signal(signal.SIGINT)
        return values

    return script


def test_ctrl_c_keeps_what_was_reached():
    module = Tiny(press_ctrl_c(5))
    handler = signal.getsignal(signal.SIGINT)
    result = run(module, max_epochs=6)
    assert (result.interrupted, result.failed, result.n_epochs, result.n_steps) == (True, False, 1, 4)
    assert result.reason == "interrupted after 1 epoch (4 steps); what they reached is kept"
    assert signal.getsignal(signal.SIGINT) is handler
    assert not np.allclose(weights(module), weights(Tiny()), atol=1e-4)
    assert not module.training


def test_ctrl_c_keeps_the_best():
    module = Scripted([1, 1, 4, 5, 6])
    module.script = press_ctrl_c(17)
    result = run(module, max_epochs=6)
    assert (result.interrupted, result.best_epoch) == (True, 3)
    np.testing.assert_array_equal(weights(module), module.at_validation[2])
    assert "interrupted after 5 epochs (16 steps); the weights of epoch 3, best" in result.reason


# Checkpoints


@pytest.mark.parametrize("stop_at", [2, 8, 13])
@pytest.mark.parametrize("patience", [100, 2])
def test_a_training_that_is_taken_up_again_ends_as_if_it_had_not_stopped(tmp_path, stop_at, patience):
    values = [1, 1, 5, 4, 6, 6, 6, 6]
    whole = Scripted(values)
    expected = run(whole, max_epochs=8, patience=patience)

    first = Scripted(values)
    first.script = press_ctrl_c(stop_at)
    assert run(first, max_epochs=8, patience=patience, directory=tmp_path).interrupted
    second = Scripted(values)
    second.at_validation = first.at_validation.copy()
    torch.manual_seed(99)
    result = run(second, max_epochs=8, patience=patience, directory=tmp_path, resume=True)

    np.testing.assert_array_equal(weights(second), weights(whole))
    assert without_time(result.history) == without_time(expected.history)
    assert (np.diff(result.history["seconds"]) > 0).all()
    assert (result.reason, result.best_epoch) == (expected.reason, expected.best_epoch)


def test_the_optimizer_goes_on_too(tmp_path):
    """Without early stopping the last weights are kept, to which every step contributes."""
    whole, first, second = Tiny(), Tiny(press_ctrl_c(11)), Tiny()
    run(whole, early_stopping=False)
    run(first, early_stopping=False, directory=tmp_path)
    result = run(second, early_stopping=False, directory=tmp_path, resume=True)
    np.testing.assert_array_equal(weights(second), weights(whole))
    assert (result.n_steps, len(second.training_calls)) == (18, 9)


@pytest.mark.parametrize("patience", [100, 1])
def test_a_finished_training_is_not_continued(tmp_path, patience):
    first, second = Scripted([1, 1, 5, 6]), Scripted([])
    expected = run(first, patience=patience, directory=tmp_path)
    result = run(second, patience=patience, directory=tmp_path, resume=True)
    assert second.calls == []
    assert result.reason == expected.reason
    np.testing.assert_array_equal(weights(second), weights(first))


def test_checkpoints_hold_no_code(tmp_path):
    run(Tiny(), directory=tmp_path)
    (path,) = tmp_path.iterdir()
    saved = torch.load(path, weights_only=True)
    assert saved["epoch"] == 5


def test_checkpoints_of_some_epochs(tmp_path):
    epochs = []

    def script(module, values):
        if module.training:
            path = tmp_path / "last.ckpt"
            epochs.append(torch.load(path, weights_only=True)["epoch"] + 1 if path.exists() else 0)
        return values

    run(Tiny(script), directory=tmp_path, every=3, max_epochs=7)
    assert epochs[::3] == [0, 0, 0, 3, 3, 3, 6]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] + 1 == 7


def test_a_checkpoint_is_not_overwritten(tmp_path):
    run(Tiny(), directory=tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        run(Tiny(), directory=tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 4}, "seed=0, not 4"),
        ({"data": make_data(50)}, "n_cells=60, not 50"),
        ({"labels": np.zeros(N_CELLS, dtype=int)}, "cells='.*', not '.*'"),
        ({"settings": {"likelihood": "nb"}}, "likelihood='poisson', not 'nb'"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, changes, told):
    run(Tiny(), directory=tmp_path, settings={"likelihood": "poisson"})
    with pytest.raises(ValueError, match=told):
        run(Tiny(), directory=tmp_path, resume=True, **{"settings": {"likelihood": "poisson"}} | changes)


def test_resume_without_a_checkpoint(tmp_path, caplog):
    caplog.set_level(logging.INFO, "scpln")
    assert run(Tiny(), directory=tmp_path / "new", resume=True).n_epochs == 6
    assert "no checkpoint" in caplog.text
    with pytest.raises(ValueError, match="checkpoint_dir="):
        run(Tiny(), resume=True)


def test_default_epochs():
    sizes = np.array([1, 100, 700, 2_700, 10_000, 100_000, 1_000_000])
    epochs = np.array([default_epochs(int(n), 128) for n in sizes])
    steps = epochs * -(-sizes // 128)
    assert (np.diff(epochs) <= 0).all()
    assert (steps >= 1_000).all()
    assert epochs[3] == 100
    assert 10 <= epochs[-1] <= 20
    assert default_epochs(100_000, 1024) > default_epochs(100_000, 128)
