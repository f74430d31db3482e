"""Raw folders: the real one, read in place, and tiny ones made of nothing."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Raw = Callable[..., Path]
ROWS = (40, 20, 20)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("POLYMIX_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def real_raw() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "avmnist_raw"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def wav(wave: np.ndarray, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format="WAV", subtype="PCM_16")
    return out.getvalue()


def spoken(digit: int, number: int) -> np.ndarray:
    """A tone per digit, a length per number, so that each sound tells what it is."""
    time = np.arange(1500 + 100 * number) / 8000
    return 0.5 * np.sin(2 * np.pi * (300 + 300 * digit) * time)


def write_raw(folder: Path, train: int = 80, test: int = 30) -> Path:
    rng = np.random.default_rng(0)
    (folder / "mnist").mkdir(parents=True)
    for half, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 80, (count, 28, 28)) + 10 * labels[:, None, None]
        # Each image can be told from its first pixels.
        images[:, 0, 0], images[:, 0, 1] = np.arange(count), labels
        files = {f"{half}-images-idx3-ubyte.gz": images, f"{half}-labels-idx1-ubyte.gz": labels}
        for name, array in files.items():
            (folder / "mnist" / name).write_bytes(gzip.compress(idx(array)))
    with zipfile.ZipFile(folder / "fsdd.zip", "w") as archive:
        for digit in range(10):
            for number in (0, 1, 7, 40, 49):
                name = f"free-spoken-digit-dataset-master/recordings/{digit}_ann_{number}.wav"
                archive.writestr(name, wav(spoken(digit, number)))
        archive.writestr("../../escaped.wav", b"never written")
        archive.writestr("README.md", b"not a recording")
    (folder / "noise").mkdir()
    (folder / "noise" / "hiss.wav").write_bytes(wav(0.1 * rng.standard_normal(30_000)))
    stereo = 0.1 * rng.standard_normal((9_000, 2))
    (folder / "noise" / "short.wav").write_bytes(wav(stereo, 16_000))
    return folder


@pytest.fixture
def tiny_raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw")
