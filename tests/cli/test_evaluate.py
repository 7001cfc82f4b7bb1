import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import scpln
from scpln.cli import main
from scpln.cli.evaluate._agreement import label_agreement, scanpy_pca


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
    assert label_agreement(groups.obsm["X_plnpca"], groups.obs["labels"], seed=0).ari_best == 1.0
    shuffled = groups.obs["labels"].sample(frac=1, random_state=0)
    assert abs(label_agreement(groups.obsm["X_plnpca"], shuffled, seed=0).ari_best) < 0.1


def test_mutual_information_is_that_of_the_clusters(groups):
    labels = groups.obs["labels"].astype(str)
    labels[:20] = "d"
    found = label_agreement(groups.obsm["X_plnpca"], labels, seed=0)
    three = groups.obs["labels"].cat.codes
    assert found.nmi_best == pytest.approx(normalized_mutual_info_score(labels, three))
    assert found.ari_best == pytest.approx(adjusted_rand_score(labels, three))


def test_cells_without_a_label_do_not_count(groups):
    labels = groups.obs["labels"].copy()
    labels.iloc[::3] = np.nan
    assert label_agreement(groups.obsm["X_plnpca"], labels, seed=0).ari_best == 1.0


def test_pca_scales_by_the_depth_given(groups):
    doubled = groups.copy()
    doubled.X[::2] *= 2
    doubled.obs["depth"] = np.asarray(doubled.X.sum(1)).ravel()
    own = scanpy_pca(doubled, layer=None, size_factor_key=None, n_comps=3)
    given = scanpy_pca(doubled, layer=None, size_factor_key="depth", n_comps=3)
    np.testing.assert_allclose(own, given, rtol=1e-5, atol=1e-5)
    assert label_agreement(own, doubled.obs["labels"], seed=0).ari_best == 1.0


def test_values_that_are_not_counts_are_taken_as_they_are(groups):
    real = groups.copy()
    real.layers["z"] = np.log1p(real.X) - 1
    pca = scanpy_pca(real, layer="z", size_factor_key=None, n_comps=3, is_count_data=False)
    centred = real.layers["z"] - real.layers["z"].mean(0)
    variances = np.linalg.svd(centred, compute_uv=False)[:3] ** 2
    np.testing.assert_allclose((pca**2).sum(0), variances, rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "told", "are_counts"),
    [
        (lambda counts: counts, {}, True),
        (lambda counts: counts, {"layer": "values", "batch_key": "batch"}, True),
        (lambda counts: counts, {"layer": "values", "is_count_data": False}, False),
        (lambda counts: counts, {"layer": "other", "is_count_data": False}, True),
        (np.log1p, {}, False),
        (lambda counts: counts - 1, {}, False),
        (lambda counts: sp.csr_matrix(np.log1p(counts)), {}, False),
        (lambda counts: sp.csr_matrix(counts), {}, True),
    ],
)
def test_only_counts_are_normalised(groups, tmp_path, capsys, values, told, are_counts):
    adata = groups.copy()
    adata.layers["values"] = values(adata.X)
    adata.uns["plnpca"] = {"setup": told}
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert main(["evaluate", str(tmp_path / "a.h5ad"), "--labels-key", "labels", "--layer", "values"]) == 0
    note = "PCA of the values of layers['values'] as they are, since they are not counts"
    assert (note in capsys.readouterr().out) != are_counts


def test_nothing_to_compare_with(groups, tmp_path, capsys):
    adata = groups.copy()
    adata.layers["counts"], adata.X = adata.X, None
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert main(["evaluate", str(tmp_path / "a.h5ad"), "--labels-key", "labels"]) == 1
    assert "has no X; name a layer with --layer (found: 'counts')" in capsys.readouterr().err


def test_table(groups, tmp_path, capsys):
    groups.write_h5ad(tmp_path / "a.h5ad")
    assert main(["evaluate", str(tmp_path / "a.h5ad"), "--labels-key", "labels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert lines[3].split()[:2] == ["X_plnpca", "4"]
    assert "1.000" in lines[3]


def test_all_results_in_the_file_and_the_models_own_clusters(groups, tmp_path, capsys):
    adata = groups.copy()
    adata.obsm["X_countgmvae"] = adata.obsm["X_plnpca"][:, :2]
    adata.obs["countgmvae_cluster"] = pd.Categorical(adata.obs["labels"].map({"a": "0", "b": "0", "c": "1"}))
    for key, model in {"plnpca": "PLNPCA", "countgmvae": "CountGMVAE"}.items():
        adata.uns[key] = {"model": model}
    adata.uns["other"] = {"model": "written by something else"}
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert main(["evaluate", str(tmp_path / "a.h5ad"), "--labels-key", "labels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["X_plnpca", "X_countgmvae", "scanpy PCA, 2", "scanpy PCA, 4", "scanpy PCA, its default"]
    assert sorted(line[2:26].rstrip() for line in lines[3:8]) == sorted(names)
    assert lines[8] == "PCA of X, by total counts"
    assert lines[9].startswith("the models' own clusters against obs['labels']")
    assert lines[10].split()[:2] == ["countgmvae_cluster", "2"]
    expected = f"{adjusted_rand_score(adata.obs['labels'], adata.obs['countgmvae_cluster']):.3f}"
    assert lines[10].split()[2] == expected

    assert main(["evaluate", str(tmp_path / "a.h5ad"), "--labels-key", "labels", "--key", "plnpca"]) == 0
    assert "countgmvae" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--labels-key", "label"],
            "--labels-key 'label' is not in obs (found: 'labels', 'empty', 'same'); did you mean 'labels'?",
        ),
        (["--labels-key", "labels", "--layer", "counts"], "--layer 'counts' is not in layers (found: nothing)"),
        (["--labels-key", "labels", "--key", "other"], "has no obsm['X_other']; run `scpln fit` first"),
        (["--labels-key", "empty"], "--labels-key 'empty' has 0 different labels, and agreement needs two or more"),
        (["--labels-key", "same"], "--labels-key 'same' has 1 different labels"),
    ],
)
def test_missing_names(groups, tmp_path, capsys, options, message):
    adata = groups.copy()
    adata.obs["empty"], adata.obs["same"] = np.nan, "a"
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert main(["evaluate", str(tmp_path / "a.h5ad"), *options]) == 1
    assert message in capsys.readouterr().err


def test_json_has_what_the_tables_show(groups, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    adata = groups.copy()
    adata.obs["plnpca_cluster"] = adata.obs["labels"]
    adata.write_h5ad("in.h5ad")
    assert main(["evaluate", "in.h5ad", "--labels-key", "labels", "--json", "scores.json"]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "scores.json").read_text())
    assert [each["name"] for each in found["latent_spaces"]][:2] == ["X_plnpca", "scanpy PCA"]
    for each in found["latent_spaces"]:
        ari, nmi = (f"{each[f'{name}_mean']:>10.3f}{each[f'{name}_best']:>8.3f}" for name in ("ari", "nmi"))
        assert f"{ari}{nmi}  at {each['ari_best_resolution']:g}" in text
        assert 0 <= each["nmi_mean"] <= 1
    assert found["latent_spaces"][0]["ari_best"] == 1.0
    (cluster,) = found["clusters"]
    assert (cluster["name"], cluster["n_clusters"], cluster["ari"]) == ("plnpca_cluster", 3, 1.0)
    assert (found["n_labels"], found["is_count_data"]) == (3, True)
    assert main(["evaluate", "in.h5ad", "--labels-key", "labels", "--json", "scores.json"]) == 3
    capsys.readouterr()
    assert main(["evaluate", "in.h5ad", "--labels-key", "labels", "--summary", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["latent_spaces"] == found["latent_spaces"]


def test_the_pca_adds_up_entries_that_are_stored_in_parts():
    adata = scpln.datasets.simulate(n_obs=40, n_vars=12, n_latent=2, density=0.6, seed=0)
    expected = scanpy_pca(adata, layer=None, size_factor_key=None, n_comps=2)
    whole = adata.X
    halves = np.column_stack([whole.data - whole.data // 2, whole.data // 2]).ravel()
    adata.X = sp.csr_matrix((halves, np.repeat(whole.indices, 2), 2 * whole.indptr), shape=whole.shape)
    np.testing.assert_allclose(scanpy_pca(adata, layer=None, size_factor_key=None, n_comps=2), expected, atol=1e-5)


@pytest.fixture
def fitted_elsewhere(groups, tmp_path, monkeypatch):
    """A file whose X is not what was fitted, and a function that changes it and evaluates."""
    monkeypatch.chdir(tmp_path)
    adata = groups.copy()
    adata.layers["counts"] = adata.X
    adata.X = np.log1p(adata.X)
    adata.obs["depth"] = np.asarray(adata.layers["counts"].sum(1)).ravel() * np.tile([1.0, 2.0], 60)
    adata.uns["plnpca"] = {"model": "PLNPCA", "setup": {"layer": "counts", "size_factor_key": "depth"}}
    return adata


def evaluated(adata, *options):
    adata.write_h5ad("in.h5ad")
    assert main(["evaluate", "in.h5ad", "--labels-key", "labels", "--json", "s.json", "--force", *options]) == 0
    return json.loads(Path("s.json").read_text())


def test_layer_and_size_factors_are_those_of_the_fit(fitted_elsewhere, capsys):
    by_itself = evaluated(fitted_elsewhere)
    assert "PCA of layers['counts'], by obs['depth']" in capsys.readouterr().out
    assert (by_itself["layer"], by_itself["size_factor_key"]) == ("counts", "depth")
    given = evaluated(fitted_elsewhere, "--layer", "counts", "--size-factor-key", "depth")
    assert given["latent_spaces"] == by_itself["latent_spaces"]
    assert evaluated(fitted_elsewhere, "--layer", "X")["layer"] is None
    assert evaluated(fitted_elsewhere, "--size-factor-key", "depth")["layer"] == "counts"
    totals = evaluated(fitted_elsewhere, "--layer", "counts")
    assert totals["size_factor_key"] is None


def test_fits_of_several_layers_leave_the_choice(fitted_elsewhere, capsys):
    adata = fitted_elsewhere
    adata.obsm["X_real"] = adata.obsm["X_plnpca"]
    adata.uns["real"] = {"model": "PLNPCA", "setup": {"is_count_data": False}}
    adata.write_h5ad("in.h5ad")
    assert main(["evaluate", "in.h5ad", "--labels-key", "labels"]) == 1
    assert "of several layers (plnpca: counts, real: X): choose the one for PCA with --layer" in capsys.readouterr().err
    assert evaluated(adata, "--key", "real")["is_count_data"] is False
    assert evaluated(adata, "--layer", "counts")["layer"] == "counts"


def test_a_layer_that_was_fitted_and_is_gone(fitted_elsewhere, capsys):
    del fitted_elsewhere.layers["counts"]
    fitted_elsewhere.write_h5ad("in.h5ad")
    assert main(["evaluate", "in.h5ad", "--labels-key", "labels"]) == 1
    assert "--layer 'counts' is not in layers (found: nothing)" in capsys.readouterr().err
