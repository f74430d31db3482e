"""Where a run's folder comes to lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from polymix.errors import RunFolderError
from polymix.runs.paths import free_path


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_that_is_free():
    assert free_path(None, "toy") == Path("runs/toy")
    for name in ("toy", "toy-2"):
        Path("runs", name).mkdir(parents=True)
    assert free_path(None, "toy") == Path("runs/toy-3")


def test_an_empty_folder_is_free():
    Path("empty").mkdir()
    assert free_path(Path("empty"), "toy") == Path("empty")


def test_what_is_taken():
    Path("taken").mkdir()
    Path("taken/file").touch()
    with pytest.raises(RunFolderError, match="polymix resume taken"):
        free_path(Path("taken"), "toy")
    with pytest.raises(RunFolderError, match="is a file"):
        free_path(Path("taken/file"), "toy")
