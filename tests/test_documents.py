"""The Python that the README and the documentation show runs as it stands there, and what they refer to is there."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from scpln.cli import main, make_parser
from scpln.cli.fit import _command as _fit
from scpln.cli.fit._config import with_config
from scpln.model import ScplnModel
from scpln.module import FLOWS, LIKELIHOODS

ROOT = Path(__file__).parents[1]
#: Folders of docs that are made by the build; tutorials run there.
GENERATED = {"_build", "generated", "tutorials"}
BLOCK = r"^```{language}\n(.*?)^```"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(document, language):
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(BLOCK.format(language=language), text, re.DOTALL | re.MULTILINE)


def documents(language):
    """README and pages of the documentation that show code in a language."""
    pages = sorted(page.relative_to(ROOT) for page in (ROOT / "docs").rglob("*.md"))
    ours = ["README.md", *(page.as_posix() for page in pages if not GENERATED & set(page.parts))]
    return [document for document in ours if blocks(document, language)]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty folder for files, no window for figures, and registries that a page's additions do not outlive."""
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    registries = [(registry, dict(registry)) for registry in (FLOWS, LIKELIHOODS)]
    yield
    for registry, before in registries:
        registry.clear()
        registry.update(before)
    plt.close("all")


@pytest.mark.parametrize("document", documents("python"))
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("workspace")
def test_code_blocks_run_in_order(document):
    names = {}
    for block in blocks(document, "python"):
        exec(block, names)
    for name, value in names.items():
        if isinstance(value, ScplnModel) and value.is_trained_:
            assert np.isfinite(value.objective.value), name


def commands(document):
    """What the shell would start: the words of each command, and the file that its output goes to, or none."""
    for block in blocks(document, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                output = words.index(">") if ">" in words else len(words)
                yield words[:output], *(words[output + 1 :] or [None])


@pytest.mark.parametrize("document", documents("bash"))
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("workspace")
def test_commands_run_in_order(document, tmp_path):
    """In this process: sixteen of their own would load and compile the same libraries sixteen times."""
    for (program, *arguments), output in commands(document):
        if program == "python":
            assert arguments[0] == "-c"
            exec(arguments[1], {})
            continue
        assert program == "scpln"
        with (tmp_path / (output or "shown.txt")).open("w", encoding="utf-8") as file, redirect_stdout(file):
            try:
                code = main(arguments)
            except SystemExit as end:  # of --versions
                code = end.code or 0
        assert code == 0, arguments


def test_the_installed_command_runs_in_a_shell(tmp_path):
    """The README's first, as its reader would run it."""
    bin_of_this = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-e", "-c", blocks("README.md", "bash")[-1].splitlines()[0]],
        cwd=tmp_path,
        env=os.environ | {"PATH": bin_of_this},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("wrote counts.h5ad: 700 cells")
    assert (tmp_path / "counts.h5ad").exists()


@pytest.mark.parametrize("document", documents("yaml"))
def test_files_of_options_are_understood(document, tmp_path):
    for block in blocks(document, "yaml"):
        (tmp_path / "run.yaml").write_text(block, encoding="utf-8")
        argv = with_config(["--config", str(tmp_path / "run.yaml")], _fit.options_parser())
        assert make_parser().parse_args(["fit", *argv]).input


def test_pages_of_models_and_guides_show_code():
    shown = documents("python")
    assert {"README.md", "docs/getting_started.md"} <= set(shown)
    models = {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs" / "models").glob("*.md")}
    assert models <= set(shown)


def test_figures_of_pages_are_drawn():
    """Of a figure that is missing, or whose directive stands outside of reStructuredText, which it needs, the build only warns."""
    pages = [page for page in (ROOT / "docs").rglob("*.md") if not GENERATED & set(page.relative_to(ROOT).parts)]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert "{plot}" not in text
    figures = re.findall(r"^```{eval-rst}\n\.\. plot:: (.+)$", text, re.MULTILINE)
    assert figures
    assert [script for script in figures if not (ROOT / "docs" / script).is_file()] == []


def slugs(document):
    """Anchors of the headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "tutorials/README.md", "benchmarks/README.md"])
def test_links_lead_to_files_and_headings(document):
    """Sphinx checks those between its pages; these are read outside of it."""
    for link in LINK.findall((ROOT / document).read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        file = (ROOT / document).parent / target if target else ROOT / document
        assert file.exists(), link
        assert not anchor or anchor in slugs(file), link
