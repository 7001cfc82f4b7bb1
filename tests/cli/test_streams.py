"""Closed and full standard output and error: what was written is said, and the exit code is as documented."""

import errno
import io
import subprocess
import sys

import pytest

import scpln
from scpln.cli import main
from scpln.cli._errors import OutputError
from scpln.cli._messages import tell


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, _text):
        raise OSError(errno.ENOSPC, "No space left on device")


class FullAtFlush(io.StringIO):
    """A buffered one."""

    def flush(self):
        if self.getvalue():
            raise OSError(errno.ENOSPC, "No space left on device")


def shell(line):
    line = line.replace("scpln", f"{sys.executable} -m scpln")
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True)


@pytest.mark.parametrize("argv", ["--versions", "fit --help", "completion bash"])
def test_a_full_standard_output_is_an_output_that_cannot_be_written(argv):
    done = shell(f"scpln {argv} > /dev/full")
    assert done.returncode == 3
    assert done.stderr == "scpln: error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- 2>&-"])
def test_a_standard_error_that_fails_changes_no_exit_code(redirection):
    assert shell(f"scpln fit none.h5ad --out a.h5ad {redirection}").returncode == 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    scpln.datasets.simulate(40, 15, n_latent=2, density=0.5).write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ARGV = ["fit", "in.h5ad", "--out", "a.h5ad", "--n-latent", "2", "--max-epochs", "2", "--save-model", "model"]


@pytest.mark.parametrize("options", [[], ["--summary", "-"], ["--summary", "s.json"]])
@pytest.mark.parametrize("stream", [Full, FullAtFlush])
def test_what_was_written_is_said(folder, monkeypatch, capsys, options, stream):
    monkeypatch.setattr(sys, "stdout", stream())
    assert main([*ARGV, *options]) == 3
    written = "a.h5ad, model, s.json" if "s.json" in options else "a.h5ad, model"
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last
        == f"scpln: error: cannot write to standard output: No space left on device; written before that: {written}"
    )
    assert (folder / "a.h5ad").exists()


@pytest.mark.parametrize("stderr", [None, Full()])
def test_a_fit_needs_no_standard_error(folder, monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    assert main(ARGV) == 0
    assert sys.stderr is stderr
    assert (folder / "a.h5ad").exists()


def test_a_fit_needs_no_standard_output(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(ARGV) == 0
    assert main([*ARGV, "--force", "--summary", "-"]) == 3
    assert "--summary - prints on standard output, which is closed; name a file" in capsys.readouterr().err


def test_a_reader_that_leaves_is_not_told(monkeypatch):
    class Left(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Left())
    with pytest.raises(BrokenPipeError):
        tell("text", None)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputError, match=r"No space left on device$"):
        tell("text", None)
