"""Tutorials are notebooks without results, which the documentation runs, shows and lists."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))


def test_there_are_tutorials():
    assert len(NOTEBOOKS) >= 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_results(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["cells"][0]["source"][0].startswith("# ")
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


def test_documentation_and_readme_list_all():
    names = {path.stem for path in NOTEBOOKS}
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^tutorials/(\w+)$", index, re.MULTILINE)) == names
    readme = (ROOT / "tutorials" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((\w+)\.ipynb\)", readme)) == names
