"""What the reference shows of a class: its own public members, and those of scvi-tools that its users need."""

import importlib
import inspect
from pathlib import Path

INHERITED = {
    "adata",
    "device",
    "history",
    "is_trained",
    "test_indices",
    "to_device",
    "train_indices",
    "validation_indices",
}
"""Members that models have from scvi-tools; its other ones are for those who write models."""

PACKAGE = "scpln"


def resolve(fullname):
    """The object of a dotted name."""
    parts = fullname.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise ImportError(fullname)


def is_shown(name, owner):
    ours = owner.__module__.partition(".")[0] == PACKAGE
    return not name.startswith("_") and (ours or name in INHERITED)


def members(fullname):
    """Names of the methods, and of the properties, that a class's page has entries for."""
    cls = resolve(fullname)
    found = {"methods": [], "properties": []}
    for name in sorted(dir(cls)):
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if owner is None or not is_shown(name, owner):
            continue
        attribute = inspect.getattr_static(cls, name)
        if isinstance(attribute, property):
            found["properties"].append(name)
        elif callable(attribute) or isinstance(attribute, (classmethod, staticmethod)):
            found["methods"].append(name)
    return found


def public_objects():
    """Full names of what the pages of the reference list."""
    for page in sorted((Path(__file__).parent / "api").glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            name = line.strip()
            if line.startswith("   ") and name and not name.startswith(":"):
                yield f"{PACKAGE}.{name}"


def anchors():
    """Every anchor that the built reference must have: a place for each public object and each of its members."""
    for fullname in public_objects():
        yield fullname
        if inspect.isclass(resolve(fullname)):
            for names in members(fullname).values():
                yield from (f"{fullname}.{name}" for name in names)


def missing_anchors(folder):
    """Those of the anchors that no page of the built reference has."""
    pages = [page.read_text(encoding="utf-8") for page in (Path(folder) / "api" / "generated").glob("*.html")]
    text = "\n".join(pages)
    return [anchor for anchor in anchors() if f'id="{anchor}"' not in text]
