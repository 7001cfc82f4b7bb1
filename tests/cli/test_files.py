import pytest

from scpln.cli._errors import CommandError, OutputError
from scpln.cli._files import check_output, read_h5ad, whole_file


def test_whole_file_appears_at_the_end_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "out.txt"
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_whole_file_keeps_the_old_one_when_writing_ends_early(tmp_path, end):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(end), whole_file(path) as temporary:
        temporary.write_text("ne")
        raise end
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_a_full_disk_is_an_output_error(tmp_path):
    with (
        pytest.raises(OutputError, match=r"cannot write .*out.txt: No space left on device"),
        whole_file(tmp_path / "out.txt"),
    ):
        raise OSError(28, "No space left on device")


def test_a_mudata_is_not_read_as_an_anndata(tmp_path):
    (tmp_path / "cells.h5mu").touch()
    with pytest.raises(
        CommandError, match=r"cells.h5mu is a MuData, .*`scpln fit` models several .*scpln.model.setup_mudata"
    ):
        read_h5ad(tmp_path / "cells.h5mu")


def test_check_output(tmp_path):
    (tmp_path / "there.h5ad").touch()
    check_output(tmp_path / "new.h5ad", force=False, suffixes=(".h5ad",))
    check_output(tmp_path / "there.h5ad", force=True)
    check_output(tmp_path, force=True, directory=True)
    for path, options, message in [
        (tmp_path / "there.h5ad", {}, "exists already; add --force"),
        (tmp_path / "new.h5", {"suffixes": (".h5ad",)}, "must end in .h5ad"),
        (tmp_path / "none" / "new.h5ad", {}, "mkdir -p"),
        (tmp_path, {"force": True}, "is a directory"),
        (tmp_path / "there.h5ad", {"force": True, "directory": True}, "is a file"),
    ]:
        with pytest.raises(OutputError, match=message):
            check_output(path, **{"force": False, **options})
