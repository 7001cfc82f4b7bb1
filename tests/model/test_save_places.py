"""A save takes nothing from a directory but the model that it replaces, whoever else writes and reads there."""

import json
import multiprocessing
import os
from pathlib import Path

import anndata as ad
import pytest
import torch

import scpln
from scpln.core import _files
from scpln.model import PLNPCA, setup_anndata, setup_mudata
from scpln.model.base import check_save
from scpln.model.base.saving import _write, read_model, write_model
from scpln.model.base.saving._document import make_document

TAKEN = r"is not of a saved model, or was changed since, and is not replaced.*Move or rename it"


@pytest.fixture(scope="module")
def model():
    """A small model; do not change it."""
    adata = scpln.datasets.simulate(n_obs=40, n_vars=8, n_latent=1)
    setup_anndata(adata)
    model = PLNPCA(adata, n_latent=1)
    model.train(max_epochs=3, progress=False)
    return model


def content(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


NEEDED = ["adata.h5ad", "model.safetensors", "model.json"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", NEEDED)
def test_what_is_anothers_is_neither_removed_nor_replaced(model, tmp_path, name, overwrite):
    model.adata.write_h5ad(tmp_path / name)
    (tmp_path / "notes.txt").write_text("mine")
    before = content(tmp_path)
    message = TAKEN
    if name == "model.json":
        message = "is not a model that scpln has saved" if overwrite else "already exists. Pass overwrite=True"
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path, save_anndata=True, overwrite=overwrite)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    ["adata.h5ad", "mdata.h5mu", "adata.2.h5ad", "model.2.safetensors", ".model.safetensors.old.tmp", "model.json.tmp"],
)
def test_names_that_look_like_the_models_own_are_left_alone(model, tmp_path, name):
    (tmp_path / name).write_text("mine")
    model.save(tmp_path, save_anndata=name != "adata.h5ad")
    model.save(tmp_path, save_anndata=name != "adata.h5ad", overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


def test_data_put_beside_a_saved_model_stay(model, tmp_path):
    model.save(tmp_path, save_anndata=True)
    (tmp_path / "adata.h5ad").write_text("mine, in the place of those that were saved")
    model.save(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match=TAKEN):
        model.save(tmp_path, overwrite=True, save_anndata=True)
    assert (tmp_path / "adata.h5ad").read_text().startswith("mine")
    (tmp_path / "adata.h5ad").unlink()
    model.save(tmp_path, overwrite=True, save_anndata=True)
    assert PLNPCA.load(tmp_path).get_elbo() == model.get_elbo()


def test_data_of_earlier_saves_are_replaced_by_later_ones(model, tmp_path):
    model.save(tmp_path, save_anndata=True)
    model.save(tmp_path, overwrite=True)
    model.save(tmp_path, overwrite=True)
    assert (tmp_path / "adata.h5ad").exists(), "they are the only ones"
    model.save(tmp_path, overwrite=True, save_anndata=True)
    assert len(content(tmp_path)) == 3
    assert PLNPCA.load(tmp_path).adata.n_obs == model.adata.n_obs


def test_a_damaged_model_is_replaced(model, tmp_path):
    model.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    model.save(tmp_path, overwrite=True)
    assert PLNPCA.load(tmp_path, model.adata).get_elbo() == model.get_elbo()


def test_backed_data_keep_the_file_under_them(model, tmp_path):
    model.save(tmp_path, save_anndata=True)
    backed = ad.read_h5ad(tmp_path / "adata.h5ad", backed="r")
    again = PLNPCA.load(tmp_path, backed)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=r"data are backed by .*adata.h5ad'.*Choose another directory"):
        again.save(tmp_path, overwrite=True, save_anndata=True)
    assert content(tmp_path) == before
    again.save(tmp_path, overwrite=True)
    again.save(tmp_path / "other", save_anndata=True)
    assert PLNPCA.load(tmp_path / "other").adata.n_obs == model.adata.n_obs
    backed.file.close()


def test_a_mudata_too(tmp_path):
    mdata = scpln.datasets.simulate_multimodal(n_obs=40)
    setup_mudata(mdata, modalities=["rna"])
    model = PLNPCA(mdata, n_latent=1)
    mdata.write_h5mu(tmp_path / "mdata.h5mu")
    before = content(tmp_path)
    with pytest.raises(ValueError, match=TAKEN):
        model.save(tmp_path, save_anndata=True)
    assert content(tmp_path) == before


@pytest.mark.parametrize("prefix", ["/abs_", "../up_", "a/b_", "a\\b_", "C:", "a\0", 3])
def test_a_prefix_stays_in_the_directory(model, tmp_path, prefix):
    for use in (model.save, PLNPCA.load, PLNPCA.load_registry):
        with pytest.raises(ValueError, match=r"prefix=.*, but it must be the start of the names of files"):
            use(tmp_path / "new", prefix=prefix)
    assert not list(tmp_path.iterdir())


def test_a_place_can_be_checked_before(model, tmp_path):
    check_save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(ValueError, match=TAKEN):
        check_save(tmp_path, overwrite=True)


def test_links_are_not_followed(model, tmp_path):
    """Neither as a model is replaced nor as it is read, but in the Hub's cache."""
    model.save(tmp_path / "a")
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).mkdir()
        for own in ("model.json", "model.safetensors"):
            (tmp_path / name / own).write_bytes((tmp_path / "a" / own).read_bytes())
        (tmp_path / name / name).unlink()
        (tmp_path / name / name).symlink_to(tmp_path / "a" / name)
        with pytest.raises(ValueError, match=f"{name}' is a link to .*, out of the saved model"):
            PLNPCA.load(tmp_path / name, model.adata)
        with pytest.raises(ValueError, match="is not replaced"):
            model.save(tmp_path / name, overwrite=True)
    assert PLNPCA.load(tmp_path / "a", model.adata).get_elbo() == model.get_elbo()
    cache = tmp_path / "models--me--model"
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for name in ("model.json", "model.safetensors"):
        (cache / "blobs" / name).write_bytes((tmp_path / "a" / name).read_bytes())
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert scpln.hub.load(snapshot, model.adata).get_elbo() == model.get_elbo()


def write_often(directory, metadata, values):
    for _ in range(40):
        write_model(directory, None, metadata=metadata, tensors={"a": values}, overwrite=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_several_processes_save_and_read_at_one_place(model, tmp_path, locks, monkeypatch):
    """Each load gives one of the models, whole; after all, one model is there, and nothing else if there are locks."""
    model.save(tmp_path / "other")
    metadata = read_model(tmp_path / "other").metadata
    place = tmp_path / "place"
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # which is for power failures, and slow
    monkeypatch.setattr(_files, "PAUSE", 0.001)
    if not locks:  # as on Windows, and on file systems without them
        monkeypatch.setattr(_files, "fcntl", None)
    tensors = [torch.full((50_000,), float(number)) for number in range(3)]
    write_model(place, None, metadata=metadata, tensors={"a": tensors[0]})
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_often, args=(place, metadata, each)) for each in tensors[1:]]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        values = read_model(place).tensors["a"].unique().tolist()
        assert len(values) == 1
        seen += values
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert {1.0, 2.0} <= set(seen)
    assert len(seen) > 20
    write_model(place, None, metadata=metadata, tensors={"a": tensors[0]}, overwrite=True)
    assert read_model(place).tensors["a"].sum() == 0
    if locks:
        assert sorted(path.name[:5] for path in place.iterdir()) == ["model", "model"]


def test_files_that_another_process_removes_during_a_save_are_not_missed(model, tmp_path, monkeypatch):
    """As happens where there are no locks: each of two processes removes the files of models that both replace."""
    model.save(tmp_path / "other")
    metadata = read_model(tmp_path / "other").metadata
    for number in range(3):
        write_model(tmp_path, None, metadata=metadata, tensors={"a": torch.ones(2) * number}, overwrite=number > 0)
    earlier = tmp_path / "model.0123456789abcdef.safetensors"
    document = json.loads((tmp_path / "model.json").read_text())
    copy = tmp_path / document["files"]["tensors"]["name"]
    earlier.write_bytes(copy.read_bytes())
    document["files"]["earlier"] = [{**document["files"]["tensors"], "name": earlier.name}]
    (tmp_path / "model.json").write_text(make_document(document["files"], document["model"]))
    original = _write.digest_of_file

    def remove_first(path):
        if path == earlier:
            earlier.unlink(missing_ok=True)
        return original(path)

    monkeypatch.setattr(_write, "digest_of_file", remove_first)
    write_model(tmp_path, None, metadata=metadata, tensors={"a": torch.full((2,), 7.0)}, overwrite=True)
    assert not earlier.exists()
    assert read_model(tmp_path).tensors["a"].sum() == 14


def test_a_model_that_goes_while_it_is_read_is_missed_in_words(model, tmp_path):
    model.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model.safetensors' is missing from the saved model"):
        PLNPCA.load(tmp_path, model.adata)
