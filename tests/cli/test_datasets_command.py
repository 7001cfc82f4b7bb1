import anndata as ad

from scpln.cli import main


def test_writes_a_bundled_set(tmp_path, capsys):
    out = tmp_path / "pbmc.h5ad"
    assert main(["datasets", "pbmc68k_reduced", "--out", str(out)]) == 0
    assert "700 cells, 765 genes" in capsys.readouterr().out
    assert ad.read_h5ad(out).layers["counts"].nnz > 0
    assert main(["datasets", "pbmc68k_reduced", "--out", str(out)]) == 3
    assert "--force" in capsys.readouterr().err
