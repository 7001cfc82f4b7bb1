import pytest
import scvi
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks on one thread: on a busy machine, several wait for each other."""
    before = torch.get_num_threads()
    scvi.settings.num_threads = 1
    yield
    scvi.settings.num_threads = before
