"""What every model can do, tried on models without a latent state, without loadings and with another objective."""

import json
import re

import anndata
import numpy as np
import pytest

import scpln
from scpln._catalogue import MODELS
from scpln.cli import main
from scpln.model import setup_anndata

from .toys import ROWS, ToyClassifier, ToyGeneSpace

TOYS = [ToyClassifier, ToyGeneSpace]


@pytest.fixture(scope="module")
def cells():
    adata = scpln.datasets.simulate(n_obs=120, n_vars=12, n_latent=2, density=0.6, seed=0)
    adata.obs["kind"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "high", "low")
    return adata


@pytest.fixture(params=TOYS, ids=lambda toy: toy.__name__)
def trained(request, cells):
    adata = cells.copy()
    setup_anndata(adata, labels_key="kind")
    model = request.param(adata)
    model.train(progress=False)
    return model


def stored(adata, key):
    """All that stands under a key."""
    return {
        f"{slot}/{name}": np.asarray(getattr(adata, slot)[name])
        for slot in ("obs", "obsm", "var", "varm", "varp")
        for name in getattr(adata, slot)
        if re.match(rf"(X_)?{key}(_|$)", name)
    }


def test_it_shows_itself(trained, cells):
    objective = trained.objective
    assert np.isfinite(objective.value)
    assert str(objective) in repr(trained)
    assert str(objective) in trained._repr_html_()
    assert ("(loss)" in repr(trained)) == (not objective.higher_is_better)
    other = cells.copy()
    setup_anndata(other, labels_key="kind")
    untrained = type(trained)(other)
    assert "not trained" in repr(untrained)
    assert np.isnan(untrained.objective.value)


def test_its_history_is_named_after_its_objective(trained):
    name = trained.objective.name
    values = trained.history[name][name]
    assert values.iloc[-1] == pytest.approx(trained.objective.value)


def test_it_is_saved_and_loaded(trained, tmp_path):
    trained.save(tmp_path / "model", save_anndata=True)
    again = type(trained).load(tmp_path / "model")
    assert again.objective == trained.objective
    assert repr(again) == repr(trained)
    trained.annotate(key_added="fit")
    again.annotate(key_added="fit")
    for name, values in stored(trained.adata, "fit").items():
        np.testing.assert_array_equal(stored(again.adata, "fit")[name], values)


def test_it_annotates_and_the_file_is_read_again(trained, tmp_path):
    trained.annotate(key_added="fit")
    found = stored(trained.adata, "fit")
    assert found
    assert "X_fit" not in trained.adata.obsm
    trained.adata.write_h5ad(tmp_path / "fit.h5ad")
    read = anndata.read_h5ad(tmp_path / "fit.h5ad")
    assert set(stored(read, "fit")) == set(found)
    assert read.uns["fit"]["objective"]["name"] == trained.objective.name


def test_it_is_evaluated(trained):
    evaluation = scpln.tl.evaluate(trained, labels_key="kind")
    assert evaluation["n_cells"] == 120
    assert ("accuracy" in evaluation.summary) == isinstance(trained, ToyClassifier)
    assert "elbo" not in evaluation.summary
    if isinstance(trained, ToyClassifier):
        assert evaluation["accuracy"] > 0.7
    assert type(trained).__name__ in repr(evaluation)


def test_other_cells_are_annotated(trained, cells):
    other = cells[::2].copy()
    trained.annotate(other, key_added="fit")
    assert stored(other, "fit")


def test_what_it_has_not_is_refused_clearly(trained):
    with pytest.raises(TypeError, match=r"model must be a model"):
        scpln.tl.posterior_predictive(trained)
    with pytest.raises(ValueError, match="needs data"):
        type(trained)()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_the_command_line_fits_it(row, cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, row.key, row)
    cells.write_h5ad("in.h5ad")
    argv = ["fit", "in.h5ad", "--model", row.key, "--out", "out.h5ad", "--summary", "out.json", "--save-model", "model"]
    argv += ["--labels-key", "kind", "--penalty", "0.01"] if row.options else []
    assert main(argv) == 0
    text, summary = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    written = anndata.read_h5ad("out.h5ad")
    assert stored(written, row.key)
    name = summary["objective"]["name"]
    assert name.replace("_", " ") in text
    assert np.isfinite(summary["objective"]["value"])
    assert summary["bound"] is None
    assert summary["n_latent"] is None
    if row.options:
        assert written.uns[row.key]["params"]["penalty"] == 0.01
    assert main([*argv, "--force", "--n-latent", "3"]) == 1
    assert "which has no latent space" in capsys.readouterr().err


def test_a_card_says_what_it_optimised(trained, tmp_path):
    scpln.hub.write(trained, tmp_path / "card", license="mit")
    name = trained.objective.name.replace("_", " ").capitalize()
    assert f"{name}: {trained.objective.value:.3f} nats per cell." in (tmp_path / "card" / "README.md").read_text()
