"""Tests and examples take one thread of torch: on a busy machine, small networks on several wait for each other."""

import pytest
import scvi
import torch


def pytest_sessionstart() -> None:
    """One thread for what is made once for many tests."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread for each test, whatever the one before left."""
    monkeypatch.setattr(scvi.settings, "_num_threads", None)
    torch.set_num_threads(1)
