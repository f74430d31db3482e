"""A dataset that the cache holds is opened without its raw files being read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from polymix.datasets import Demo, cache_folder, open_dataset
from polymix.datasets.cache import find_built, open_built
from polymix.errors import DataError, UsageError


class Broken(Demo):
    """Fails as builders do."""

    NAME = "broken"
    failing: OSError

    def fingerprint(self, raw):
        return "0" * 16

    def build(self, path, raw, progress=None):
        raise self.failing


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))


def test_it_is_found_by_its_bytes(monkeypatch):
    options = {"rows": (60, 20, 20)}
    built = open_dataset("demo", options=options)
    hashed = []
    monkeypatch.setattr(Demo, "fingerprint", lambda self, raw: hashed.append(raw))
    found = open_dataset("demo", options=options, fingerprint=built.fingerprint)
    assert (found.path, found.fingerprint) == (built.path, built.fingerprint)
    assert hashed == []
    assert find_built(Demo(rows=(60, 20, 20)), "0" * 16) is None
    (built.path / "dataset.json").write_text("{")
    assert find_built(Demo(rows=(60, 20, 20)), built.fingerprint) is None


def test_a_raw_file_that_cannot_be_read_is_not_the_caches_fault(tmp_path):
    Broken.failing = PermissionError(13, "Permission denied", str(tmp_path / "raw.csv"))
    with pytest.raises(DataError, match=r"raw\.csv cannot be read: Permission denied"):
        open_built(Broken(), tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_is(tmp_path, named):
    name = str(cache_folder() / "broken" / "x.npy")
    Broken.failing = OSError(28, "No space left on device", *([name] if named else []))
    with pytest.raises(UsageError, match=r"the cache folder .* cannot be written"):
        open_built(Broken(), Path())
    assert not (cache_folder() / "broken").exists()
