from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

# A slow machine is no failure.
settings.register_profile("polymix", deadline=None)
settings.load_profile("polymix")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small tensors: more threads only get into each other's way, and into other workers'."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_dataset() -> Callable[..., object]:
    """Makes small datasets in memory: see `polymix.testing.toy_dataset`."""
    from polymix.testing.toy_data import toy_dataset

    return toy_dataset
