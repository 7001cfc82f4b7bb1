"""A checkpoint is whole or the one before, holds no code, and belongs to one training."""

import numpy as np
import pytest
import torch

from scpln.core import CountData
from scpln.train._checkpoint import CHECKPOINT, check_same_training, describe_cells, read_checkpoint, write_checkpoint


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
    with pytest.raises(Exception, match="weights_only"):
        read_checkpoint(tmp_path / CHECKPOINT)
    assert capsys.readouterr().out == ""


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
