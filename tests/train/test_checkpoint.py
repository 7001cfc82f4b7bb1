"""A checkpoint is whole or the one before, holds no code, and belongs to one training."""

import errno
import multiprocessing
import os
import tempfile
import time

import numpy as np
import pytest
import torch

from scpln.core import CountData
from scpln.train._checkpoint import CHECKPOINT, check_same_training, describe_cells, read_checkpoint, write_checkpoint
from scpln.train.epochs._checkpoint import WholeCheckpoints


def test_a_checkpoint_that_fails_leaves_the_last_one(tmp_path):
    path = tmp_path / "state" / CHECKPOINT
    write_checkpoint(path, lambda file: torch.save({"epoch": 1, "x": torch.ones(2)}, file))

    def fail(file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, fail)
    assert read_checkpoint(path)["epoch"] == 1
    assert [file.name for file in path.parent.iterdir()] == [CHECKPOINT]


class Code:
    def __reduce__(self):
        return print, ("run",)


def test_code_is_refused(tmp_path, capsys):
    torch.save({"callbacks": Code()}, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="is a damaged checkpoint"):
        read_checkpoint(tmp_path / CHECKPOINT)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_one_is_damaged(tmp_path, share):
    path = tmp_path / CHECKPOINT
    torch.save({"x": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        ValueError, match=r"last.ckpt' is a damaged checkpoint: it is truncated, or holds something else"
    ):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1], {"callbacks": 1}])
def test_one_that_lacks_something_is_damaged(tmp_path, content):
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="is a damaged checkpoint"):
        read_checkpoint(tmp_path / CHECKPOINT, ["callbacks", "epoch"])


def write_forever(path):
    while True:
        WholeCheckpoints().save_checkpoint({"x": torch.ones(100_000), "number": 1}, path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_killed_processes_leave_a_whole_one(tmp_path, monkeypatch):
    """And the next one removes what they left; the temporary folder is not needed."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # which is for power failures, and slow
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    path, left = tmp_path / CHECKPOINT, 0
    for moment in range(12):
        process = multiprocessing.get_context("fork").Process(target=write_forever, args=(path,))
        process.start()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(0.0005 * moment)
        while len(list(tmp_path.iterdir())) < 2:  # until it writes the next one
            pass
        process.kill()
        process.join()
        assert read_checkpoint(path)["x"].sum() == 100_000
        left += len(list(tmp_path.iterdir())) > 1
    assert left > 0, "no process was killed while it wrote"
    WholeCheckpoints().save_checkpoint({"number": 2}, path)
    assert read_checkpoint(path) == {"number": 2}
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / CHECKPOINT
    WholeCheckpoints().save_checkpoint({"number": 1}, path)

    def full(content, file):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        WholeCheckpoints().save_checkpoint({"number": 2}, path)
    assert read_checkpoint(path) == {"number": 1}
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]


def test_another_training_is_refused(tmp_path):
    settings = {"seed": 0, "model": "a"}
    check_same_training(tmp_path, settings, dict(settings))
    for others in ({"seed": 1, "model": "a"}, {"seed": 0}, {**settings, "more": 1}):
        with pytest.raises(ValueError, match="checkpoint of another training"):
            check_same_training(tmp_path, settings, others)


def test_cells_are_told_apart():
    data = CountData(np.ones((4, 2)), np.zeros(4), np.ones((4, 1)))
    others = [
        describe_cells(CountData(np.ones((4, 2)), np.arange(4.0), np.ones((4, 1))), None),
        describe_cells(CountData(np.ones((4, 2)), np.zeros(4), 2 * np.ones((4, 1))), None),
        describe_cells(data, np.arange(4)),
    ]
    assert describe_cells(data, None) == describe_cells(data, None)
    assert describe_cells(data, None) not in others


def test_what_torch_says_of_a_full_disk_is_an_error_of_the_file_system(tmp_path, monkeypatch):
    def fail(*_args, **_more):
        message = "[enforce fail at inline_container.cc:672] . unexpected pos 1142080 vs 1141968"
        raise RuntimeError(message)

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="could not be written: is there room for it"):
        WholeCheckpoints().save_checkpoint({"number": 1}, tmp_path / CHECKPOINT)
    assert not list(tmp_path.iterdir())
