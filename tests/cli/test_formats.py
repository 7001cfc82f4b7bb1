"""Kinds of files in and out, and outputs that cannot be written."""

import gzip
import os
import shutil

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scpln
from scpln.cli import main
from scpln.cli._errors import CommandError
from scpln.cli._files import read_h5ad
from scpln.cli.formats import kind_of, layout_of

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def simulated():
    return scpln.datasets.simulate(40, 15, n_latent=2, density=0.5)


@pytest.fixture
def folder(simulated, tmp_path, monkeypatch):
    simulated.write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fit(*argv):
    return main(["fit", *map(str, argv), "--n-latent", "2", "--max-epochs", "2", "--quiet"])


def write_10x(adata, path):
    """As Cell Ranger has it: features in rows, the last of them no gene, and two genes of one name."""
    counts = sp.csc_matrix(adata.X.T).astype(np.int32)
    names = ["g0", "g0", *adata.var_names[2:]]
    kinds = ["Gene Expression"] * (adata.n_vars - 1) + ["Antibody Capture"]
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        for name, values in (("data", counts.data), ("indices", counts.indices), ("indptr", counts.indptr)):
            matrix.create_dataset(name, data=values, compression="gzip")
        matrix["shape"], matrix["barcodes"] = np.array(counts.shape), np.array([*adata.obs_names], dtype="S")
        for name, values in {"name": names, "id": [*adata.var_names], "feature_type": kinds, "genome": names}.items():
            matrix[f"features/{name}"] = np.array(values, dtype="S")


def test_zarr_in_and_out(folder, simulated):
    simulated.write_zarr(folder / "in.zarr")
    assert fit("in.zarr", "--out", "a.zarr") == 0
    assert fit("in.h5ad", "--out", "a.h5ad") == 0
    one, other = ad.read_zarr("a.zarr"), ad.read_h5ad("a.h5ad")
    np.testing.assert_array_equal(one.obsm["X_plnpca"], other.obsm["X_plnpca"])
    assert fit("in.zarr", "--out", "a.zarr") == 3
    assert fit("in.zarr", "--out", "a.zarr", "--force") == 0
    assert {path.name for path in folder.iterdir()} == {"in.h5ad", "in.zarr", "a.zarr", "a.h5ad"}


def test_a_directory_that_is_no_zarr_is_not_lost(folder, capsys):
    (folder / "own.zarr").mkdir()
    (folder / "own.zarr" / "notes.txt").write_text("precious")
    assert fit("in.h5ad", "--out", "own.zarr", "--force") == 3
    assert "is a directory that is no .zarr" in capsys.readouterr().err
    assert (folder / "own.zarr" / "notes.txt").read_text() == "precious"


def test_mudata_in_zarr(folder, simulated):
    mdata = md.MuData({"rna": simulated[:, :9].copy(), "prot": simulated[:, 9:].copy()})
    mdata.write_zarr(folder / "in.zarr")
    assert fit("in.zarr", "--modality", "rna", "--modality", "prot", "--out", "a.h5mu") == 0
    assert md.read_h5mu("a.h5mu").obsm["X_plnpca"].shape == (40, 2)


def test_10x(folder, simulated, capsys):
    write_10x(simulated, folder / "raw.h5")
    assert main(["fit", "raw.h5", "--out", "a.h5ad", "--n-latent", "2", "--max-epochs", "2"]) == 0
    err = capsys.readouterr().err
    assert "raw.h5 has 1 features that are not genes (Antibody Capture), which are left out" in err
    assert "1 gene names more than once, such as g0" in err
    out = ad.read_h5ad("a.h5ad")
    assert out.shape == (40, 14)
    np.testing.assert_array_equal(out.X.toarray(), simulated.X.toarray()[:, :14])
    assert layout_of(folder / "a.h5ad")["compression"] == "gzip"


@pytest.mark.parametrize("settings", [{}, {"compression": "gzip", "compression_opts": 7}, {"compression": "lzf"}])
@pytest.mark.parametrize("suffix", [".h5ad", ".h5mu"])
def test_compression_is_kept(folder, simulated, settings, suffix):
    data = simulated if suffix == ".h5ad" else md.MuData({"rna": simulated.copy()})
    getattr(data, f"write_{suffix[1:]}")(folder / f"b{suffix}", **settings)
    assert fit(f"b{suffix}", "--out", f"c{suffix}") == 0
    found = layout_of(folder / f"c{suffix}")
    assert settings.items() <= found.items()
    assert bool(settings) == bool(found)


def test_links_stay_links(folder, capsys):
    (folder / "real").mkdir()
    (folder / "out.h5ad").symlink_to("real/file.h5ad")
    assert fit("in.h5ad", "--out", "out.h5ad") == 0
    assert (folder / "out.h5ad").is_symlink()
    assert "X_plnpca" in ad.read_h5ad(folder / "real" / "file.h5ad").obsm
    assert fit("in.h5ad", "--out", "out.h5ad") == 3
    (folder / "null.h5ad").symlink_to("/dev/null")
    assert fit("in.h5ad", "--out", "null.h5ad", "--force") == 3
    assert "is a pipe or a device" in capsys.readouterr().err


def truncated(path):
    whole = path.with_name("in.h5ad").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["results"] = 1


def loom(path):
    with h5py.File(path, "w") as file:
        for name in ("row_attrs", "col_attrs", "layers"):
            file.create_group(name)


WRONG = {
    "table": (lambda path: path.write_text("gene,a,b\nx,1,2\n"), "is a text file, such as a table of counts"),
    "gzip": (
        lambda path: path.write_bytes(gzip.compress(b"x")),
        "is compressed as a whole: unpack it first, as by gunzip",
    ),
    "zip": (lambda path: path.write_bytes(b"PK\x03\x04\0\0"), "is compressed as a whole: unpack it first, as by unzip"),
    "empty": (lambda path: path.touch(), "is empty"),
    "bytes": (lambda path: path.write_bytes(b"\0\1\2"), "is of a kind that is not known here, or damaged"),
    "truncated": (truncated, "is damaged or was cut short"),
    "other HDF5": (other_hdf5, "is an HDF5 file, but not of cells by genes (it holds results)"),
    "loom": (loom, "is a .loom file"),
    "pipe": (os.mkfifo, "is a pipe or a device"),
    "directory": (lambda path: path.mkdir(), "is a directory, and none of a .zarr"),
    "mtx": (lambda path: (path.mkdir(), (path / "matrix.mtx.gz").touch()), "is a directory of 10x .mtx files"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_named_in_plain_words(folder, capsys, make, message):
    make(folder / "wrong.h5ad")
    assert fit("wrong.h5ad", "--out", "a.h5ad") == 1
    err = capsys.readouterr().err
    assert f"scpln: error: wrong.h5ad {message}" in err
    assert not any(word in err for word in ("synchronously", "signature", "errno", "eof", "Traceback"))


def test_a_damaged_part_is_said_without_jargon(folder):
    with h5py.File("in.h5ad", "a") as file:
        del file["X/indptr"]
    with pytest.raises(CommandError, match=r"cannot read .*in.h5ad as AnnData .h5ad: it is damaged, or lacks a part"):
        read_h5ad(folder / "in.h5ad")


def test_the_kind_is_in_the_file_and_not_in_its_name(folder):
    shutil.copy("in.h5ad", "in.data")
    assert kind_of(folder / "in.data").name == "H5AD"
    assert read_h5ad(folder / "in.data").n_obs == 40


def as_seurat(folder):
    """A column `_index`, which anndata reads and does not write."""
    adata = ad.read_h5ad(folder / "in.h5ad")
    adata.var["x"] = 1
    adata.raw = adata
    adata.write_h5ad(folder / "in.h5ad")
    with h5py.File(folder / "in.h5ad", "a") as file:
        var = file["raw/var"]
        names, index = [*var.attrs["column-order"]], var.attrs["_index"]
        var.move(index, "names")
        var.attrs["_index"] = "names"
        var.move("x", "_index")
        var.attrs["column-order"] = np.array(["_index" if name == "x" else name for name in names], dtype=object)


def test_what_cannot_be_written_is_refused_before_the_fit(folder, capsys, monkeypatch):
    as_seurat(folder)
    assert "_index" in ad.read_h5ad("in.h5ad").raw.var
    monkeypatch.setattr(scpln.model.PLNPCA, "train", lambda *_a, **_k: pytest.fail("trained"))
    assert fit("in.h5ad", "--out", "a.h5ad") == 3
    err = capsys.readouterr().err
    assert "in.h5ad cannot be written again: A .h5ad file cannot hold raw.var['_index']" in err
    assert "adata.raw.var.rename(columns=" in err


def test_a_nullable_string_index_is_written(folder, simulated):
    adata = simulated.copy()
    adata.obs.index = adata.obs.index.astype("string")
    with ad.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad("in.h5ad")
    assert isinstance(ad.read_h5ad("in.h5ad").obs.index.dtype, pd.StringDtype)
    assert fit("in.h5ad", "--out", "a.h5ad") == 0
    assert [*ad.read_h5ad("a.h5ad").obs_names] == [*adata.obs_names]


def test_no_room_is_said_before_the_fit(folder, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))
    monkeypatch.setattr(scpln.model.PLNPCA, "train", lambda *_a, **_k: pytest.fail("trained"))
    assert fit("in.h5ad", "--out", "a.h5ad") == 3
    assert "has 0.0 MB of free space, and the file will take more than" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [RuntimeError("Can't decrement id ref count"), OSError(28, "No space left"), TypeError("?")]
)
def test_a_fit_is_kept_if_its_file_cannot_be_written(folder, capsys, monkeypatch, error):
    from scpln.data import storage

    write_data = storage.write_data

    def write(path, data, **settings):
        if path.name == "a.h5ad":
            path.write_bytes(b"half")
            raise error
        write_data(path, data, **settings)

    monkeypatch.setattr(storage, "write_data", write)
    assert fit("in.h5ad", "--out", "a.h5ad") == 3
    (kept,) = folder.glob("a-kept-*")
    assert f"what was fitted is kept in {kept} (results.h5ad and model)" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"in.h5ad", kept.name}
    results = ad.read_h5ad(kept / "results.h5ad")
    assert np.isfinite(results.obsm["X_plnpca"]).all()
    assert {"plnpca_elbo"} <= {*results.obs}
    assert scpln.model.PLNPCA.load(kept / "model", adata=ad.read_h5ad("in.h5ad")).n_latent == 2


def test_a_kept_fit_goes_elsewhere_if_there_is_no_place_beside(folder, capsys, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    from scpln.data import storage

    write_data = storage.write_data

    def write(path, data, **settings):
        if folder in path.parents:
            raise OSError(28, "No space left on device")
        write_data(path, data, **settings)

    monkeypatch.setattr(storage, "write_data", write)
    monkeypatch.setattr(scpln.model.PLNPCA, "save", lambda *_a, **_k: (_ for _ in ()).throw(OSError(28, "No space")))
    assert fit("in.h5ad", "--out", "a.h5ad") == 3
    (kept,) = elsewhere.iterdir()
    assert f"No space left on device; what was fitted is kept in {kept} (results.h5ad)" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["in.h5ad"]
