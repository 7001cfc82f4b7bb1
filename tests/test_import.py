"""Importing is quick, and the layers point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import scpln

SOURCE = Path(scpln.__file__).parent
HEAVY = ("anndata", "jax", "lightning", "matplotlib", "mudata", "numba", "pandas", "scanpy", "scipy", "scvi", "torch")

ALLOWED = {
    "cli": {"cli", "datasets", "model", "pl", "tl"},
    "tl": {"tl", "model"},
    "hub": {"hub", "model"},
    "tune": {"tune", "model"},
    "model": {"model", "inference", "module"},
    "inference": {"inference", "module"},
    "module": {"module"},
    "pl": {"pl"},
    "datasets": {"datasets"},
}
"""The sub-packages that each one may import: cli → tl → model → inference → module; hub and tune → model; pl and datasets none of them."""

FOREIGN = {
    "inference": {"anndata", "mudata", "muon", "scanpy", "scvi"},
    "module": {"anndata", "mudata", "muon", "scanpy"},
}
"""The outside packages that the mathematics must not know; of scvi-tools, `module` may use all but its data layer."""


def modules(package):
    return sorted((SOURCE / package).rglob("*.py"))


def imported(path):
    """Absolute names of everything that a file imports, wherever in the file."""
    package = ["scpln", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("code", ["import scpln", "import scpln; scpln.__version__; dir(scpln)", "import scpln.cli"])
def test_import_loads_nothing_heavy(code):
    loaded = run_python(f"{code}; import sys; print(*sys.modules)")
    assert not set(HEAVY) & set(loaded)


def test_submodules_load_when_touched():
    loaded = run_python("import scpln; scpln.datasets.simulate; import sys; print(*sys.modules)")
    assert "anndata" in loaded
    assert not {"torch", "scvi", "scanpy"} & set(loaded)


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'scpln' has no attribute 'models'"):
        scpln.models  # noqa: B018


def test_every_subpackage_has_a_layer():
    found = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert found <= set(ALLOWED)


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_point_one_way(package):
    assert modules(package)
    for path in modules(package):
        for name in imported(path):
            if name.startswith("scpln."):
                target = name.split(".")[1]
                assert target in ALLOWED[package] | {"__version__", "_settings"}, (
                    f"{path.relative_to(SOURCE)} imports {name}"
                )


@pytest.mark.parametrize("package", FOREIGN)
def test_mathematics_knows_no_anndata(package):
    for path in modules(package):
        for name in imported(path):
            assert name.split(".")[0] not in FOREIGN[package], f"{path.relative_to(SOURCE)} imports {name}"
            assert not name.startswith("scvi.data"), f"{path.relative_to(SOURCE)} imports {name}"
