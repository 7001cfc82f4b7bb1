"""What every command has in common: help, exit codes, messages."""

import argparse
import io
import os
import subprocess
import sys
import warnings

import pytest

import scpln
from scpln import cli
from scpln.cli._errors import CommandError, ExitCode


def subcommands():
    (action,) = (a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


@pytest.fixture
def command(monkeypatch):
    """Replace what `scpln datasets` does, and run it."""

    def run(behaviour, *options):
        monkeypatch.setattr("scpln.cli._datasets.run", behaviour)
        return cli.main(["datasets", "pbmc68k_reduced", "--out", "out.h5ad", *options])

    return run


NOT_FINITE = "the bound was not finite. These cells are ['a']."


def noted(error, note):
    error.add_note(note)
    return error


def raises(error):
    def behaviour(_args):
        raise error

    return behaviour


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"scpln {scpln.__version__}\n"


def test_versions_are_those_that_are_imported(capsys):
    import numpy as np
    import torch

    with pytest.raises(SystemExit, match="0"):
        cli.main(["--versions"])
    lines = capsys.readouterr().out.splitlines()
    assert {f"scpln {scpln.__version__}", f"torch {torch.__version__}", f"numpy {np.__version__}"} <= {*lines}


def test_help_documents_every_exit_code_and_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {code.value} " in text for code in ExitCode)
    for parser in subcommands().values():
        assert all(action.help for action in parser._actions)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fot"],
        ["fit"],
        ["fit", "a.h5ad", "--out", "b.h5ad", "--n-latent", "0"],
        ["fit", "a", "--key-added", "a/b"],
        *(
            ["fit", "a.h5ad", "--out", "b.h5ad", option, value]
            for option, value in [
                ("--likelihood", "normal"),
                ("--posterior", "full"),
                ("--flow", "glow"),
                ("--n-steps", "0"),
                ("--n-importance-samples", "-2"),
                ("--learning-rate", "0"),
                ("--learning-rate", "nan"),
                ("--learning-rate", "fast"),
            ]
        ),
    ],
)
def test_wrong_command_lines(argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(argv)
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CommandError("no such file: a"), 1, "no such file: a"),
        (CommandError("a exists", ExitCode.OUTPUT), 3, "a exists"),
        (ValueError("two\n  lines"), 1, "two lines"),
        (KeyError("batch"), 1, "batch"),
        (noted(FloatingPointError("the bound was not finite."), "These cells are ['a']."), 1, NOT_FINITE),
        (RuntimeError("odd"), 70, "internal error (RuntimeError: odd); --debug shows where"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line_and_a_code(command, capsys, error, code, message):
    assert command(raises(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"scpln: error: {message}\n"


def test_debug_shows_the_traceback(command, capsys):
    assert command(raises(RuntimeError("odd")), "--debug") == 70
    assert "Traceback" in capsys.readouterr().err


def test_warnings_and_log_are_single_lines_on_stderr(command, capsys):
    def talks(args):
        import logging

        warnings.warn("counts look\nodd", UserWarning, stacklevel=2)
        warnings.warn("soon gone", FutureWarning, stacklevel=2)
        logging.getLogger("scpln.model").warning("not converged")
        return ExitCode.SUCCESS

    assert command(talks) == 0
    assert capsys.readouterr().err == "scpln: warning: counts look odd\nscpln: warning: not converged\n"
    assert command(talks, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_how_long_a_fit_takes_is_said_unless_quiet(command, capsys):
    from scpln.model.base._cost import Cost, announce

    def fits(args):
        announce(Cost(300.0, 1e6), 200_000, 2000)
        return ExitCode.SUCCESS

    assert command(fits) == 0
    assert capsys.readouterr().err.startswith("scpln: info: This fit takes about 5 min and 1 MB: 200,000 cells")
    assert command(fits, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "scpln", "fit", "none.h5ad", "--out", "o.h5ad"], capture_output=True)
    assert done.returncode == 1
    assert done.stderr == b"scpln: error: no such file: none.h5ad\n"


@pytest.mark.parametrize("argv", [["--versions"], ["fit", "--help"], ["completion", "bash"]])
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_leaves_is_no_error(argv, buffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "scpln", *argv], stdout=writer, stderr=subprocess.PIPE, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_without_unicode_loses_characters_and_not_the_results(command, monkeypatch):
    def prints(args):
        print("k\u0302 \u2264 0.7")  # noqa: T201
        return ExitCode.SUCCESS

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert command(prints) == 0
    assert written.getvalue() == b"k? ? 0.7\n"
