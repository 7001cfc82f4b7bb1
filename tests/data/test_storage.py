"""What can be written is known before it is written, and a full disk is an error like any other."""

import datetime
import errno
import os
import resource
from itertools import product

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd
import pytest

from scpln.data.storage import check_writable, write_data

pytestmark = pytest.mark.filterwarnings("ignore")
READ = {".h5ad": ad.read_h5ad, ".zarr": ad.read_zarr, ".h5mu": md.read_h5mu}


def make_adata():
    return ad.AnnData(
        np.ones((4, 3), "f4"), obs=pd.DataFrame(index=[*"abcd"]), var=pd.DataFrame({"n": range(3)}, index=[*"xyz"])
    )


def obs(values):
    return lambda adata: adata.obs.__setitem__("d", values)


def put(slot, name, value):
    return lambda adata: getattr(adata, slot).__setitem__(name, value)


def raw_with_index_column(adata):
    adata.raw = adata.copy()
    adata.raw.var.rename(columns={"n": "_index"}, inplace=True)


def index_name_of_a_column(adata):
    adata.obs["cell"] = 1
    adata.obs.index.name = "cell"


def repeated_columns(adata):
    adata.obs = pd.DataFrame(np.ones((4, 2)), index=[*"abcd"], columns=["d", "d"])


CASES = {
    "column _index of raw": (raw_with_index_column, "raw.var['_index']"),
    "column _index": (put("obs", "_index", 1), "obs['_index']"),
    "column with a slash": (put("obs", "T/NK", 1), None),
    "integer column": (put("obs", 5, 1), "obs[5]"),
    "column without a name": (put("obs", "", 1), "obs['']"),
    "repeated columns": (repeated_columns, "obs['d'] (there are several"),
    "index named like a column": (index_name_of_a_column, "obs.index.name 'cell'"),
    "nullable-string index": (lambda adata: setattr(adata.obs, "index", adata.obs.index.astype("string")), None),
    "nullable strings": (obs(pd.array(["a", None, "b", "c"], dtype="string")), None),
    "nullable integers": (obs(pd.array([1, None, 2, 3], dtype="Int64")), None),
    "mixed": (obs(np.array(["a", 1, 2.0, None], dtype=object)), "obs['d'] (object"),
    "dates": (obs(pd.date_range("2020", periods=4)), "obs['d'] (datetime64[ns]"),
    "categories of dates": (obs(pd.Categorical(pd.date_range("2020", periods=4))), "obs['d'] (category"),
    "categories of integers": (obs(pd.Categorical([1, 2, 1, 2])), None),
    "intervals": (obs(pd.cut([1, 2, 3, 4], 2)), "obs['d'] (category"),
    "lists": (obs([[1], [2], [3], [4]]), "obs['d'] (object"),
    "lone surrogate": (obs(pd.Categorical(["a\udcff"] * 4)), "obs['d'] (category"),
    "layer with a slash": (put("layers", "a/b", np.ones((4, 3))), "layers['a/b']"),
    "obsm with a slash": (put("obsm", "X_a/b", np.ones((4, 2))), "obsm['X_a/b']"),
    "table with _index in obsm": (
        put("obsm", "d", pd.DataFrame({"_index": range(4)}, index=[*"abcd"])),
        "obsm['d']['_index']",
    ),
    "objects in obsm": (put("obsm", "d", np.array([["a", 1]] * 4, dtype=object)), "obsm['d']"),
    "uns with a slash": (put("uns", "a/b", 1), "uns['a/b']"),
    "integer key deep in uns": (put("uns", "d", {"x": {2: 1}}), "uns['d']['x'][2]"),
    "date in uns": (put("uns", "d", datetime.date(2024, 1, 31)), "uns['d'] (date"),
    "None and lists in uns": (put("uns", "d", {"x": None, "y": ["a", "b"]}), None),
}


SOME = (
    "column _index of raw",
    "column with a slash",
    "nullable-string index",
    "mixed",
    "layer with a slash",
    "None and lists in uns",
)


@pytest.mark.parametrize(("name", "suffix"), [*((name, ".h5ad") for name in CASES), *product(SOME, (".h5mu", ".zarr"))])
def test_the_check_says_what_writing_comes_to(tmp_path, name, suffix):
    change, place = CASES[name]
    adata = make_adata()
    change(adata)
    data, path = md.MuData({"rna": adata}) if suffix == ".h5mu" else adata, tmp_path / f"a{suffix}"
    said = ""
    try:
        check_writable(data, suffix)
    except ValueError as error:
        said = str(error)
    try:
        write_data(path, data)
        again = READ[suffix](path)
        again = again.mod["rna"] if suffix == ".h5mu" else again
        slots = ("obs", "var", "obsm", "uns", "layers")
        whole = all({*getattr(adata, slot)} == {*getattr(again, slot)} for slot in slots)
    except Exception:  # noqa: BLE001 (whatever anndata raises)
        whole = False
    assert whole == (said == "")
    if suffix != ".zarr":  # which holds mixed objects, and no slashes
        assert (place is None) == (said == "")
        assert (place or "") in said
        assert "rename" in said or "convert" in said or "set it to None" in said or place is None


def test_the_remedy_helps(tmp_path):
    adata = make_adata()
    raw_with_index_column(adata)
    with pytest.raises(ValueError, match=r"raw\.var") as caught:
        check_writable(adata)
    remedy = str(caught.value).partition("as by ")[2].rstrip(".")
    eval(remedy, {"adata": adata})  # what the message says to do
    check_writable(adata)
    write_data(tmp_path / "a.h5ad", adata)
    assert "index" in ad.read_h5ad(tmp_path / "a.h5ad").raw.var


def test_the_check_changes_nothing():
    adata = make_adata()
    adata.obs["text"] = ["a", "b", "a", "a"]
    check_writable(adata)
    assert adata.obs["text"].dtype == object


def fill_the_disk(folder):
    """Write with ever more room, and return the errors; a limit of the size of files stands for the end of the disk."""
    uns = {f"k{i}": {"x": np.arange(9), "y": "text"} for i in range(4)}
    adata = ad.AnnData(np.ones((60, 50), "f4"), obs=pd.DataFrame({"c": np.resize(["a", "b"], 60)}), uns=uns)
    mdata = md.MuData({"rna": adata[:, :30].copy(), "prot": adata[:, 30:].copy()})
    found = set()
    for path, data, settings in (
        (folder / "a.h5ad", adata, {}),
        (folder / "a.h5ad", adata, {"compression": "gzip"}),
        (folder / "m.h5mu", mdata, {}),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        write_data(path, data, **settings)
        size = path.stat().st_size
        for limit in [1, 2048, *range(4096, size, size // 4), size - 1]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
            try:
                write_data(path, data, **settings)
            except OSError as error:
                found.add(error.errno)
            else:
                found.add(None)
    return found


def test_a_full_disk_is_an_error_wherever_it_strikes(tmp_path):
    """In a process of its own, since HDF5 by itself ends it in a segmentation fault."""
    if (child := os.fork()) == 0:
        outcome = 1
        try:
            outcome = 0 if fill_the_disk(tmp_path) == {errno.EFBIG} else 2
        finally:
            os._exit(outcome)
    assert os.waitpid(child, 0)[1] == 0


def test_what_is_written_is_what_anndata_writes(tmp_path):
    adata = make_adata()
    adata.obs["text"] = ["a", "b", "a", "a"]
    adata.raw = adata.copy()
    write_data(tmp_path / "ours.h5ad", adata, compression="gzip", compression_opts=2)
    adata.write_h5ad(tmp_path / "theirs.h5ad", compression="gzip", compression_opts=2)
    ours, theirs = (ad.read_h5ad(tmp_path / name) for name in ("ours.h5ad", "theirs.h5ad"))
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    pd.testing.assert_frame_equal(ours.raw.var, theirs.raw.var)
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert (tmp_path / "ours.h5ad").stat().st_size == pytest.approx((tmp_path / "theirs.h5ad").stat().st_size, rel=0.2)


def test_files_have_the_groups_that_anndata_gives_them(tmp_path):
    """A group that says that there is no raw is read as one, where the file stays open."""
    adata = make_adata()
    write_data(tmp_path / "ours.h5ad", adata)
    adata.write_h5ad(tmp_path / "theirs.h5ad")
    with h5py.File(tmp_path / "ours.h5ad") as ours, h5py.File(tmp_path / "theirs.h5ad") as theirs:
        assert sorted(ours) == sorted(theirs)
    backed = ad.read_h5ad(tmp_path / "ours.h5ad", backed="r")
    assert backed.raw is None
    write_data(tmp_path / "again.h5ad", backed)
    assert ad.read_h5ad(tmp_path / "again.h5ad").shape == adata.shape
