"""``scpln fit`` of several modalities."""

import json
from pathlib import Path

import mudata as md
import numpy as np
import pytest
import yaml

import scpln
from scpln.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def simulated():
    mdata = scpln.datasets.simulate_multimodal(50, {"rna": 16, "prot": 6}, n_latent=2, density=0.6)
    mdata.obs["site"] = np.resize(["a", "b"], 50)
    mdata["rna"].obs["depth"] = np.asarray(mdata["rna"].X.sum(1)).ravel() + 1.0
    mdata["prot"].layers["raw"] = mdata["prot"].X.copy()
    return mdata


@pytest.fixture
def fit(simulated, tmp_path, monkeypatch):
    simulated.copy().write_h5mu(tmp_path / "in.h5mu")
    simulated["rna"].copy().write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.chdir(tmp_path)

    def run(*options, source="in.h5mu", out="out.h5mu"):
        return main(["fit", source, "--out", out, "--n-latent", "2", "--max-epochs", "5", "--threads", "1", *options])

    return run


MODALITIES = ["--modality", "rna=:depth", "--modality", "prot=raw"]


def test_the_result_is_that_of_the_library(fit, simulated, capsys):
    options = ["--likelihood", "prot=nb", "--batch-key", "site", "--summary", "s.json", "--save-model", "model"]
    assert fit(*MODALITIES, *options) == 0
    expected, out = simulated.copy(), md.read_h5mu("out.h5mu")
    scpln.tl.plnpca(
        expected,
        modalities={"rna": {"size_factor_key": "depth"}, "prot": "raw"},
        likelihood={"rna": "poisson", "prot": "nb"},
        batch_key="site",
        n_latent=2,
        max_epochs=5,
        seed=0,
        n_threads=1,
        progress=False,
    )
    np.testing.assert_array_equal(out.obsm["X_plnpca"], expected.obsm["X_plnpca"])
    for name in ("rna", "prot"):
        ours, theirs = (data.mod[name].varm["plnpca_loadings"] for data in (out, expected))
        np.testing.assert_array_equal(ours, theirs)
    assert not any(name.startswith("_scvi") for name in out.uns)
    shown, summary = capsys.readouterr().out, json.loads(Path("s.json").read_text())
    for words in (
        "PLNPCA of in.h5mu",
        "genes              22",
        "rna: poisson, prot: nb",
        "mod['prot'].varm['plnpca_loadings']",
    ):
        assert words in shown
    assert summary["likelihood"] == {"rna": "poisson", "prot": "nb"}
    assert summary["n_genes"] == 22
    assert scpln.model.PLNPCA.load("model", simulated.copy()).modalities == ["rna", "prot"]


def test_one_likelihood_is_for_all(fit, capsys):
    assert fit("--likelihood", "nb") == 0
    assert "  likelihood         nb\n" in capsys.readouterr().out
    assert fit("--likelihood", "nb", "--likelihood", "rna=poisson", "--force") == 0
    assert "rna: poisson, prot: nb" in capsys.readouterr().out


def test_what_was_written_repeats_the_run(fit):
    assert fit(*MODALITIES, "--likelihood", "rna=poisson", "--likelihood", "prot=nb", "--write-config", "run.yaml") == 0
    written = yaml.safe_load(Path("run.yaml").read_text())
    assert written["modality"] == ["rna=:depth", "prot=raw"]
    assert written["likelihood"] == ["rna=poisson", "prot=nb"]
    assert main(["fit", "--config", "run.yaml", "--out", "again.h5mu"]) == 0
    one, other = (md.read_h5mu(name).obsm["X_plnpca"] for name in ("out.h5mu", "again.h5mu"))
    np.testing.assert_array_equal(one, other)
    assert main(["fit", "--config", "run.yaml", "--out", "nb.h5mu", "--likelihood", "nb"]) == 0
    assert md.read_h5mu("nb.h5mu").uns["plnpca"]["params"]["likelihood"] == "nb"


def test_a_figure(fit):
    from matplotlib.image import imread

    assert fit("--figure", "umap.png", "--color", "site") == 0
    assert imread("umap.png")[..., :3].std() > 0.01
    out = md.read_h5mu("out.h5mu")
    assert out.obsm["X_plnpca_umap"].shape == (50, 2)
    assert out.obs["plnpca_leiden"].dtype == "category"


def test_failed_writing_leaves_the_old_output(fit, monkeypatch, capsys):
    Path("out.h5mu").write_text("old")

    def half(path, _mdata, **_settings):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scpln.data.storage.write_data", half)
    assert fit("--force") == 3
    assert "cannot write out.h5mu: No space left on device" in capsys.readouterr().err
    assert Path("out.h5mu").read_text() == "old"


ANNDATA = {"source": "in.h5ad", "out": "out.h5ad"}


@pytest.mark.parametrize(
    ("files", "options", "code", "message"),
    [
        ({"out": "out.h5ad"}, [], 3, "out.h5ad: the name must end in .h5mu"),
        ({"source": "in.h5ad"}, [], 3, "out.h5mu: the name must end in .h5ad"),
        ({"source": "no.h5mu"}, [], 1, "no such file: no.h5mu"),
        ({}, ["--model", "countvae"], 1, "--model countvae does not take a MuData such as in.h5mu: fit --model plnpca"),
        ({}, ["--layer", "raw"], 1, "--layer is for an .h5ad; of a modality of in.h5mu, layer and size factors are given by"),
        ({}, ["--size-factor-key", "depth"], 1, "--size-factor-key is for an .h5ad"),
        ({}, ["--mask-key", "seen"], 1, "--mask-key is for an .h5ad"),
        ({}, ["--modality", "rn"], 1, "--modality 'rn' is not in the modalities (found: 'rna', 'prot'); did you mean 'rna'?"),
        ({}, ["--modality", "prot=counts"], 1, "--modality prot= 'counts' is not in layers of prot (found: 'raw')"),
        ({}, ["--modality", "rna=:dept"], 1, "is not in obs of rna"),
        ({}, ["--modality", "rna", "--likelihood", "prot=nb"], 1, "--likelihood 'prot' is not in the modalities that are fitted"),
        ({}, ["--batch-key", "sites"], 1, "did you mean 'site'?"),
        ({}, ["--figure", "u.png", "--color", "rna_1"], 1, "--color 'rna_1' is not in obs"),
        ({}, ["--likelihood", "gaussian"], 1, "modalities are modelled together as counts"),
        (ANNDATA, ["--modality", "rna"], 1, "--modality is for several modalities together, and in.h5ad is no .h5mu"),
        (ANNDATA, ["--likelihood", "rna=nb"], 1, "--likelihood MODALITY=NAME is for several modalities together"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_no_output(fit, tmp_path, capsys, files, options, code, message):
    assert fit(*options, **files) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("scpln: error: ")
    assert message in last
    assert {path.name for path in tmp_path.iterdir()} == {"in.h5mu", "in.h5ad"}


@pytest.mark.parametrize(
    ("option", "value"), [("--likelihood", "rna=normal"), ("--likelihood", "=nb"), ("--modality", "=raw")]
)
def test_a_value_of_the_wrong_kind(fit, capsys, option, value):
    with pytest.raises(SystemExit, match="2"):
        fit(option, value)
    assert f"argument {option}" in capsys.readouterr().err


def test_a_damaged_file(fit, capsys):
    Path("in.h5mu").write_text("no")
    assert fit() == 1
    assert "in.h5mu is a text file" in capsys.readouterr().err
