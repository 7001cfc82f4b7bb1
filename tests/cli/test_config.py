"""``scpln fit --config`` and ``--write-config``."""

import os
import shlex
import time
from itertools import pairwise

import anndata as ad
import numpy as np
import pytest
import yaml

import scpln
from scpln.cli import main
from scpln.cli.fit import _command as _fit
from scpln.cli.fit._config import with_config

SETTINGS = {"n_latent": 2, "max_epochs": 3, "seed": 4, "threads": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    adata = scpln.datasets.simulate(40, 15, n_latent=2, n_batches=2, density=0.5)
    adata.layers["raw"] = adata.X.copy()
    adata.write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(folder, text, *argv):
    """What the command line and a file of options come to."""
    from scpln.cli import make_parser

    (folder / "run.yaml").write_text(text)
    argv = with_config(["--config", "run.yaml", *argv], _fit.options_parser())
    return make_parser().parse_args(["fit", *argv])


def test_a_file_is_as_good_as_a_command_line(folder):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    assert main(["fit", "in.h5ad", "--out", "a.h5ad", "--batch-key", "batch", "--layer", "raw", *options]) == 0
    (folder / "run.yaml").write_text(
        yaml.safe_dump({"input": "in.h5ad", "out": "b.h5ad", "batch_key": "batch", "layer": "raw", **SETTINGS})
    )
    assert main(["fit", "--config", "run.yaml"]) == 0
    one, other = (ad.read_h5ad(folder / name).obsm["X_plnpca"] for name in ("a.h5ad", "b.h5ad"))
    np.testing.assert_array_equal(one, other)


def test_what_was_written_repeats_the_run(folder, capsys):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    more = ["--categorical-covariate", "batch", "--write-config", "run.yaml"]
    assert main(["fit", "in.h5ad", "--out", "a.h5ad", *options, *more]) == 0
    assert "options            run.yaml" in capsys.readouterr().out
    written = yaml.safe_load((folder / "run.yaml").read_text())
    assert written["categorical_covariate"] == ["batch"]
    assert written["likelihood"] == "poisson"
    assert "force" not in written
    assert main(["fit", "--config", "run.yaml", "--out", "b.h5ad"]) == 0
    one, other = (ad.read_h5ad(folder / name).obsm["X_plnpca"] for name in ("a.h5ad", "b.h5ad"))
    np.testing.assert_array_equal(one, other)
    assert main(["fit", "--config", "run.yaml", "--out", "c.h5ad", "--write-config", "run.yaml"]) == 3
    assert "--force" in capsys.readouterr().err


def test_the_command_line_wins(folder):
    text = "input: a.h5ad\nout: a_out.h5ad\nn-latent: 3\nmodel: countvae\ncolor: [x, y]\nearly_stopping: false\nresume: true\n"
    args = parsed(folder, text)
    assert (str(args.input), str(args.out), args.n_latent, args.color) == ("a.h5ad", "a_out.h5ad", 3, ["x", "y"])
    assert args.early_stopping is False
    assert args.resume is True
    args = parsed(folder, text, "b.h5ad", "--n-latent", "10", "--color", "z", "--early-stopping", "--no-resume")
    assert (str(args.input), args.n_latent, args.color) == ("b.h5ad", 10, ["z"])
    assert args.early_stopping is True
    assert args.resume is False
    assert parsed(folder, text, "--out", "b.h5ad", "c.h5ad").input.name == "c.h5ad"


def test_every_option_may_be_in_a_file(folder):
    """Each with its first choice, or 1, or true, is what the same on a command line is."""
    entries, argv = {}, []
    for action in _fit.options_parser()._actions:
        name = action.option_strings[0].removeprefix("--")
        if name == "config":
            continue
        value = True if action.nargs == 0 else next(iter(action.choices)) if action.choices else "1"
        entries[name.replace("-", "_")] = value
        argv += [f"--{name}"] if value is True else [f"--{name}", value]
    from_file = vars(parsed(folder, yaml.safe_dump({"input": "in.h5ad", **entries})))
    from_line = vars(parsed(folder, "", "in.h5ad", *argv))
    assert from_file | {"parser": None} == from_line | {"parser": None}
    assert len(entries) > 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_latnt: 4", "line 2: n_latnt is not an option of scpln fit; did you mean n_latent?"),
        ("n-latnt: 4", "did you mean n-latent?"),
        ("zzz: 4", "line 2: zzz is not an option of scpln fit; `scpln fit --help` lists them"),
        ("config: b.yaml", "line 2: config cannot be in the file itself"),
        ("n_latent: many", "line 2: n_latent: 'many' is not a positive whole number"),
        ("n_latent: 2.5", "line 2: n_latent: '2.5' is not a positive whole number"),
        ("n_latent: [1, 2]", "line 2: n_latent: a list was given, and this option takes one value"),
        ("seed: x", "line 2: seed: 'x' is not a whole number"),
        ("force: 3", "line 2: force: 3 is not true or false"),
        ("layer: on", "line 2: layer: true is not a value of this option; if it is a name, write it in quotes"),
        ("layer:", "line 2: layer: it has no value"),
        ("layer: {a: b}", "line 2: layer: {'a': 'b'} is not a text or a number"),
        ("color: [a, [b]]", "line 2: color: ['b'] is not a text or a number"),
        ("likelihood: normal", "line 2: likelihood: 'normal' is not one of poisson, nb"),
        ("input: 3", "line 2: input: 3 is not a path"),
        ("layer: a\nlayer: b", "line 3: layer was given in line 2 already"),
        ("n_latent: 2\nn-latent: 3", "line 3: n-latent was given in line 2 already"),
        ("a: b: c", "line 2: not YAML: mapping values are not allowed here"),
        ("a: [b", "not YAML"),
        ("layer: 2020-13-45", "line 2: '2020-13-45' is not understood: month must be in 1..12; if it is a name"),
    ],
)
def test_mistakes_are_named_with_their_line(folder, capsys, text, message):
    (folder / "run.yaml").write_text(f"out: out.h5ad\n{text}\n")
    assert main(["fit", "in.h5ad", "--config", "run.yaml"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("scpln: error: run.yaml")
    assert message in err
    assert err.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == {"in.h5ad", "run.yaml"}


def test_files_that_are_no_options(folder, capsys):
    assert main(["fit", "--config", "none.yaml"]) == 2
    assert capsys.readouterr().err == "scpln: error: none.yaml: cannot be read: No such file or directory\n"
    (folder / "list.yaml").write_text("- a\n- b\n")
    assert main(["fit", "--config", "list.yaml"]) == 2
    assert "list.yaml, line 1: this is not a list of options" in capsys.readouterr().err
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert main(["fit", "--config", "bytes.yaml"]) == 2
    assert "bytes.yaml" in capsys.readouterr().err


def test_what_neither_says_is_still_required(folder, capsys):
    (folder / "run.yaml").write_text("n_latent: 2\n")
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--config", "run.yaml"])
    assert "required: IN.h5ad, --out" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", "none.yaml", "--help"])


BOMB = "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghijklmnop"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a: &a [x]\n{BOMB}", "line 2: *a does not stand for a text or a number; write out what it is"),
        ("color: &a [*a]", "line 1: *a does not stand for a text or a number"),
        (f"a: {'[' * 30_000}", "line 1: this is nested more than 5 deep, and no options are"),
        (f"a: {'{b: ' * 20_000}", "line 1: this is nested more than 5 deep"),
        ("- " * 30_000, "line 1: this is nested more than 5 deep"),
        (f"layer: {'z' * 10**7}", "this is longer than 100,000 bytes, and no file of options is"),
        (f"n_latent: {'z' * 90_000}", "is not a positive whole number"),
        (f"likelihood: {'z' * 90_000}", "is not one of poisson, nb"),
        (f"n_latent: {'1' * 6_000}", "is not understood: Exceeds the limit"),
        (f"{'z' * 900}: 1", "is not an option of scpln fit"),
    ],
)
def test_hostile_files_are_refused_at_once(folder, capsys, text, message):
    (folder / "run.yaml").write_text(text)
    started = time.monotonic()
    assert main(["fit", "in.h5ad", "--out", "a.h5ad", "--config", "run.yaml"]) == 2
    assert time.monotonic() - started < 10  # some of these took more than a minute
    err = capsys.readouterr().err
    assert message in err
    assert len(err) < 1000


def test_files_without_an_end_are_refused(folder, capsys):
    os.mkfifo(folder / "pipe")
    for path in ("/dev/zero", "pipe"):
        assert main(["fit", "in.h5ad", "--out", "a.h5ad", "--config", path]) == 2
        assert "this is a directory, a pipe or a device" in capsys.readouterr().err
        (folder / "run.yaml").write_text(f"input: {path}\nout: a.h5ad\n")
        assert main(["fit", "--config", "run.yaml"]) == 1
        assert f"{path} is a pipe or a device" in capsys.readouterr().err


def test_an_input_named_like_an_option_is_a_file(folder, capsys):
    (folder / "run.yaml").write_text("input: -h\nout: a.h5ad\n")
    assert main(["fit", "--config", "run.yaml"]) == 1
    assert capsys.readouterr().err == "scpln: error: no such file: -h\n"


def test_aliases_of_texts_are_allowed(folder):
    args = parsed(folder, "layer: &a raw\nbatch_key: *a\n", "in.h5ad", "--out", "a.h5ad")
    assert (args.layer, args.batch_key) == ("raw", "raw")


def test_the_line_that_repeats_a_run_can_be_pasted(folder, monkeypatch):
    name = "my run $(id); 'x'.yaml"
    assert main(["fit", "in.h5ad", "--out", "a.h5ad", "--max-epochs", "1", "--write-config", name]) == 0
    line = (folder / name).read_text().splitlines()[0].partition("repeat this run: ")[2]
    assert shlex.split(line) == ["scpln", "fit", "--config", name]
    name = "two\nlines.yaml"
    assert main(["fit", "in.h5ad", "--out", "b.h5ad", "--max-epochs", "1", "--write-config", name]) == 0
    assert yaml.safe_load((folder / name).read_text())["input"] == "in.h5ad"
