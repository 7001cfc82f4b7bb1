"""``scpln completion``: scripts that complete in a real shell."""

import shutil
import subprocess

import pytest

from scpln.cli import main

COMPLETE = """
source "$1"
COMP_WORDS=(scpln {words}); COMP_CWORD={n}
$(complete -p scpln | sed -E 's/.*-F ([^ ]+).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "scpln.bash"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ev", {"evaluate"}),
        ("fit --n-la", {"--n-latent", "--n-layers"}),
        ("fit --n-lat", {"--n-latent"}),
        ("fit --likelihood z", {"zip", "zinb"}),
        ("fit --model countg", {"countgmvae"}),
        ("plot --kind varia", {"variance_explained"}),
        ("completion b", {"bash"}),
        ("datasets pb", {"pbmc68k_reduced"}),
        ("evaluate annot", {"annotated.h5ad"}),
        ("fit --config annot", {"annotated.h5ad"}),
    ],
)
def test_bash_completes(script, words, expected):
    (script.parent / "annotated.h5ad").touch()
    code = COMPLETE.format(words=words, n=len(words.split()))
    done = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", str(script)], cwd=script.parent, capture_output=True, text=True
    )
    if words != "fit --n-la":
        assert set(done.stdout.split()) == expected, done.stderr
    else:
        assert expected <= set(done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_every_shell_has_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(
        word in out for word in ("evaluate", "predict", "completion", "likelihood", "load-model", "pbmc68k_reduced")
    )


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ev", {"evaluate"}),
        ("fit --n-lat", {"--n-latent"}),
        ("fit --likelihood zin", {"zinb"}),
        ("map --fill", {"--fill-missing"}),
        ("evaluate annot", {"annotated.h5ad"}),
    ],
)
def test_fish_completes(words, expected, tmp_path, capsys):
    assert main(["completion", "fish"]) == 0
    (tmp_path / "scpln.fish").write_text(capsys.readouterr().out)
    (tmp_path / "annotated.h5ad").touch()
    code = f"source scpln.fish; complete -C'scpln {words}'"
    done = subprocess.run(["fish", "-N", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == expected, done.stderr
