"""The Python that the README and the documentation show runs as it stands there."""

import re
from pathlib import Path

import matplotlib as mpl
import pytest
import scvi
import torch

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "docs/getting_started.md",
    "docs/guides/simulating.md",
    "docs/guides/posteriors.md",
    "docs/guides/likelihoods.md",
    "docs/models/autoencoders.md",
]


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks on one thread: on a busy machine, several wait for each other."""
    before = torch.get_num_threads()
    scvi.settings.num_threads = 1
    yield
    scvi.settings.num_threads = before


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_blocks_run_in_order(document):
    mpl.use("Agg")
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert blocks
    names = {}
    for block in blocks:
        exec(block, names)
    assert "X_plnpca" in names["adata"].obsm or names["estimated"].shape == names["true"].shape
