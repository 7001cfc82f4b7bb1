"""The pages of the reference list every public name, and have a place for every method."""

import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import scpln
from scpln import model

DOCS = Path(__file__).parents[1] / "docs"
CLASSES = [getattr(model, name) for name in model.__all__ if inspect.isclass(getattr(model, name))]


def from_file(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = from_file(DOCS / "_reference.py")


def public_names():
    """Names that the packages list, where they are defined: what `module` takes from its sub-packages stands there only."""
    packages = [name for name in scpln.__all__ if isinstance(getattr(scpln, name), ModuleType)]
    nested = ["module.flows", "module.likelihoods"]
    names = {name for name in scpln.__all__ if name not in packages and not name.startswith("_")}
    for package in [*packages, "module", *nested]:
        names |= {f"{package}.{name}" for name in importlib.import_module(f"scpln.{package}").__all__}
    return names - {f"module.{name.rpartition('.')[2]}" for name in names if name.startswith(tuple(nested))}


def test_every_public_name_is_listed_once():
    assert sorted(reference.public_objects()) == sorted(f"scpln.{name}" for name in public_names())


@pytest.mark.parametrize("name", scpln.pl.__all__)
def test_pages_of_figures_show_one(name):
    """It is drawn from the example, which the tests run too."""
    _, _, example = inspect.getdoc(getattr(scpln.pl, name)).partition(
        "Examples\n--------\n.. plot::\n\n    >>> import scpln\n"
    )
    assert f"scpln.pl.{name}(" in example


def is_ours(cls, name):
    owner = next(base for base in cls.__mro__ if name in vars(base))
    made_by = type(vars(owner)[name]).__module__  # scikit-learn gives its estimators methods
    return owner.__module__.startswith("scpln") and not made_by.startswith("sklearn")


@pytest.mark.parametrize("cls", CLASSES)
def test_every_method_has_a_place(cls):
    """The build of the pages stops where one of these anchors is missing from them."""
    methods = [name for name, _ in inspect.getmembers(cls, inspect.isroutine) if not name.startswith("_")]
    is_model = issubclass(cls, model.ScplnModel)
    expected = {*(("history", "to_device") if is_model else ()), *(name for name in methods if is_ours(cls, name))}
    assert {"save", "annotate" if is_model else "predict"} <= expected
    assert {f"scpln.model.{cls.__name__}.{name}" for name in expected} <= set(reference.anchors())


def test_a_missing_place_is_noticed(tmp_path):
    folder = tmp_path / "api" / "generated"
    folder.mkdir(parents=True)
    all_but_one = [anchor for anchor in reference.anchors() if anchor != "scpln.model.PLNPCA.train"]
    (folder / "page.html").write_text("".join(f'<dt id="{anchor}">' for anchor in all_but_one), encoding="utf-8")
    assert reference.missing_anchors(tmp_path) == ["scpln.model.PLNPCA.train"]
