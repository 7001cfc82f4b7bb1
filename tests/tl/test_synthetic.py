"""The published synthetic experiments, on fewer samples."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "tutorials" / "scvae_synthetic.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("scvae_synthetic", SCRIPT)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_poisson_features_are_reconstructed_by_their_rates(script):
    adata = script.poisson_features(1000)
    model, table = script.reconstruct(adata, max_epochs=40, n_threads=1)
    np.testing.assert_allclose(table["reconstruction"], table["sample mean"], rtol=0.03)
    np.testing.assert_allclose(table["reconstruction"], script.RATES, rtol=0.1)
    assert model.get_bound_terms()["kl"].mean() < 0.2


@pytest.mark.parametrize("seed", [0, 1])
def test_classes_are_found(script, seed):
    adata = script.five_classes(2000, seed)
    assert 0.9 < adata.uns["best_ari"] < 1
    _, found = script.cluster(adata, seed=seed, max_epochs=25, n_threads=1)
    assert found.n_used == found.n_components == script.N_CLASSES
    assert found.smallest > 50
    assert found.ari > 0.9


def test_command_line_and_figure(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("scpln.model.CountGMVAE.train", quick(script.scpln.model.CountGMVAE.train))
    monkeypatch.setattr("scpln.model.CountVAE.train", quick(script.scpln.model.CountVAE.train))
    script.main(["--seeds", "1", "--samples", "300", "--figure", str(tmp_path / "a.png")])
    shown = capsys.readouterr().out
    assert "feature_10" in shown
    assert "best_ari" in shown
    assert (tmp_path / "a.png").stat().st_size > 10_000


def quick(train):
    return lambda self, **arguments: train(self, **{**arguments, "max_epochs": 2, "n_threads": 1})
