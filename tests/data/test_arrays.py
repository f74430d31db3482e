"""Room is taken before an array is mapped: one that outgrew its disk would kill the process."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from polymix.data.arrays import create_array
from polymix.data.dataset import DatasetWriter
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.errors import DataError


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_array_has_all_its_room_and_holds_zeros(tmp_path: Path) -> None:
    array = create_array(tmp_path / "x.npy", "float32", (1000, 50))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= array.nbytes
    assert not array.any()
    array[3] = 7
    array.flush()
    assert (np.load(tmp_path / "x.npy")[3] == 7).all()


@pytest.mark.parametrize("asked", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_where_a_file_system_cannot_be_asked_zeros_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(asked, "no")

    if asked is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    array = create_array(tmp_path / "x.npy", "float64", (300, 1000))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= array.nbytes
    assert not np.load(tmp_path / "x.npy").any()


def test_what_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    with files_no_larger_than(100_000), pytest.raises(OSError, match="File too large"):
        create_array(tmp_path / "x.npy", "float64", (100, 1000))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    """A real one of 400 kB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this process may not mount a disk")
    try:
        kind = Modality(name="x", kind=Kind.TABULAR, shape=(1000,), dtype="float32")
        schema = Schema(modalities=(kind,), target=Target(name="y", task=Task.REGRESSION))
        (disk / "other").write_bytes(bytes(200_000))
        with pytest.raises(DataError, match="free some"):
            DatasetWriter(disk / "toy", "toy", schema, 80)
        # The disk says that there is room, and others take it meanwhile.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _: _Usage(10**9))
            with pytest.raises(DataError, match=r"could not have them \(No space left on device"):
                DatasetWriter(disk / "toy", "toy", schema, 80)
        assert [p.name for p in disk.iterdir()] == ["other"]
        with DatasetWriter(disk / "toy", "toy", schema, 20) as writer:
            writer.codes[:] = np.arange(20) % 3
            writer.targets[:] = np.arange(20)
        assert (disk / "toy" / "dataset.json").is_file()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free
