"""What a release says of itself in several files is said the same in all of them."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml
from packaging.requirements import Requirement

import scpln

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
RECIPE = yaml.safe_load((ROOT / "conda/recipe.yaml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
ECOSYSTEM = yaml.safe_load((ROOT / "ecosystem/meta.yaml").read_text(encoding="utf-8"))

CONDA_NAMES = {
    "arviz-stats": ["arviz-stats-core"],
    "matplotlib": ["matplotlib-base"],
    "scanpy[leiden]": ["scanpy", "leidenalg", "python-igraph"],
    "torch": ["pytorch"],
}
"""Packages of conda-forge with another name than on the package index; the first of them has the bound."""


def conda_requirements(requirements):
    """Requirements of pyproject.toml as a recipe writes them."""
    for requirement in map(Requirement, requirements):
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        first, *others = CONDA_NAMES.get(requirement.name + extras, [requirement.name])
        yield f"{first} {requirement.specifier}".strip()
        yield from others


def test_version_is_that_of_the_installed_package():
    installed = importlib.metadata.version("scpln")
    assert installed == scpln.__version__, "install it again: pip install --editable ."


def test_version_is_in_one_place():
    assert "version" in PROJECT["dynamic"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "src/scpln/__init__.py"
    assert "version" not in CITATION
    assert "version" not in ECOSYSTEM
    assert RECIPE["context"]["version"] == scpln.__version__
    assert RECIPE["package"] == {"name": PROJECT["name"], "version": "${{ version }}"}


def test_recipe_requires_what_the_package_requires():
    run, host = (set(RECIPE["requirements"][kind]) for kind in ("run", "host"))
    assert run == {"python >=${{ python_min }}", *conda_requirements(PROJECT["dependencies"])}
    assert host == {"python ${{ python_min }}.*", "pip", *conda_requirements(PYPROJECT["build-system"]["requires"])}
    assert PROJECT["requires-python"] == f">={RECIPE['context']['python_min']}"
    assert RECIPE["build"]["noarch"] == "python"
    scripts = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert RECIPE["build"]["python"]["entry_points"] == scripts


def test_recipe_tests_the_installed_package():
    imports, script = RECIPE["tests"]
    assert imports["python"]["pip_check"]
    assert all(name.split(".")[0] == "scpln" for name in imports["python"]["imports"])
    (file,) = script["files"]["source"]
    assert script["script"] == [f"python -I {file}"]
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(
    ("license_", "name"),
    [
        (RECIPE["about"]["license"], RECIPE["package"]["name"]),
        (ECOSYSTEM["license"], ECOSYSTEM["name"]),
        (CITATION["license"], CITATION["title"].split(":")[0]),
    ],
    ids=["recipe", "ecosystem", "citation"],
)
def test_name_and_license_are_the_same(license_, name):
    assert (license_, name) == (PROJECT["license"], PROJECT["name"])


def test_summary_is_the_same():
    assert RECIPE["about"]["summary"] == PROJECT["description"]


def test_ecosystem_entry():
    """The fields that the registry requires; continuous integration compares with its schema."""
    required = {"name", "description", "project_home", "documentation_home", "install", "license", "tags"}
    required |= {"primary_category", "language", "category"}
    optional = {"tutorials_home", "publications", "contact", "logo", "test_command"}
    assert required <= set(ECOSYSTEM) <= required | optional
    assert ECOSYSTEM["install"] == {"pypi": PROJECT["name"], "conda": f"conda-forge::{PROJECT['name']}"}
    assert 1 <= len(ECOSYSTEM["tags"]) == len(set(ECOSYSTEM["tags"])) <= 10
    for field in ("project_home", "documentation_home"):
        address = urlparse(ECOSYSTEM[field])
        assert address.scheme == "https"
        assert address.hostname


def test_citation():
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0"
    assert all(reference["doi"].startswith("10.") for reference in CITATION["references"])


def test_readme_of_the_package_index_has_no_relative_links():
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join((ROOT / fragment["path"]).read_text(encoding="utf-8") for fragment in hook["fragments"])
    shown = text
    for substitution in hook["substitutions"]:
        shown = re.sub(substitution["pattern"], substitution["replacement"], shown)
    targets = [
        *re.findall(r"\]\(([^)]*)\)", shown),
        *re.findall(r"^\[[^\]]+\]:\s*(\S+)", shown, re.MULTILINE),
        *re.findall(r"(?:src|href)=\"([^\"]*)\"", shown),
    ]
    assert targets
    assert not [target for target in targets if not target.startswith(("https://", "http://"))]
    assert "[changelog](CHANGELOG.md)" in text
    assert "changelog" in shown


def test_sdist_takes_what_is_there():
    for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        assert (ROOT / path.lstrip("/")).exists(), path
