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


#: How a page says what the glossary explains.
TERMS = {
    "bound": r"bounds?|ELBO|evidence lower bound",
    "nats": r"nats?",
    "posterior": r"posteriors?",
    "importance-weighted bound": r"importance-weighted",
    "Pareto k̂": r"Pareto|k̂",
    "KL": r"KL",
    "latent state": r"latent (?:states?|spaces?)",
    "loadings": r"loadings",
    "size factor": r"size factors?",
    "amortized": r"amortized|encoders?",
    "flow": r"flows?",
    "full rank": r"full[- ]rank",
}
JARGON = ("nats", "importance-weighted bound", "Pareto k̂", "KL", "amortized")
#: What is no prose: blocks of code, formulas, names in code and headings.
NOT_PROSE = re.compile(r"^```.*?^```$|^\$\$.*?^\$\$$|`+[^`{}]*`+(?!`)|\$[^$]*\$|^#[^\n]*$", re.DOTALL | re.MULTILINE)
TERM = re.compile(r"\{term\}`(?:([^`<]*?) <)?([^`<>]+)>?`")
REFERENCE = {"docs/tried.md", "docs/developer.md", "docs/glossary.md"}  # of developers, and the place itself


def pages():
    """Pages for users."""
    paths = sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md"))
    return [path for path in paths if not {*GENERATED, "api"} & set(Path(path).parts) and path not in REFERENCE]


def as_word(pattern):
    return rf"(?<![\w/-])(?:{pattern})(?![\w-])"


def glossary():
    """Names that entries of the glossary have, each with those of the same entry."""
    [body] = re.findall(
        r"^```\{glossary\}\n:sorted:\n(.*?)^```",
        (ROOT / "docs/glossary.md").read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    entries = re.findall(r"((?:^\S.*\n)+)(?:^  .*\n)+", body, re.MULTILINE)
    return {name: set(entry.splitlines()) for entry in entries for name in entry.splitlines()}


@pytest.mark.parametrize("document", pages())
def test_terms_lead_to_the_glossary_where_a_page_first_has_them(document):
    text = (ROOT / document).read_text("utf-8")
    entries = glossary()
    linked = {}  # where each entry is first linked
    for match in TERM.finditer(text):
        assert match[2] in entries, match[0]
        for name in entries[match[2]]:
            linked.setdefault(name, match.start())
    blank = NOT_PROSE.sub(lambda found: " " * len(found[0]), TERM.sub(lambda found: " " * len(found[0]), text))
    late = []
    for name, words in TERMS.items():
        first = re.search(as_word(words), blank)
        if first and linked.get(name, len(text)) > first.start():
            late.append(f"{name}: {text[max(first.start() - 40, 0) : first.end() + 20]!r}")
    assert not late, "\n".join(late)


@pytest.mark.parametrize("document", [path for path in pages() if Path(path).parent.name in {"guides", "models"}])
def test_models_and_guides_begin_with_what_the_reader_wants_to_do(document):
    """In the first paragraph, before any of the terms of the method."""
    first = (ROOT / document).read_text("utf-8").split("\n\n")[1]
    assert first.startswith("To "), first
    for name in JARGON:
        assert not re.search(as_word(TERMS[name]), first), name


@pytest.mark.parametrize("document", pages())
def test_figures_are_drawn_by_programs_that_are_there(document):
    """Within eval-rst: matplotlib's directive gives an error, and no figure, in a page of MyST alone."""
    text = (ROOT / document).read_text("utf-8")
    assert "```{plot}" not in text
    for program in re.findall(r"^\.\. plot:: (\S+)$", text, re.MULTILINE):
        assert (ROOT / "docs" / program).exists(), program


def test_references_are_listed_once_and_those_that_pages_cite_are_listed():
    entries = re.findall(r"^@\w+\{(\w+),", (ROOT / "docs/references.bib").read_text(), re.MULTILINE)
    assert sorted(entries) == sorted(set(entries))
    for page in (ROOT / "docs").rglob("*.md"):
        cited = re.findall(r"\{cite:\w+\}`([^`]*)`", page.read_text(encoding="utf-8"))
        assert {key.strip() for keys in cited for key in keys.split(",")} <= set(entries), page
