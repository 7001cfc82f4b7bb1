"""Try an installed scpln as a user would: ``python -I tests/smoke.py``, in an environment that has nothing else.

Not collected by pytest, which runs on the checkout: this runs on what a wheel or an sdist has installed (`make dist`).
"""

import importlib.metadata
import importlib.resources
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path


def check_files() -> None:
    """The package comes from the environment, says its version, and brings its types, but no tests."""
    import scpln

    site = Path(sysconfig.get_path("purelib")).resolve()
    where = Path(scpln.__file__).resolve()
    assert where.is_relative_to(site), f"scpln is imported from {where}, not from {site}"
    assert importlib.metadata.version("scpln") == scpln.__version__
    assert importlib.resources.files("scpln").joinpath("py.typed").is_file()
    for path in importlib.metadata.files("scpln"):
        assert path.parts[0] in {"scpln", f"scpln-{scpln.__version__}.dist-info", ".."}, path  # "..": bin/scpln


def check_model() -> None:
    """Counts to an annotated AnnData, and the model back from disk."""
    import anndata
    import numpy as np

    import scpln

    adata = scpln.datasets.simulate(n_obs=200, n_vars=40, n_latent=2, n_batches=2)
    scpln.model.setup_anndata(adata, batch_key="batch")
    model = scpln.model.PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    model.annotate()
    model.save("model", save_anndata=True)
    again = scpln.model.PLNPCA.load("model")
    np.testing.assert_array_equal(again.get_elbo(return_mean=False), adata.obs["plnpca_elbo"])
    adata.write_h5ad("annotated.h5ad")
    np.testing.assert_array_equal(anndata.read_h5ad("annotated.h5ad").obsm["X_plnpca"], adata.obsm["X_plnpca"])

    mixture = scpln.model.CountGMVAE(adata, n_components=2, n_latent=2, n_hidden=8)
    mixture.train(max_epochs=2, progress=False)
    mixture.annotate()
    assert adata.obsm["countgmvae_cluster_probs"].shape == (200, 2)


def check_command() -> None:
    """The command: version, a bundled data set, a fit of it."""
    import anndata

    import scpln

    assert run("--version") == f"scpln {scpln.__version__}\n"
    run("datasets", "pbmc68k_reduced", "--out", "counts.h5ad")
    options = ["--layer", "counts", "--size-factor-key", "n_counts", "--n-latent", "3"]
    run("fit", "counts.h5ad", *options, "--out", "fitted.h5ad")
    assert anndata.read_h5ad("fitted.h5ad").obsm["X_plnpca"].shape == (700, 3)


def run(*arguments: str) -> str:
    """What the installed command writes to stdout."""
    command = Path(sysconfig.get_path("scripts")) / "scpln"
    return subprocess.run([command, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Run every check in a directory of its own."""
    assert sys.flags.isolated, "run as `python -I`, so that no checkout is on the path"
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        for check in (check_files, check_model, check_command):
            check()
            sys.stdout.write(f"{check.__name__}: passed\n")
        os.chdir("/")


if __name__ == "__main__":
    main()
