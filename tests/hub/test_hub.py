"""Models go to the Hub and come back, without the network and without pickles."""

import fnmatch
import json
import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import scpln
from scpln.model import PLNPCA, CountGMVAE, CountVAE, setup_anndata, setup_mudata

MODELS = [(PLNPCA, {}), (CountVAE, {"n_hidden": 8}), (CountGMVAE, {"n_hidden": 8, "n_components": 2})]


@pytest.fixture(scope="module", params=MODELS, ids=lambda each: each[0].__name__)
def model(request):
    adata = scpln.datasets.simulate(n_obs=80, n_vars=12, n_latent=1, n_batches=2, density=0.6)
    setup_anndata(adata, batch_key="batch")
    model_class, arguments = request.param
    model = model_class(adata, n_latent=1, **arguments)
    model.train(max_epochs=3, progress=False)
    return model


@pytest.fixture
def no_pickles(monkeypatch):
    def refuse(*args, **kwargs):
        msg = "something is unpickled"
        raise AssertionError(msg)

    for module, name in [(pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")]:
        monkeypatch.setattr(module, name, refuse)


@pytest.mark.usefixtures("no_pickles")
@pytest.mark.parametrize("save_anndata", [True, False])
def test_what_is_written_is_loaded(model, tmp_path, save_anndata):
    scpln.hub.write(model, tmp_path, license="mit", save_anndata=save_anndata)
    names = {path.name for path in tmp_path.iterdir()}
    expected = {"README.md", "_scvi_required_metadata.json", "model.json", "model.safetensors"}
    assert names == expected | ({"adata.h5ad"} if save_anndata else set())
    loaded = scpln.hub.load(tmp_path, None if save_anndata else model.adata)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded.get_elbo(return_mean=False), model.get_elbo(return_mean=False))


def test_modalities_are_shared_together(tmp_path):
    mdata = scpln.datasets.simulate_multimodal(60, {"rna": 12, "prot": 5}, n_latent=1, density=0.6)
    setup_mudata(mdata, modalities=["rna", "prot"])
    model = PLNPCA(mdata, n_latent=1)
    model.train(max_epochs=3, progress=False)
    scpln.hub.write(model, tmp_path, license="mit", save_anndata=True)
    assert (tmp_path / "mdata.h5mu").is_file()
    tags = (tmp_path / "README.md").read_text().split("---\n")[1]
    assert '- "modality:rna"\n- "modality:prot"\n' in tags
    assert scpln.hub.load(tmp_path).get_elbo() == model.get_elbo()


def test_the_card_says_what_it_is(model, tmp_path):
    about = {"description": "Cells of *blood*.", "tissues": ["blood"], "annotated": False, "references": "None yet."}
    scpln.hub.write(model, tmp_path, license="cc-by-4.0", training_data_url="https://example.org/x", **about)
    card = (tmp_path / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    assert 'license: "cc-by-4.0"' in header
    for tag in (f"model_cls_name:{type(model).__name__}", "tissue:blood", "modality:rna", "annotated:False"):
        assert f'- "{tag}"\n' in header
    blocks = [json.loads(block.split("```")[0]) for block in text.split("```json")[1:]]
    assert blocks[0]["n_latent"] == 1
    assert blocks[1]["batch_key"] == "batch"
    for words in ("Cells of *blood*.", "80 cells × 12 genes", "https://example.org/x", "nats per cell"):
        assert words in text
    metadata = json.loads((tmp_path / "_scvi_required_metadata.json").read_text())
    assert metadata["model_parent_module"] == "scpln.model"
    assert metadata["training_data_url"] == "https://example.org/x"


def test_nothing_is_overwritten_unasked(model, tmp_path):
    scpln.hub.write(model, tmp_path, license="mit")
    edited = (tmp_path / "README.md").read_text() + "\nmine"
    (tmp_path / "README.md").write_text(edited)
    with pytest.raises(ValueError, match=r"README.md' already exists. Pass overwrite=True"):
        scpln.hub.write(model, tmp_path, license="mit")
    assert (tmp_path / "README.md").read_text() == edited
    scpln.hub.write(model, tmp_path, license="mit", overwrite=True)
    assert scpln.hub.load(tmp_path, False).get_gene_parameters is not None
    assert "# " + type(model).__name__ in (tmp_path / "README.md").read_text()
    assert "mine" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["README.md", "_scvi_required_metadata.json", "adata.h5ad", "model.safetensors"])
def test_files_of_others_are_never_overwritten(model, tmp_path, name, overwrite):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=r"Move or rename it|already exists. Pass overwrite=True"):
        scpln.hub.write(model, tmp_path, license="mit", overwrite=overwrite, save_anndata=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"license": ""}, "license='', but it must be an identifier"),
        (
            {"license": "mit", "training_code_url": "github.com/x"},
            "training_code_url='github.com/x', but it must start",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(model, tmp_path, about, message):
    with pytest.raises(ValueError, match=message):
        scpln.hub.write(model, tmp_path / "new", **about)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub in a folder, with the functions of `huggingface_hub` that scpln calls, and their arguments."""
    root = tmp_path / "hub"

    def copy(source, target, patterns):
        target.mkdir(parents=True, exist_ok=True)
        for path in Path(source).iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns):
                shutil.copy(path, target)

    class HfApi:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo_id, *, private, exist_ok):
            (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, folder_path, repo_id, allow_patterns, commit_message=None):
            copy(folder_path, root / repo_id, allow_patterns)

    def snapshot_download(repo_id, *, revision, cache_dir, token, allow_patterns):
        copy(root / repo_id, tmp_path / "cache", allow_patterns)
        return str(tmp_path / "cache")

    fake = types.SimpleNamespace(HfApi=HfApi, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return tmp_path


@pytest.mark.usefixtures("no_pickles")
def test_push_and_pull(model, hub):
    local = hub / "local"
    scpln.hub.write(model, local, license="mit", save_anndata=True)
    (local / "model.pt").write_bytes(b"a pickle")
    (local / "notes.txt").write_text("private")
    assert scpln.hub.push(local, "me/model", commit_message="First") == "https://hub/me/model"
    assert not {"model.pt", "notes.txt"} & {path.name for path in (hub / "hub/me/model").iterdir()}
    (hub / "hub/me/model/model.pt").write_bytes(b"a pickle")
    pulled = scpln.hub.pull("me/model", model.adata)
    assert not {"model.pt", "adata.h5ad"} & {path.name for path in (hub / "cache").iterdir()}
    np.testing.assert_array_equal(pulled.get_latent_representation(), model.get_latent_representation())
    with_cells = scpln.hub.pull("me/model")
    assert with_cells.adata.n_obs == model.adata.n_obs


def test_push_needs_what_write_makes(model, hub):
    model.save(hub / "plain")
    with pytest.raises(ValueError, match=r"has no README.md. Make it by scpln.hub.write\(model"):
        scpln.hub.push(hub / "plain", "me/model")


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        scpln.hub.pull("me/model")


@pytest.mark.parametrize("save_anndata", [True, False])
def test_scvis_hub_model_reads_the_directory(model, tmp_path, monkeypatch, save_anndata):
    """With the real `huggingface_hub`, where it is installed."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    from scvi.hub import HubMetadata, HubModel

    scpln.hub.write(model, tmp_path, license="mit", save_anndata=save_anndata, tissues=["blood"])
    shared = HubModel(str(tmp_path))
    if not save_anndata:
        shared.load_model(model.adata)
    assert type(shared.model) is type(model)
    assert shared.model.get_elbo() == model.get_elbo()
    assert isinstance(shared.metadata, HubMetadata)
    assert shared.model_card.data.license == "mit"
    assert "tissue:blood" in shared.model_card.data.tags
    if save_anndata:
        assert shared.adata.n_obs == model.adata.n_obs
    sent = []
    monkeypatch.setattr(huggingface_hub.ModelCard, "push_to_hub", lambda *_, **__: sent.append("README.md"))
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_file", lambda _, path_in_repo, **__: sent.append(path_in_repo))
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda _, folder_path, **__: sent.append(folder_path))
    with pytest.warns(UserWarning, match="No collection found"):
        shared.push_to_huggingface_hub("me/model", repo_token="token", push_anndata=False)
    assert sent == ["README.md", "_scvi_required_metadata.json", str(tmp_path)]
