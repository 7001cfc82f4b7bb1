"""Importing is quick, and the layers point one way."""

import ast
import graphlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import scpln

SOURCE = Path(scpln.__file__).parent
MOST_FILES, MOST_LINES, MOST_IN_FUNCTION = 13, 350, 60
HEAVY = ("anndata", "jax", "lightning", "matplotlib", "mudata", "numba", "pandas", "scanpy", "scipy", "scvi", "torch")

FLOORS = [
    ["core", "utils", "_catalogue"],
    ["module"],
    ["train"],
    ["inference"],
    ["data"],
    ["model"],
    ["tl", "tune", "hub"],
    ["cli"],
]
"""Sub-packages from the ground up: each may import those below it, and not those beside it. `datasets` and `pl` stand apart: the
command line alone imports them, and they import `utils` at most."""

ALLOWED = {
    package: {package, *(below for floor in FLOORS[:level] for below in floor)}
    for level, floor in enumerate(FLOORS)
    for package in floor
}
ALLOWED["cli"] |= {"datasets", "pl"}
ALLOWED |= {"datasets": {"datasets", "utils"}, "pl": {"pl", "utils", "_catalogue"}}

INSIDE = {
    "module": [
        ["_standardize", "_count_batch", "_batch", "_loss", "flows", "likelihoods", "covariances"],
        ["priors", "decoders", "encoders"],
        ["posteriors"],
        ["_generative", "_objective", "_approximation"],
        ["_latent_module"],
        ["_autoencoder"],
        ["_vae", "_mixture_vae", "pln", "_growth", "codes", "treewalk"],
    ],
    "inference": [
        ["expectations"],
        ["newton"],
        ["newton.poisson"],
        ["newton.general"],
        ["sampling", "genespace", "_gaussians", "comparison", "treewalk"],
        [
            "query",
            "mixture",
            "uncertainty",
            "ranks",
            "genespace.mixture",
            "genespace.series",
            "estimators",
            "classifiers",
            "linear",
            "tree",
            "codes",
        ],
    ],
    "model": [
        ["base"],
        ["abilities"],
        [
            "pln",
            "plnpca",
            "autoencoder",
            "pln_mixture",
            "pln_lda",
            "pln_ar",
            "labels",
            "mixture_classifier",
            "pln_tree",
            "tree_walk",
            "vqvae",
        ],
    ],
}
"""The same inside of packages that have floors of their own."""

FOREIGN = {
    "core": {"anndata", "lightning", "mudata", "muon", "scanpy", "scvi", "torch"},
    "module": {"anndata", "lightning", "mudata", "muon", "scanpy", "scvi"},
    "train": {"anndata", "lightning", "mudata", "muon", "scanpy", "scvi"},
    "inference": {"anndata", "lightning", "mudata", "muon", "scanpy", "scvi"},
}
"""The outside packages that the mathematics must not know, neither in its text nor at run time. Training in epochs may."""


def modules(package):
    return sorted((SOURCE / package).rglob("*.py"))


def imported(path, tree=None):
    """Absolute names of everything that a file imports, wherever in the file."""
    package = ["scpln", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(tree or ast.parse(path.read_text())):
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


def place(parts, floors):
    """Level of a module, given its path inside a package; the longest name that fits decides."""
    for length in (2, 1):
        for level, floor in enumerate(floors):
            if ".".join(parts[:length]) in floor:
                return level
    return None


@pytest.mark.parametrize("package", INSIDE)
def test_arrows_inside_point_one_way(package):
    floors = INSIDE[package]
    for path in modules(package):
        parts = path.relative_to(SOURCE / package).with_suffix("").parts
        level = place(parts, floors)
        if level is None:
            assert path.stem == "__init__", f"{path.relative_to(SOURCE)} stands on no floor"
            continue
        for name in runtime_imports(path):
            target = name.split(".")[2:]
            if name.startswith(f"scpln.{package}.") and place(target, floors) is not None:
                assert place(target, floors) <= level, f"{path.relative_to(SOURCE)} imports {name}"


def test_there_are_no_circles():
    """Among files, whatever they import as they are loaded; a package is what its ``__init__`` imports."""
    arrows = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(["scpln", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        arrows[name] = set(runtime_imports(path))
    known = {
        name: {longest_known(target, arrows) for target in targets} - {name, None} for name, targets in arrows.items()
    }
    for name in known:  # a file imports its package, which has imported it: that is no arrow
        known[name] -= {name.rpartition(".")[0], "scpln"}
    order = graphlib.TopologicalSorter(known)
    order.prepare()


def longest_known(name, known):
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def runtime_imports(path):
    """Imports at the top of a file, but those that are for annotations only."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imported(path, tree)


@pytest.mark.parametrize("package", FOREIGN)
def test_mathematics_knows_no_anndata(package):
    for path in modules(package):
        if "epochs" in path.parts:
            continue
        for name in imported(path):
            assert name.split(".")[0] not in FOREIGN[package], f"{path.relative_to(SOURCE)} imports {name}"


def test_mathematics_loads_no_anndata():
    """One after the other in one process, from the ground up: what a package may load, those above it may, too."""
    for below, above in pairwise(FOREIGN):
        assert FOREIGN[below] >= FOREIGN[above]
        assert ALLOWED[below] <= ALLOWED[above]
    packages = list(FOREIGN)
    code = f"""
import importlib, sys
for package in {packages}:
    importlib.import_module("scpln." + package)
    print(",".join(sys.modules))
"""
    for package, names in zip(packages, run_python(code), strict=True):
        loaded = set(names.split(","))
        assert not FOREIGN[package] & loaded, package
        ours = {name.split(".")[1] for name in loaded if name.startswith("scpln.")}
        assert package in ours
        assert ours <= ALLOWED[package] | {"_settings"}, package


def test_nobody_imports_private_modules_of_models():
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] == "model":
            continue
        for name in imported(path):
            private = [part for part in name.split(".")[2:] if part.startswith("_")]
            assert not (name.startswith("scpln.model.") and private), f"{path.relative_to(SOURCE)} imports {name}"


def test_files_folders_and_functions_are_small():
    for folder in {path.parent for path in SOURCE.rglob("*.py")}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, f"{folder.relative_to(SOURCE)} has {len(files)} files"
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= MOST_LINES, f"{path.relative_to(SOURCE)} is long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                length = node.end_lineno - first.lineno + 1
                assert length <= MOST_IN_FUNCTION, f"{path.relative_to(SOURCE)}: {node.name} has {length} lines"
