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


@pytest.fixture
def registrations() -> Iterator[None]:
    """What the test registers is forgotten after it."""
    from polymix.registry import restored

    with restored():
        yield


@pytest.fixture
def workplace(tmp_path, tmp_path_factory, monkeypatch):
    """An empty folder to work in, with the demo data in the cache, and one thread a run."""
    from cli_support import shared_cache

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLYMIX_CACHE", str(shared_cache(tmp_path_factory)))
    monkeypatch.setattr("polymix.runs.request.default_threads", lambda jobs: 1)
    return tmp_path


@pytest.fixture
def finished(tmp_path_factory, workplace):
    """A finished run."""
    from cli_support import finished_run

    return finished_run(tmp_path_factory, workplace / "done")
