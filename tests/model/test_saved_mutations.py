"""Whatever somebody writes into a saved model, with digests that fit: it loads and works, or the package says what is wrong."""

import copy
import json
import traceback
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

import scpln
from scpln.model.base.saving._document import digest_of, digest_of_file

from .every_model import trained

SOURCE = Path(scpln.__file__).parent
WRONG = [None, True, -1, 10**30, float("nan"), "", "../x", [], [[]], {}, {"a": 1}]
#: Between them, what saved models have: stored posteriors, an encoder, a mixture.
SAVED = ["PLNPCA, nb", "PLNPCA, encoder", "CountGMVAE", "PLNMixture", "PLNLDA", "PLNAR"]
#: One of so many mutations is tried. It has no divisor in common with the number of wrong values.
STRIDE = 29


def leaves(value, path=()):
    """Paths of what a JSON document holds, containers too; of a list the first two."""
    yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list):
        for number, each in enumerate(value[:2]):
            yield from leaves(each, (*path, number))


def changed(document, path, value):
    """The document with another value somewhere, and a digest that fits."""
    result = copy.deepcopy(document)
    at = result
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    result["sha256"] = digest_of({"files": result["files"], "model": result["model"]})
    return result


def write(folder, document):
    (folder / "model.json").write_text(json.dumps(document))


def use(folder, adata):
    """Everything that reads what a saved model says; True if it works, False if the package says why not."""
    try:
        model = scpln.hub.load(folder, adata)
    except (ValueError, TypeError) as error:
        assert_own(error)
        return False
    repr(model)
    model._repr_html_()
    model.get_latent_representation()
    model.get_elbo(adata)
    model.annotate(diagnostics=False)
    model.save(folder / "again", overwrite=True)
    return True


def assert_own(error):
    """An error that the package raised itself, in words."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    assert SOURCE in Path(place.filename).parents, "".join(traceback.format_exception(error))
    assert len(str(error)) > 30


@pytest.fixture(params=SAVED)
def saved(request, tmp_path):
    """A saved model, and its AnnData."""
    model = trained(request.param)
    model.save(tmp_path, save_anndata=True)
    return tmp_path, model.adata.copy()


@pytest.mark.filterwarnings("ignore")
def test_every_value_of_the_description(saved):
    folder, adata = saved
    document = json.loads((folder / "model.json").read_text())
    mutations = [(path, value) for path in leaves(document["model"]) for value in WRONG if path]
    worked = []
    for path, value in mutations[::STRIDE]:
        write(folder, changed(document, ("model", *path), value))
        worked.append(use(folder, adata))
    assert 0 < sum(worked) < len(worked) > 30
    write(folder, document)
    assert use(folder, adata)


@pytest.mark.parametrize("saved", SAVED[:1], indirect=True)
@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/passwd",
        "a/model.safetensors",
        "other.safetensors",
        "..",
        "",
        "model.\0.safetensors",
        3,
        None,
    ],
)
@pytest.mark.parametrize("key", ["tensors", "adata", "earlier"])
def test_names_of_files(saved, key, name):
    folder, _ = saved
    document = json.loads((folder / "model.json").read_text())
    entry = {"name": name, "sha256": "0" * 64}
    write(folder, changed(document, ("files", key), [entry] if key == "earlier" else entry))
    with pytest.raises(ValueError, match=r"model.json' is damaged: it is not a complete description"):
        scpln.hub.load(folder)


@pytest.mark.parametrize("saved", SAVED[:1], indirect=True)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"schema_version": ' + "9" * 5000 + "}", "\ud800"])
def test_what_json_can_be(saved, text):
    folder, _ = saved
    (folder / "model.json").write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"model.json' is damaged"):
        scpln.hub.load(folder)


def test_other_methods_are_not_called(saved):
    folder, adata = saved
    document = json.loads((folder / "model.json").read_text())
    for name in ("load", "__init__", "setup_mudata", "convert_legacy_save"):
        write(folder, changed(document, ("model", "registry", "setup_method_name"), name))
        with pytest.raises(ValueError, match=r"damaged: registry.setup_method_name is not what a model has there"):
            scpln.hub.load(folder, adata)


SPOILED = {
    "not finite": lambda value: torch.full_like(value, torch.nan),
    "another shape": lambda value: value[None].repeat(2, *[1] * value.ndim),
    "empty": lambda value: value.new_empty((0, *value.shape)),
    "gone": lambda value: None,
}


def test_every_tensor(saved):
    folder, adata = saved
    document = json.loads((folder / "model.json").read_text())
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    for number, name in enumerate([*tensors, "more"]):
        how = list(SPOILED)[number % 3 if name == "more" else number % 4]
        if name in tensors and not tensors[name].numel():
            how = "gone"
        spoiled = SPOILED[how](tensors.get(name, torch.ones(2)))
        mutated = {**tensors, name: spoiled} if spoiled is not None else {**tensors}
        if spoiled is None:
            del mutated[name]
        assert_refused(folder, document, mutated, adata)


def assert_refused(folder, document, tensors, adata):
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    entry = {"name": "model.safetensors", "sha256": digest_of_file(folder / "model.safetensors")}
    write(folder, changed(document, ("files", "tensors"), entry))
    with pytest.raises(ValueError, match=r"(safetensors|json)' is damaged") as raised:
        scpln.hub.load(folder, adata)
    assert_own(raised.value)


@pytest.mark.parametrize("saved", SAVED[:1], indirect=True)
def test_no_tensors_at_all(saved):
    folder, adata = saved
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.safetensors").write_bytes(b"rubbish")
    entry = {"name": "model.safetensors", "sha256": digest_of_file(folder / "model.safetensors")}
    write(folder, changed(document, ("files", "tensors"), entry))
    with pytest.raises(ValueError, match=r"model.safetensors' is damaged: SafetensorError"):
        scpln.hub.load(folder, adata)


def external_link(file, elsewhere):
    file["obsm/X_other"] = h5py.ExternalLink(str(elsewhere), "/secret")


def external_storage(file, elsewhere):
    file.create_dataset("obsm/X_other", (90, 1), "f8", external=[(str(elsewhere), 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(file, elsewhere):
    layout = h5py.VirtualLayout((90, 1), "f8")
    layout[:] = h5py.VirtualSource(str(elsewhere), "secret", (90, 1))
    file.create_virtual_dataset("obsm/X_other", layout)


@pytest.mark.parametrize("saved", SAVED[:1], indirect=True)
@pytest.mark.parametrize("lead_out", [external_link, external_storage, virtual_dataset])
def test_data_stored_elsewhere_are_not_read(saved, tmp_path_factory, lead_out):
    folder, _ = saved
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file.h5"
    with h5py.File(elsewhere, "w") as file:
        file["secret"] = np.ones((90, 1))
    with h5py.File(folder / "adata.h5ad", "r+") as file:
        lead_out(file, elsewhere)
    document = json.loads((folder / "model.json").read_text())
    entry = {"name": "adata.h5ad", "sha256": digest_of_file(folder / "adata.h5ad")}
    write(folder, changed(document, ("files", "adata"), entry))
    with pytest.raises(ValueError, match=r"adata.h5ad' has '/obsm/X_other' in another file, which is not read"):
        scpln.hub.load(folder)


@pytest.mark.parametrize("saved", SAVED[:1], indirect=True)
def test_values_that_were_not_finite_are_no_damage(saved):
    """A fit that went astray can be saved, and loaded to see how."""
    folder, adata = saved
    model = scpln.hub.load(folder, adata)
    model.module.elbo[0] = torch.nan
    model.save(folder, overwrite=True)
    assert scpln.hub.load(folder, adata).module.elbo.isnan().sum() == 1
