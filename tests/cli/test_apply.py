"""``scpln predict`` and ``scpln map``: a saved model and new cells."""

import io
import json
import re
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml

import scpln
from scpln import cli
from scpln.cli.apply._reference import positions_in
from scpln.cli.apply._summary import SUMMARY


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A folder with a reference of two batches, its fits and models, and cells of a known and of a new batch."""
    folder = tmp_path_factory.mktemp("cells")
    adata = scpln.datasets.simulate(90, 20, n_latent=2, n_batches=3, density=0.5)
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X.toarray())
    adata.obs["label"] = np.where(np.arange(90) % 2, "a", "b")
    new = (adata.obs["batch"] == "2").to_numpy()
    reference = adata[~new].copy()
    reference[:40].copy().write_h5ad(folder / "ref.h5ad")
    reference[40:].copy().write_h5ad(folder / "known.h5ad")
    adata[new].copy().write_h5ad(folder / "new.h5ad")
    for model, more in {"plnpca": [], "countgmvae": ["--labels-key", "label", "--n-hidden", "4"]}.items():
        options = [
            "--layer",
            "counts",
            "--batch-key",
            "batch",
            "--n-latent",
            "2",
            "--max-epochs",
            "4",
            "--quiet",
            *more,
        ]
        outputs = ["--out", str(folder / f"{model}.h5ad"), "--save-model", str(folder / model)]
        assert cli.main(["fit", str(folder / "ref.h5ad"), "--model", model, *options, *outputs]) == 0
    return folder


@pytest.fixture
def run(cells, tmp_path, monkeypatch):
    """Run a command on the cells, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(command, name, *options, model="plnpca"):
        return cli.main([command, str(cells / name), "--load-model", str(cells / model), "--out", "out.h5ad", *options])

    return call


@pytest.mark.parametrize("model", ["plnpca", "countgmvae"])
def test_prediction_is_that_of_the_library(cells, run, capsys, model):
    assert run("predict", "known.h5ad", "--summary", "s.json", model=model) == 0
    out, expected = ad.read_h5ad("out.h5ad"), ad.read_h5ad(cells / "known.h5ad")
    loaded = scpln.hub.load(cells / model, adata=False)
    loaded.annotate(expected, diagnostics=False)
    np.testing.assert_array_equal(out.obsm[f"X_{model}"], expected.obsm[f"X_{model}"])
    assert set(out.obs) == set(expected.obs)
    assert set(out.uns) == {model, "simulation"}
    if model == "countgmvae":
        assert list(out.obs["countgmvae_cluster"]) == list(loaded.predict(expected))
        np.testing.assert_array_equal(out.obsm["countgmvae_cluster_probs"], expected.obsm["countgmvae_cluster_probs"])
    summary, text = json.loads(Path("s.json").read_text()), capsys.readouterr().out
    assert summary["bound"] == pytest.approx(out.obs[f"{model}_elbo"].mean())
    assert f"obsm['X_{model}']" in text
    assert (summary["clusters"] is None) == (model == "plnpca")
    for name in re.findall(r"^  (\w+)", SUMMARY, re.MULTILINE):
        assert name in summary


def test_cells_far_from_all_labels_are_refused_on_request(cells, run, capsys):
    assert run("predict", "known.h5ad", "--reject", "0.3", "--summary", "summary.json", model="countgmvae") == 0
    out, summary = ad.read_h5ad("out.h5ad"), json.loads(Path("summary.json").read_text())
    model = scpln.model.CountGMVAE.load(cells / "countgmvae", adata=False)
    expected = model.predict(ad.read_h5ad(cells / "known.h5ad"), reject=0.3)
    assert list(out.obs["countgmvae_label"]) == list(expected)
    assert summary["refused"] == (expected == "unknown").sum() > 0
    assert "obs['countgmvae_label']" in summary["added"]


def test_diagnostics_on_request(run):
    assert run("predict", "known.h5ad", "--diagnostics", "--key-added", "new") == 0
    out = ad.read_h5ad("out.h5ad")
    assert {"new_elbo", "new_iw_bound", "new_pareto_k"} <= set(out.obs)
    assert "X_new" in out.obsm


@pytest.mark.parametrize("model", ["plnpca", "countgmvae"])
def test_a_new_batch_is_mapped(cells, run, capsys, model):
    assert run("predict", "new.h5ad", model=model) == 1
    assert "['2']" in (err := capsys.readouterr().err)
    assert "estimate them with `scpln map`" in err
    assert (
        run("map", "new.h5ad", "--max-epochs", "2", "--save-model", "mapped", "--summary", "s.json", model=model) == 0
    )
    assert "new                batch: 2" in capsys.readouterr().out
    assert json.loads(Path("s.json").read_text())["new_categories"] == {"batch": ["2"]}
    model_class = scpln.hub.load(cells / model, adata=False).__class__
    query = ad.read_h5ad(cells / "new.h5ad")
    mapped = model_class.load_query_data(query, cells / model)
    mapped.train(max_epochs=2, seed=0, progress=False)
    found = ad.read_h5ad("out.h5ad")
    place = "plnpca_state" if model == "plnpca" else f"X_{model}"
    np.testing.assert_allclose(found.obsm[place], mapped.get_latent_representation(), atol=1e-6)
    again = scpln.hub.load("mapped", adata=query)
    np.testing.assert_allclose(again.get_latent_representation(), found.obsm[place], atol=1e-5)


def test_known_batches_need_no_training(run, capsys):
    assert run("map", "known.h5ad") == 0
    assert "nothing to train" in capsys.readouterr().out


def test_missing_genes_are_filled_on_request(cells, run, tmp_path, capsys):
    few = ad.read_h5ad(cells / "new.h5ad")[:, 2:].copy()
    few.write_h5ad(tmp_path / "few.h5ad")
    assert run("map", str(tmp_path / "few.h5ad")) == 1
    assert "2 of the model's 20 genes are missing from var_names" in capsys.readouterr().err
    assert run("map", str(tmp_path / "few.h5ad"), "--fill-missing") == 0
    assert ad.read_h5ad("out.h5ad").n_vars == 20


def test_cells_are_placed_in_the_references_umap(cells, run, tmp_path):
    reference = ad.read_h5ad(cells / "plnpca.h5ad")
    rng = np.random.default_rng(0)
    reference.obsm["X_umap"] = reference.obsm["X_plnpca"] * [3.0, -2.0] + rng.normal(0, 0.01, (40, 2))
    reference.write_h5ad(tmp_path / "reference.h5ad")
    more = ["--reference", str(tmp_path / "reference.h5ad"), "--figure", "figure.png", "--color", "batch"]
    assert run("map", "new.h5ad", *more) == 0
    out = ad.read_h5ad("out.h5ad")
    placed = out.obsm["X_plnpca_umap"]
    for axis, sign in enumerate([1, -1]):
        assert np.corrcoef(out.obsm["X_plnpca"][:, axis], placed[:, axis])[0, 1] * sign > 0.8
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_cells_of_the_reference_find_their_own_places():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 30)
    states = np.eye(3)[group] * 10 + rng.normal(size=(90, 3))
    embedding = np.array([[0, 0], [20, 0], [0, 20]])[group] + rng.normal(size=(90, 2))
    placed = positions_in(embedding, states, states + 1e-4)
    assert np.linalg.norm(placed - embedding, axis=1).max() < 6  # groups are 20 apart
    np.testing.assert_array_equal(placed, positions_in(embedding, states, states + 1e-4))


def test_standard_input(cells, run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((cells / "known.h5ad").read_bytes())))
    assert cli.main(["predict", "-", "--load-model", str(cells / "plnpca"), "--out", "piped.h5ad"]) == 0
    assert run("predict", "known.h5ad") == 0
    one, other = (ad.read_h5ad(name).obsm["X_plnpca"] for name in ("piped.h5ad", "out.h5ad"))
    np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert cli.main(["evaluate", "-", "--labels-key", "label"]) == 1
    assert "standard input (-) is empty" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "map"])
def test_a_file_of_options_repeats_the_run(cells, run, capsys, command):
    assert run(command, "known.h5ad", "--write-config", "run.yaml", "--seed", "3") == 0
    assert "force" not in yaml.safe_load(Path("run.yaml").read_text())
    assert f"scpln {command} --config run.yaml" in Path("run.yaml").read_text()
    assert cli.main([command, "--config", "run.yaml", "--out", "again.h5ad"]) == 0
    one, other = (ad.read_h5ad(name).obsm["X_plnpca"] for name in ("out.h5ad", "again.h5ad"))
    np.testing.assert_array_equal(one, other)
    Path("bad.yaml").write_text("n_latent: 3\n")
    assert cli.main([command, "--config", "bad.yaml"]) == 2
    assert (
        f"n_latent is not an option of scpln {command}; `scpln {command} --help` lists them" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("change", "options", "code", "message"),
    [
        (
            lambda adata: adata.layers.pop("counts"),
            [],
            1,
            "the model's layer 'counts' is not in layers (found: nothing)",
        ),
        (lambda adata: adata.obs.pop("batch"), [], 1, "the model's column 'batch' is not in obs"),
        (None, ["--load-model", "none"], 1, "There is no directory 'none' to load a model from"),
        (None, ["--color", "odd"], 1, "--color 'odd' is not in obs or the genes"),
        (None, ["--basis", "umap"], 1, "--basis is an embedding of the reference; say where that is with --reference"),
        (None, ["--figure", "a.txt"], 3, "a.txt: the name must end in .png or .pdf or .svg"),
        (None, ["--out", "none/out.h5ad"], 3, "make it first (mkdir -p none)"),
    ],
)
def test_what_is_wrong_is_said_before_computing(
    cells, run, tmp_path, monkeypatch, capsys, change, options, code, message
):
    adata = ad.read_h5ad(cells / "known.h5ad")
    if change is not None:
        change(adata)
    adata.write_h5ad(tmp_path / "changed.h5ad")
    monkeypatch.setattr("scpln.model.PLNPCA.annotate", lambda *_args, **_more: pytest.fail("computed first"))
    assert run("predict", str(tmp_path / "changed.h5ad"), *options) == code
    assert message in capsys.readouterr().err


def test_a_reference_of_another_fit(cells, run, capsys):
    assert run("predict", "known.h5ad", "--reference", str(cells / "countgmvae.h5ad")) == 1
    assert "has no obsm['X_plnpca'] (--reference)" in capsys.readouterr().err
    assert run("predict", "known.h5ad", "--reference", str(cells / "plnpca.h5ad"), "--basis", "tsne") == 1
    assert "has no embedding 'tsne' (--basis); there are: X_plnpca" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "map"])
def test_options_have_help_and_nearest(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("--load-model", "--reference", "examples:", "exit codes:"))
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, "a.h5ad", "--load_model", "m"])
    assert "did you mean --load-model?" in capsys.readouterr().err


def test_standard_input_is_called_so(monkeypatch, tmp_path, capsys):
    """And not by the name of its copy, which is gone by then."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no file of cells")))
    assert cli.main(["fit", "-", "--out", "out.h5ad"]) == 1
    said = capsys.readouterr().err
    assert "standard input is a text file" in said
    assert "scpln-" not in said
