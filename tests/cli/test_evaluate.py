import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scpln.cli import main
from scpln.cli._agreement import label_agreement, scanpy_pca


@pytest.fixture(scope="module")
def groups():
    """Three groups of cells that are far apart, in latent space and in counts."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 40)
    centres = rng.normal(0, 20, (3, 4))
    latent = np.repeat(centres, 40, axis=0) + rng.normal(size=(120, 4))
    rates = np.exp(np.repeat(rng.normal(0, 2, (3, 30)), 40, axis=0))
    obs = pd.DataFrame({"labels": pd.Categorical(labels)}, index=[f"cell_{i}" for i in range(120)])
    return ad.AnnData(X=rng.poisson(rates).astype(np.float32), obs=obs, obsm={"X_plnpca": latent})


def test_perfect_and_absent_agreement(groups):
    assert label_agreement(groups.obsm["X_plnpca"], groups.obs["labels"], seed=0).best == 1.0
    shuffled = groups.obs["labels"].sample(frac=1, random_state=0)
    assert abs(label_agreement(groups.obsm["X_plnpca"], shuffled, seed=0).best) < 0.1


def test_cells_without_a_label_do_not_count(groups):
    labels = groups.obs["labels"].copy()
    labels.iloc[::3] = np.nan
    assert label_agreement(groups.obsm["X_plnpca"], labels, seed=0).best == 1.0


def test_pca_scales_by_the_depth_given(groups):
    doubled = groups.copy()
    doubled.X[::2] *= 2
    doubled.obs["depth"] = np.asarray(doubled.X.sum(1)).ravel()
    own = scanpy_pca(doubled, layer=None, size_factor_key=None, n_comps=3)
    given = scanpy_pca(doubled, layer=None, size_factor_key="depth", n_comps=3)
    np.testing.assert_allclose(own, given, rtol=1e-5, atol=1e-5)
    assert label_agreement(own, doubled.obs["labels"], seed=0).best == 1.0


def test_table(groups, tmp_path, capsys):
    groups.write_h5ad(tmp_path / "a.h5ad")
    assert main(["evaluate", str(tmp_path / "a.h5ad"), "--labels-key", "labels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[3].split()[:2] == ["X_plnpca", "4"]
    assert "1.000" in lines[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels-key", "label"], "--labels-key 'label' is not in obs (found: 'labels'); did you mean 'labels'?"),
        (["--labels-key", "labels", "--layer", "counts"], "--layer 'counts' is not in layers (found: nothing)"),
        (["--labels-key", "labels", "--key", "other"], "has no obsm['X_other']; run `scpln fit` first"),
    ],
)
def test_missing_names(groups, tmp_path, capsys, options, message):
    groups.write_h5ad(tmp_path / "a.h5ad")
    assert main(["evaluate", str(tmp_path / "a.h5ad"), *options]) == 1
    assert message in capsys.readouterr().err
