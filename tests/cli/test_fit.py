import json
import re

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import scpln
from scpln.cli import main
from scpln.cli.fit import _command as _fit


@pytest.fixture(scope="module")
def simulated():
    adata = scpln.datasets.simulate(60, 30, n_latent=2, n_batches=2, density=0.5)
    adata.obs["age"] = np.linspace(-1, 1, 60)
    adata.layers["raw"] = adata.X.copy()
    return adata


@pytest.fixture
def folder(simulated, tmp_path):
    simulated.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path


@pytest.fixture
def fit(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def run(*options):
        return main(["fit", "in.h5ad", "--out", "out.h5ad", "--n-latent", "2", "--max-epochs", "5", *options])

    return run


def test_writes_what_it_promises(fit, folder, simulated, capsys):
    assert fit() == 0
    out = ad.read_h5ad(folder / "out.h5ad")
    assert out.obsm["X_plnpca"].shape == (60, 2)
    assert out.varm["plnpca_loadings"].shape == (30, 2)
    assert np.isfinite(out.obs["plnpca_elbo"]).all()
    assert (out.X != simulated.X).nnz == 0

    captured = capsys.readouterr()
    for word in ("cells", "60", "genes", "30", "bound per cell", "training", "seconds", "obsm['X_plnpca']"):
        assert word in captured.out
    assert f"{out.obs['plnpca_elbo'].mean():.3f} nats" in captured.out
    assert "Traceback" not in captured.err


def test_the_result_is_that_of_the_library(fit, folder, simulated):
    assert fit("--seed", "3", "--batch-key", "batch", "--size-factor-key", "size_factor", "--layer", "raw") == 0
    expected = simulated.copy()
    scpln.tl.plnpca(
        expected,
        n_latent=2,
        layer="raw",
        batch_key="batch",
        size_factor_key="size_factor",
        max_epochs=5,
        seed=3,
        progress=False,
    )
    np.testing.assert_allclose(ad.read_h5ad(folder / "out.h5ad").obsm["X_plnpca"], expected.obsm["X_plnpca"])


def test_offsets_and_masks_are_those_of_the_library(fit, folder, simulated):
    def add(adata):
        adata.layers["seen"] = np.random.default_rng(0).random(adata.shape) > 0.2
        adata.obsm["offset"] = np.random.default_rng(1).normal(size=adata.shape)

    spoil(folder, add)
    assert fit("--offset-key", "offset", "--mask-key", "seen", "--save-model", "model") == 0
    add(expected := simulated.copy())
    keys = {"offset_key": "offset", "mask_key": "seen"}
    scpln.tl.plnpca(expected, n_latent=2, max_epochs=5, progress=False, **keys)
    np.testing.assert_allclose(ad.read_h5ad(folder / "out.h5ad").obsm["X_plnpca"], expected.obsm["X_plnpca"])
    assert main(["predict", "in.h5ad", "--load-model", "model", "--out", "again.h5ad"]) == 0
    np.testing.assert_allclose(
        ad.read_h5ad(folder / "again.h5ad").obsm["X_plnpca"], expected.obsm["X_plnpca"], atol=1e-3
    )


@pytest.mark.parametrize(
    "options",
    [
        ["--posterior", "meanfield"],
        ["--likelihood", "bernoulli"],
        ["--posterior", "flow", "--n-steps", "20"],
        ["--posterior", "flow", "--flow", "planar", "--n-steps", "20"],
        ["--amortized", "--n-steps", "20", "--learning-rate", "0.01"],
        ["--n-importance-samples", "4", "--n-steps", "20"],
        ["--categorical-covariate", "batch", "--continuous-covariate", "age"],
        ["--design", "~ batch * age"],
        ["--threads", "2"],
    ],
)
def test_options_reach_the_model(fit, folder, options):
    assert fit() == 0
    plain = ad.read_h5ad(folder / "out.h5ad").obsm["X_plnpca"]
    assert fit("--force", *options) == 0
    changed = ad.read_h5ad(folder / "out.h5ad").obsm["X_plnpca"]
    assert np.allclose(plain, changed, atol=1e-4) == ("--threads" in options)


@pytest.mark.parametrize(
    ("options", "params", "words"),
    [
        ([], {"posterior": "fullrank", "likelihood": "poisson", "amortized": False}, ["poisson", "fullrank"]),
        (["--likelihood", "nb"], {"likelihood": "nb"}, ["nb", "fullrank"]),
        (
            ["--posterior", "flow", "--n-steps", "10"],
            {"posterior": "flow"},
            ["flow (sylvester)", "10 stochastic steps"],
        ),
        (
            ["--posterior", "flow", "--flow", "radial", "--amortized", "--n-steps", "10"],
            {"posterior": "flow", "flow": "radial", "amortized": True},
            ["flow (radial), from an encoder"],
        ),
        (["--n-importance-samples", "3", "--n-steps", "10"], {}, ["10 stochastic steps"]),
    ],
)
def test_summary_and_file_say_what_was_fitted(fit, folder, capsys, options, params, words):
    assert fit(*options) == 0
    lines = capsys.readouterr().out.splitlines()
    for word in ["Pareto k̂ > 0.7 for", *words]:
        assert any(word in line for line in lines)
    written = ad.read_h5ad(folder / "out.h5ad").uns["plnpca"]
    assert params.items() <= written["params"].items()
    if "--n-steps" in options:
        assert written["training"]["n_steps"] == 10
        assert written["training"]["n_importance_samples"] == (3 if "--n-importance-samples" in options else 1)


def test_summary_for_machines(fit, folder, capsys):
    assert fit("--summary", "summary.json", "--save-model", "model", "--batch-key", "batch") == 0
    text = capsys.readouterr().out
    summary, out = json.loads((folder / "summary.json").read_text()), ad.read_h5ad(folder / "out.h5ad")
    assert summary["bound"] == pytest.approx(out.obs["plnpca_elbo"].mean(), rel=1e-12)
    assert f"{summary['bound']:.3f} nats, {summary['bound_conditions']}" in text
    assert (summary["n_cells"], summary["n_genes"], summary["n_latent"]) == (60, 30, 2)
    assert summary["converged"] is False
    assert summary["stop_reason"] in text
    assert f"{summary['reliability']['gap']:.3f} nats" in summary["reliability_text"]
    assert 0 <= summary["reliability"]["unreliable"] <= 1
    assert summary["posterior"] == {"family": "fullrank", "flow": None, "amortized": False}
    assert summary["clusters"] is None
    assert summary["versions"]["scpln"] == scpln.__version__
    paths = {name: path for name, path in summary["outputs"].items() if path}
    assert paths == {"annotated": "out.h5ad", "model": "model"}
    assert "obsm['X_plnpca']" in summary["added"]
    for name in re.findall(r"^  (\w+)", _fit.SUMMARY, re.MULTILINE):
        assert name in summary


def test_summary_in_place_of_text(fit, folder, capsys):
    assert fit("--summary", "-", "--quiet") == 0
    assert json.loads(capsys.readouterr().out)["key"] == "plnpca"
    assert {path.name for path in folder.iterdir()} == {"in.h5ad", "out.h5ad"}
    (folder / "s.json").touch()
    assert fit("--summary", "s.json", "--out", "b.h5ad") == 3
    assert "s.json exists already" in capsys.readouterr().err
    assert fit("--summary", "s.txt", "--out", "b.h5ad") == 3


def test_real_values(fit, folder, capsys):
    spoil(folder, center)
    assert fit("--likelihood", "gaussian") == 0
    captured = capsys.readouterr()
    assert "gaussian" in captured.out
    assert "size factors" not in captured.out
    written = ad.read_h5ad(folder / "out.h5ad")
    assert np.isfinite(written.obsm["X_plnpca"]).all()
    assert not written.uns["plnpca"]["setup"]["is_count_data"]
    assert main(["evaluate", "out.h5ad", "--labels-key", "batch"]) == 0
    assert "PCA of the values of X as they are" in capsys.readouterr().out


def test_training_that_fails_is_one_line_with_the_cells(fit, folder, monkeypatch, capsys):
    def fail(*_args, **_kwargs):
        error = FloatingPointError("the bound of cells [3] was not finite")
        error.add_note("These cells are ['cell_3'].")
        raise error

    monkeypatch.setattr(scpln.model.PLNPCA, "train", fail)
    assert fit() == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "scpln: error: the bound of cells [3] was not finite These cells are ['cell_3']."
    assert [path.name for path in folder.iterdir()] == ["in.h5ad"]


def test_key_added(fit, folder):
    assert fit("--key-added", "mine") == 0
    out = ad.read_h5ad(folder / "out.h5ad")
    assert "X_mine" in out.obsm
    assert "plnpca" not in out.uns


def test_figure_and_its_coordinates(fit, folder, simulated):
    before = simulated.copy()
    before.obsm["X_umap"] = np.ones((60, 2))
    before.write_h5ad(folder / "in.h5ad")
    assert fit("--figure", "umap.png", "--batch-key", "batch") == 0
    from matplotlib.image import imread

    assert imread(folder / "umap.png")[..., :3].std() > 0.01
    out = ad.read_h5ad(folder / "out.h5ad")
    assert np.isfinite(out.obsm["X_plnpca_umap"]).all()
    assert out.obs["plnpca_leiden"].dtype == "category"
    assert (out.obsm["X_umap"] == 1).all()
    assert "neighbors" not in out.uns


def test_saved_model_loads(fit, folder, simulated):
    assert fit("--save-model", "model") == 0
    model = scpln.model.PLNPCA.load(folder / "model", adata=simulated.copy())
    written = ad.read_h5ad(folder / "out.h5ad").obsm["plnpca_state"]
    np.testing.assert_allclose(model.get_latent_representation(), written, atol=1e-4)


def test_a_model_takes_nothing_but_a_models_place(fit, folder, capsys):
    """Said before anything is read or fitted."""
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_text("mine")
    assert fit("--save-model", "model", "--force") == 3
    assert "model.safetensors' is not of a saved model" in capsys.readouterr().err
    assert not (folder / "out.h5ad").exists()
    assert [path.read_text() for path in (folder / "model").iterdir()] == ["mine"]
    assert fit("--save-model", "other", "--force") == 0
    assert fit("--save-model", "other", "--force") == 0
    assert len(list((folder / "other").iterdir())) == 2


def test_quiet(fit, capsys):
    assert fit("--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_existing_outputs_are_kept_without_force(fit, folder, capsys):
    (folder / "out.h5ad").write_text("precious")
    assert fit() == 3
    assert (folder / "out.h5ad").read_text() == "precious"
    assert "--force" in capsys.readouterr().err
    assert fit("--force") == 0
    assert ad.read_h5ad(folder / "out.h5ad").n_obs == 60


def test_input_may_be_replaced(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["fit", "in.h5ad", "--out", "in.h5ad", "--n-latent", "2", "--max-epochs", "2", "--force"]) == 0
    assert "X_plnpca" in ad.read_h5ad("in.h5ad").obsm


def spoil(folder, change):
    adata = ad.read_h5ad(folder / "in.h5ad")
    change(adata)
    adata.write_h5ad(folder / "in.h5ad")


def log_normalize(adata):
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray() * 0.37))


def center(adata):
    values = np.log1p(adata.X.toarray())
    adata.X = values - values.mean(0)


def make_negative(adata):
    adata.X.data[0] = -1


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (log_normalize, [], "log"),
        (make_negative, [], "negative"),
        (None, ["--layer", "counts"], "counts"),
        (None, ["--batch-key", "donor"], "donor"),
        (None, ["--size-factor-key", "depth"], "depth"),
        (None, ["--offset-key", "row"], "--offset-key 'row' is not in layers or obsm (found: 'raw', 'true_latent')"),
        (None, ["--mask-key", "seen"], "--mask-key 'seen' is not in layers or obsm"),
        (None, ["--mask-key", "true_latent"], "(--mask-key) has shape (60, 2)"),
        (None, ["--mask-key", "raw", "--likelihood", "gaussian"], "--mask-key is for counts"),
        (None, ["--categorical-covariate", "site"], "--categorical-covariate 'site' is not in obs"),
        (None, ["--continuous-covariate", "batch"], "not numeric"),
        (None, ["--design", "~ site"], "--design 'site' is not in obs"),
        (None, ["--design", "~ 0 + batch"], "has no intercept"),
        (None, ["--design", "~ batch", "--categorical-covariate", "batch"], "--categorical-covariate"),
        (None, ["--n-latent", "100"], "100"),
        (None, ["--flow", "nsf"], "--flow nsf needs --posterior flow"),
        (None, ["--flow", "nsf", "--amortized"], "--flow nsf needs --posterior flow"),
        (None, ["--n-steps", "10"], "--n-steps is for stochastic training, and fullrank Gaussians take none; add"),
        (None, ["--learning-rate", "1"], "--learning-rate is for stochastic training"),
        (center, ["--likelihood", "nb"], "negative"),
        (None, ["--figure", "u.png", "--color", "bach"], "'batch'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_output(fit, folder, capsys, change, options, message):
    if change is not None:
        spoil(folder, change)
    assert fit(*options) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("scpln: error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert [path.name for path in folder.iterdir()] == ["in.h5ad"]


def test_failed_writing_leaves_the_old_output(fit, folder, monkeypatch, capsys):
    (folder / "out.h5ad").write_text("old")

    def half(path, _data, **_settings):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scpln.data.storage.write_data", half)
    assert fit("--force") == 3
    err = capsys.readouterr().err
    assert "scpln: error: cannot write out.h5ad: No space left on device; what was fitted is kept in" in err
    assert (folder / "out.h5ad").read_text() == "old"
    (kept,) = {path.name for path in folder.iterdir()} - {"in.h5ad", "out.h5ad"}
    assert [path.name for path in (folder / kept).iterdir()] == ["model"]


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("no"), 70), (KeyboardInterrupt(), 130)])
def test_a_fit_is_not_lost_to_its_figure(fit, folder, monkeypatch, error, code):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("scpln.cli.fit._command.draw_umap", fail)
    assert fit("--figure", "umap.png") == code
    assert "X_plnpca" in ad.read_h5ad(folder / "out.h5ad").obsm
    assert not (folder / "umap.png").exists()


def test_a_fit_is_not_lost_to_an_error_in_what_is_made_of_it(fit, folder, monkeypatch, capsys):
    def fail(*_args, **_kwargs):
        message = "no place for this"
        raise RuntimeError(message)

    monkeypatch.setattr(scpln.model.PLNPCA, "annotate", fail)
    assert fit() == 70
    assert "RuntimeError: no place for this); what was fitted is kept in" in capsys.readouterr().err
    (kept,) = {path.name for path in folder.iterdir()} - {"in.h5ad"}
    assert scpln.model.PLNPCA.load(folder / kept / "model", ad.read_h5ad(folder / "in.h5ad")).is_trained
