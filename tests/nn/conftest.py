import pytest
import torch
from hypothesis import settings

# A slow machine is no failure.
settings.register_profile("polymix", deadline=None)
settings.load_profile("polymix")


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Small tensors: more threads only get into each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
