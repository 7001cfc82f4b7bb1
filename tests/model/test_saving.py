"""Saving and loading: nothing lost, nothing unpickled, every damage named."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import scpln
from scpln.model import PLNPCA, setup_anndata
from scpln.model.base.saving import _write

from .conftest import make_adata, train


@pytest.fixture
def saved(trained, tmp_path):
    """Directory of a saved model, with its AnnData."""
    trained.save(tmp_path / "model", save_anndata=True)
    return tmp_path / "model"


@pytest.fixture(scope="module")
def other() -> PLNPCA:
    """Another model of the same data; do not change it."""
    return train(make_adata(), n_latent=1, layer="counts", batch_key="batch")


def results(model: PLNPCA) -> list[np.ndarray]:
    posterior = model.get_posterior()
    return [
        posterior.mean,
        posterior.covariance,
        model.get_elbo(return_mean=False),
        model.get_loadings().to_numpy(),
        model.get_coefficients().to_numpy(),
    ]


def assert_same(model: PLNPCA, other: PLNPCA) -> None:
    for ours, theirs in zip(results(model), results(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Another(PLNPCA):
    """Another model class."""


def test_everything_comes_back(trained, saved):
    assert sorted(path.name for path in saved.iterdir()) == ["adata.h5ad", "model.json", "model.safetensors"]
    again = PLNPCA.load(saved)
    assert_same(again, trained)
    assert repr(again) == repr(trained)
    assert (again.converged, again.stop_reason, again.init_params_) == (
        trained.converged,
        trained.stop_reason,
        trained.init_params_,
    )
    assert again.history["elbo"].equals(trained.history["elbo"])
    np.testing.assert_allclose(again.get_normalized_expression(), trained.get_normalized_expression(), rtol=1e-6)
    again.annotate()
    assert "X_plnpca" in again.adata.obsm


def test_files_can_be_read_by_whom_the_umask_lets(saved):
    (saved / "probe").touch()
    assert len({file.stat().st_mode for file in saved.iterdir()}) == 1


def test_metadata_are_readable(saved):
    document = json.loads((saved / "model.json").read_text())
    assert document["schema_version"] == 1
    assert document["model"]["class"] == "PLNPCA"
    assert document["model"]["scpln_version"] == scpln.__version__
    assert document["model"]["registry"]["setup_args"]["batch_key"] == "batch"


def test_data_may_be_passed(trained, saved):
    again = PLNPCA.load(saved, trained.adata.copy())
    assert_same(again, trained)
    reordered = trained.adata[:, ::-1].copy()
    again = PLNPCA.load(saved, reordered)
    assert again.adata is reordered
    assert_same(again, trained)
    again.annotate()
    np.testing.assert_array_equal(reordered.varm["plnpca_loadings"], trained.get_loadings().iloc[::-1])


def test_other_cells_may_be_passed(trained, saved):
    new = make_adata(n_obs=155)[150:].copy()
    again = PLNPCA.load(saved, new)
    assert repr(again).splitlines()[1].startswith("  data: 5 cells")
    np.testing.assert_allclose(again.get_latent_representation(), trained.get_latent_representation(new))
    same_names = trained.adata.copy()
    same_names.layers["counts"] = same_names.layers["counts"][:, ::-1].copy()
    again = PLNPCA.load(saved, same_names)
    np.testing.assert_allclose(again.get_elbo(return_mean=False), trained.get_elbo(same_names, return_mean=False))


def test_loaded_models_train_again(trained, saved):
    again = PLNPCA.load(saved)
    again.train(progress=False)
    assert again.get_elbo() == pytest.approx(trained.get_elbo(), abs=1e-3)


def test_without_data(trained, saved):
    again = PLNPCA.load(saved, adata=False)
    assert again.adata is None
    assert_same(again, trained)
    np.testing.assert_allclose(again.get_elbo(trained.adata), trained.get_elbo(), atol=1e-3)
    for method in (again.annotate, again.train, again.get_normalized_expression):
        with pytest.raises(
            ValueError, match=r"loaded without its AnnData. Pass adata=, or load it with load\(path, adata\)"
        ):
            method()
    with pytest.raises(ValueError, match="save_anndata=True, but this model was loaded without"):
        again.save(saved, overwrite=True, save_anndata=True)


def test_data_that_were_not_saved_are_missed(trained, tmp_path):
    trained.save(tmp_path / "model")
    with pytest.warns(UserWarning, match=r"No AnnData was saved in .* and none was passed") as record:
        again = PLNPCA.load(tmp_path / "model")
    assert record[0].filename == __file__
    assert again.adata is None


def test_an_untrained_model(adata, tmp_path):
    setup_anndata(adata)
    PLNPCA(adata, n_latent=3).save(tmp_path / "model")
    again = PLNPCA.load(tmp_path / "model", adata)
    assert not again.is_trained
    again.train(progress=False)
    assert again.get_loadings().shape == (30, 3)


def test_prefixes_share_a_directory(trained, adata, tmp_path):
    other = train(adata, n_latent=1)
    trained.save(tmp_path, prefix="a_")
    other.save(tmp_path, prefix="b_", save_anndata=True)
    trained.save(tmp_path, prefix="a_", overwrite=True)
    assert_same(PLNPCA.load(tmp_path, trained.adata, prefix="a_"), trained)
    assert_same(PLNPCA.load(tmp_path, prefix="b_"), other)
    with pytest.raises(ValueError, match=r"has no model.json.*It has \['a_model.json', 'b_model.json'\].*prefix="):
        PLNPCA.load(tmp_path)


def test_overwriting(trained, saved, other):
    with pytest.raises(ValueError, match=r"model.json' already exists. Pass overwrite=True"):
        trained.save(saved)
    for _ in range(3):
        other.save(saved, overwrite=True, save_anndata=True)
        assert len(list(saved.iterdir())) == 3
        assert_same(PLNPCA.load(saved), other)
    other.save(saved, overwrite=True)
    assert any(path.suffix == ".h5ad" for path in saved.iterdir()), "data of an earlier save are the user's"
    (saved.parent / "file").touch()
    with pytest.raises(ValueError, match="is a file; a model is saved as a directory"):
        trained.save(saved.parent / "file")


class Killed(BaseException):
    """Stands for an end without any cleaning up."""


def kill(patch, moment):
    """Have the n-th step that changes the directory end the process, as it were."""
    steps = iter(range(100))

    def dying(function):
        def step(*args, **kwargs):
            if next(steps) == moment:
                raise Killed
            return function(*args, **kwargs)

        return step

    patch.setattr(Path, "unlink", lambda *args, **kwargs: None)
    for name in ("touch", "replace"):
        patch.setattr(Path, name, dying(getattr(Path, name)))
    for name in ("save_file", "write_data"):
        patch.setattr(_write, name, dying(getattr(_write, name)))


#: Touch and write of tensors and data, touch of the description, touch and replace of both, replace of the description.
N_STEPS = 2 + 2 + 1 + 2 + 2 + 1


@pytest.mark.parametrize("moment", range(N_STEPS + 1))
def test_a_killed_save_leaves_the_previous_model(trained, saved, other, moment, monkeypatch):
    killed = moment < N_STEPS
    with monkeypatch.context() as patch, pytest.raises(Killed) if killed else nullcontext():
        kill(patch, moment)
        other.save(saved, overwrite=True, save_anndata=True)
    assert_same(PLNPCA.load(saved), trained if killed else other)
    other.save(saved, overwrite=True, save_anndata=True)
    assert_same(PLNPCA.load(saved), other)
    assert len(list(saved.iterdir())) == 3, "what the killed save left is removed"


@pytest.mark.parametrize("moment", range(N_STEPS))
def test_after_a_killed_save_the_place_is_free(trained, tmp_path, moment, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill(patch, moment)
        trained.save(tmp_path, save_anndata=True)
    with pytest.raises(ValueError, match=r"has no model.json"):
        PLNPCA.load(tmp_path)
    trained.save(tmp_path, save_anndata=True)
    assert_same(PLNPCA.load(tmp_path), trained)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adata.h5ad", "model.json", "model.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_save_that_is_really_killed(fullrank, tmp_path):
    saved = tmp_path / "model"
    fullrank.save(saved, save_anndata=True)
    script = f"""
        import os, signal
        from scpln.model import PLNPCA
        from scpln.model.base.saving import _write
        model = PLNPCA.load({str(saved)!r})
        _write.make_document = lambda *content: os.kill(os.getpid(), signal.SIGKILL)
        model.save({str(saved)!r}, overwrite=True, save_anndata=True)
    """
    outcome = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, env=os.environ)
    assert outcome.returncode == -9
    assert len(list(saved.iterdir())) > 3
    assert_same(PLNPCA.load(saved), fullrank)


class TestDamage:
    """Every damage gives an error that names the file."""

    @pytest.mark.parametrize("name", ["model.json", "model.safetensors", "adata.h5ad"])
    @pytest.mark.parametrize("share", [0, 0.5, 0.99])
    def test_truncated(self, saved, name, share):
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=f"{name}' is (damaged|truncated or was changed)"):
            PLNPCA.load(saved)

    @pytest.mark.parametrize("name", ["model.safetensors", "adata.h5ad"])
    def test_tampered(self, saved, name):
        content = bytearray((saved / name).read_bytes())
        content[len(content) // 2] ^= 1
        (saved / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}' is truncated or was changed after it was saved"):
            PLNPCA.load(saved)

    def test_tampered_metadata(self, saved):
        path = saved / "model.json"
        path.write_text(path.read_text().replace('"n_latent": 2', '"n_latent": 1'))
        with pytest.raises(ValueError, match=r"model.json' was changed after it was saved"):
            PLNPCA.load(saved)

    @pytest.mark.parametrize("name", ["model.safetensors", "adata.h5ad"])
    def test_missing_file(self, saved, name):
        (saved / name).unlink()
        with pytest.raises(ValueError, match=f"{name}' is missing from the saved model"):
            PLNPCA.load(saved)

    def test_changed_data_can_be_passed_by_hand(self, trained, saved):
        (saved / "adata.h5ad").unlink()
        assert_same(PLNPCA.load(saved, trained.adata), trained)

    def test_newer_format(self, saved):
        document = json.loads((saved / "model.json").read_text())
        (saved / "model.json").write_text(json.dumps({**document, "schema_version": 2}))
        with pytest.raises(ValueError, match=r"has format version 2; this version of scpln reads version 1.*upgrade"):
            PLNPCA.load(saved)

    @pytest.mark.parametrize("content", ["[]", "{}", "null", "\x00\x01", '{"schema_version": 1}'])
    def test_other_json(self, saved, content):
        (saved / "model.json").write_text(content)
        with pytest.raises(ValueError, match=r"model.json' is damaged"):
            PLNPCA.load(saved)

    def test_no_directory(self, tmp_path):
        with pytest.raises(ValueError, match=r"There is no directory .*nowhere"):
            PLNPCA.load(tmp_path / "nowhere")
        with pytest.raises(ValueError, match=r"has no model.json, so it is not a saved scpln model"):
            PLNPCA.load(tmp_path)

    def test_another_class(self, saved):
        with pytest.raises(ValueError, match=r"holds a PLNPCA, not a Another. Load it with scpln.model.PLNPCA.load"):
            Another.load(saved)
        assert isinstance(Another.load(saved, allowed_classes_names_list=["PLNPCA"]), Another)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "model.pt", "adata.h5ad"])
def test_nothing_is_unpickled(saved, tmp_path, name):
    (saved / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    if name == "model.pt":
        for path in list(saved.iterdir()):
            if path.name != name:
                path.unlink()
        with pytest.raises(ValueError, match=r"holds a model.pt of scvi-tools.*can run any code.*scpln does not"):
            PLNPCA.load(saved)
    for use in (PLNPCA.load, PLNPCA.load_registry, PLNPCA.view_setup_args):
        if name == "adata.h5ad" and use is not PLNPCA.load:
            continue
        with pytest.raises(ValueError, match=r"Save the model again|damaged|changed|is not|scvi-tools"):
            use(saved)
    with pytest.raises(NotImplementedError, match="PLNPCA has no legacy format"):
        PLNPCA.convert_legacy_save(saved, tmp_path / "converted")
    assert not (tmp_path / "exploded").exists()


def test_registry_can_be_read(saved, capsys):
    assert PLNPCA.load_registry(saved)["setup_args"]["layer"] == "counts"
    PLNPCA.view_setup_args(saved)
    assert "'batch_key': 'batch'" in capsys.readouterr().out


def test_loading_checks_the_data(saved, adata):
    with pytest.raises(ValueError, match=r"1 of the model's 30 genes are missing from adata.var_names: 'gene_29'"):
        PLNPCA.load(saved, adata[:, :29].copy())
    with pytest.raises(ValueError, match="is a view of another AnnData"):
        PLNPCA.load(saved, adata[:5])
    adata.obs["batch"] = "elsewhere"
    with pytest.raises(ValueError, match=r"not trained on: \['elsewhere'\]"):
        PLNPCA.load(saved, adata)


def test_arguments_of_scvis_own_format_are_refused(trained, saved):
    with pytest.raises(ValueError, match="belong to scvi-tools' own format"):
        trained.save(saved, overwrite=True, save_kwargs={"pickle_protocol": 2})
    with pytest.raises(ValueError, match="backup_url and datamodule are not supported"):
        PLNPCA.load(saved, backup_url="https://example.org/model")


def test_a_moved_directory(trained, saved, tmp_path):
    shutil.move(saved, tmp_path / "moved")
    assert_same(PLNPCA.load(tmp_path / "moved", device="cpu"), trained)


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda adata: adata.layers.__setitem__("a/b", adata.X), r"layers\['a/b'\]"),
        (lambda adata: adata.obs.__setitem__("_index", 1), r"obs\['_index'\]"),
    ],
)
def test_data_that_cannot_be_written_are_refused_before_anything_is(tmp_path, adata, spoil, place):
    model = train(adata, layer="counts")
    spoil(adata)
    with pytest.raises(ValueError, match=f"A .h5ad file cannot hold {place}"):
        model.save(tmp_path / "model", save_anndata=True)
    assert not (tmp_path / "model").exists()


def test_nullable_strings_are_saved_with_the_model(tmp_path, adata):
    adata.obs.index = adata.obs.index.astype("string")
    model = train(adata, layer="counts")
    model.save(tmp_path / "model", save_anndata=True)
    assert scpln.model.PLNPCA.load(tmp_path / "model").adata.n_obs == adata.n_obs
