"""Models that released versions have saved load, and give what they gave (see `golden/make.py`)."""

import json
import re

import numpy as np
import pytest

import scpln

from .golden import make

ROOT = make.HERE.parents[1]
TOLERANCE = {"trained": 1e-4, "new": 1e-3}
"""Posteriors of training cells are stored; those of new ones are optimised, until the bound gains next to nothing."""

FOLDERS = sorted(path.parent for path in make.HERE.glob("v*/*/model.json"))


def load(folder):
    """A saved model, with the cells that it was trained on, and new ones."""
    saved = json.loads((folder / "model.json").read_text())["model"]
    assert f"v{saved['scpln_version']}" == folder.parent.name
    joint = "modalities" in saved["registry"]["setup_args"]
    trained, new = make.read_cells(folder.parent / "cells.csv", joint=joint)
    return getattr(scpln.model, saved["class"]).load(folder, trained), trained, new


def test_every_version_has_saved_models():
    released = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    for version in {*released, scpln.__version__}:
        assert (make.HERE / f"v{version}").is_dir(), f"run `python {make.__file__}` with scpln {version}"
    now = {folder.name for folder in FOLDERS if folder.parent.name == f"v{scpln.__version__}"}
    assert now == set(make.MODELS)


def test_saved_models_stay_small():
    for folder in make.HERE.glob("v*"):
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 300_000, folder


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_loads_and_gives_what_it_gave(folder):
    model, trained, new = load(folder)
    expected = json.loads((folder / "outputs.json").read_text())
    found = make.compute(list(expected["trained"]), model, trained, new)
    for cells, outputs in expected.items():
        for name, values in outputs.items():
            close = TOLERANCE[cells]
            np.testing.assert_allclose(found[cells][name], values, rtol=close, atol=close, err_msg=f"{name}, {cells}")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_goes_on_from_there(folder, tmp_path):
    model, trained, _ = load(folder)
    model.save(tmp_path / "again")
    again = type(model).load(tmp_path / "again", trained)
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
    model.annotate()
    assert np.isfinite(trained.obsm[f"X_{type(model).__name__.lower()}"]).all()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_history_shows_bounds_as_bounds(folder):
    """Those of epochs were minus the bound in files of version 0.1.0."""
    history = load(folder)[0].history
    bounds = {name: table[name] for name, table in history.items() if name.startswith("elbo")}
    assert bounds
    for name, values in bounds.items():
        assert (values < 0).all(), name
        assert values.iloc[-1] > values.iloc[0], name
