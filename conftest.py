"""Tests and examples take one thread: on a busy machine, small networks on several wait for each other.

The variables are those of what reads them as it is imported, in this process, in pytest-xdist's, and in those that tests start.
"""

import os

for library in ("MKL", "NUMBA", "OMP", "OPENBLAS", "VECLIB"):
    suffix = "MAXIMUM_THREADS" if library == "VECLIB" else "NUM_THREADS"
    os.environ.setdefault(f"{library}_{suffix}", "1")

import pytest  # noqa: E402
import scvi  # noqa: E402
import torch  # noqa: E402


def pytest_sessionstart() -> None:
    """One thread for what is made once for many tests."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread for each test, whatever the one before left."""
    monkeypatch.setattr(scvi.settings, "_num_threads", None)
    torch.set_num_threads(1)
