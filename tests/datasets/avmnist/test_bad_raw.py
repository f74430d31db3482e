from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datasets.conftest import ROWS, idx, spoken, wav, write_raw
from polymix.data.dataset import Dataset
from polymix.datasets.avmnist.builder import AvMnist
from polymix.errors import DataError, UsageError

TRAIN_IMAGES = "mnist/train-images-idx3-ubyte.gz"
TRAIN_LABELS = "mnist/train-labels-idx1-ubyte.gz"


def zip_without(raw: Path, leave_out: Callable[[str], bool], **extra: bytes) -> None:
    source = raw / "fsdd.zip"
    with zipfile.ZipFile(source) as archive:
        kept = {n: archive.read(n) for n in archive.namelist() if not leave_out(n)}
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in {**kept, **extra}.items():
            archive.writestr(name, content)


def break_zip_member(raw: Path) -> None:
    path = raw / "fsdd.zip"
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "truncated gz": (
        lambda raw: (raw / TRAIN_IMAGES).write_bytes((raw / TRAIN_IMAGES).read_bytes()[:-500]),
        ("train-images-idx3-ubyte.gz", "cut short", "download it again"),
    ),
    "wrong magic": (
        lambda raw: (raw / TRAIN_IMAGES).write_bytes((raw / TRAIN_LABELS).read_bytes()),
        ("train-images-idx3-ubyte.gz", "00 00 08 01", "00 00 08 03"),
    ),
    "not gz": (
        lambda raw: (raw / TRAIN_LABELS).write_bytes(b"<html>not found</html>"),
        ("train-labels-idx1-ubyte.gz", "3c 68 74 6d"),
    ),
    "sizes disagree": (
        lambda raw: (raw / TRAIN_LABELS).write_bytes(gzip.compress(idx(np.zeros(79)))),
        ("80 images", "79 labels", "train-images", "train-labels"),
    ),
    "labels out of range": (
        lambda raw: (raw / TRAIN_LABELS).write_bytes(gzip.compress(idx(np.full(80, 11)))),
        ("the label 11, not 0-9",),
    ),
    "not 28 x 28": (
        lambda raw: (raw / TRAIN_IMAGES).write_bytes(gzip.compress(idx(np.ones((80, 9, 9))))),
        ("(9, 9)", "28 x 28"),
    ),
    "too few images": (
        lambda raw: [
            (raw / TRAIN_IMAGES).write_bytes(gzip.compress(idx(np.ones((5, 28, 28))))),
            (raw / TRAIN_LABELS).write_bytes(gzip.compress(idx(np.arange(5)))),
        ],
        ("60 training and validation rows are wanted", "hold 5 images"),
    ),
    "no zip": (
        lambda raw: (raw / "fsdd.zip").write_bytes(b"not a zip file"),
        ("fsdd.zip", "cannot be read as a zip file", "download it again"),
    ),
    "a recording that is no sound": (
        lambda raw: zip_without(raw, lambda n: False, **{"recordings/3_bob_5.wav": b"text"}),
        ("fsdd.zip: recordings/3_bob_5.wav", "cannot be read as sound"),
    ),
    "a damaged member": (break_zip_member, ("fsdd.zip: ", ".wav", "cannot be read")),
    "a silent recording": (
        lambda raw: zip_without(
            raw, lambda n: False, **{"recordings/3_bob_5.wav": wav(np.zeros(900))}
        ),
        ("recordings/3_bob_5.wav is silent",),
    ),
    "a digit without recordings": (
        lambda raw: zip_without(raw, lambda n: "/7_" in n),
        ("no recording numbered other than 40-49 of 7", "no recording numbered 40-49 of 7"),
    ),
    "no recording for test": (
        lambda raw: zip_without(raw, lambda n: "_4" in n and "/2_" in n),
        ("no recording numbered 40-49 of 2",),
    ),
    "a noise file that is no sound": (
        lambda raw: (raw / "noise" / "notes.txt").write_text("recorded in the garden"),
        ("notes.txt", "cannot be read as sound", "move it elsewhere"),
    ),
    "an empty noise file": (
        lambda raw: (raw / "noise" / "empty.wav").write_bytes(wav(np.zeros(0))),
        ("empty.wav holds no sound",),
    ),
    "silent noise": (
        lambda raw: (raw / "noise" / "mute.wav").write_bytes(wav(np.zeros(20_000))),
        ("mute.wav is silent",),
    ),
    "noise that is not finite": (
        lambda raw: soundfile.write(
            raw / "noise" / "nan.wav", np.full(9000, np.nan), 8000, subtype="FLOAT"
        ),
        ("nan.wav holds values that are not finite",),
    ),
    "an empty noise folder": (
        lambda raw: [path.unlink() for path in (raw / "noise").iterdir()],
        ("noise holds no files", "put recordings"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_clear_error_and_leaves_nothing(tiny_raw: Path, fault: str) -> None:
    damage, says = FAULTS[fault]
    damage(tiny_raw)
    out = tiny_raw.parent / "out"
    out.mkdir()
    with pytest.raises(DataError) as caught:
        AvMnist(rows=ROWS).build(out / "d", tiny_raw)
    for words in says:
        assert words in str(caught.value)
    assert not list(out.iterdir())


def test_all_that_is_missing_is_listed_at_once(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError) as caught:
        AvMnist().fingerprint(tmp_path / "raw")
    assert len(caught.value.problems) == 6
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels", "fsdd.zip", "noise"):
        assert sum(name in problem for problem in caught.value.problems) == 1


def test_all_that_is_broken_is_listed_at_once(tiny_raw: Path, tmp_path: Path) -> None:
    for fault in ("not gz", "wrong magic", "no zip", "silent noise", "an empty noise file"):
        FAULTS[fault][0](tiny_raw)
    with pytest.raises(DataError) as caught:
        AvMnist(rows=ROWS).build(tmp_path / "d", tiny_raw)
    assert len(caught.value.problems) == 5


def test_many_broken_recordings_are_shortened(tiny_raw: Path, tmp_path: Path) -> None:
    broken = {f"recordings/1_bob_{k}.wav": b"x" for k in range(200)}
    zip_without(tiny_raw, lambda n: False, **broken)
    with pytest.raises(DataError, match="and 180 more like these"):
        AvMnist(rows=ROWS).build(tmp_path / "d", tiny_raw)


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_raw_folder_that_is_none(tmp_path: Path, kind: str) -> None:
    raw = tmp_path / "raw"
    if kind == "a file":
        raw.write_text("x")
    with pytest.raises(DataError, match=f"--raw {raw} "):
        AvMnist().build(tmp_path / "d", raw)


def test_no_raw_folder_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--raw DIR"):
        AvMnist().build(tmp_path / "d", None)


def test_other_layouts_give_the_same_rows(tiny_raw: Path, tmp_path: Path) -> None:
    AvMnist(rows=ROWS).build(tmp_path / "one", tiny_raw)
    other = write_raw(tmp_path / "other")
    (other / "MNIST" / "raw").mkdir(parents=True)
    for path in (other / "mnist").iterdir():
        (other / "MNIST" / "raw" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    (other / "recordings").mkdir()
    with zipfile.ZipFile(other / "fsdd.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".wav") and "recordings" in name:
                (other / "recordings" / Path(name).name).write_bytes(archive.read(name))
    (other / "fsdd.zip").unlink()
    (other / "noise" / ".hidden").write_text("not looked at")
    AvMnist(rows=ROWS).build(tmp_path / "two", other)
    for name in ("image.npy", "audio.npy", "target.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_zip_members_never_reach_the_disk(tiny_raw: Path, tmp_path: Path) -> None:
    zip_without(tiny_raw, lambda n: False, **{"../../5_eve_3.wav": wav(spoken(5, 3))})
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    AvMnist(rows=ROWS).build(tmp_path / "d", tiny_raw)
    after = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert {p.parent for p in after - before} == {tmp_path / "d"}


def test_noise_of_any_length_is_used(tiny_raw: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for path in (tiny_raw / "noise").iterdir():
        path.unlink()
    (tiny_raw / "noise" / "click.wav").write_bytes(wav(0.5 * rng.uniform(0.5, 1, 40)))
    AvMnist(rows=ROWS).build(tmp_path / "d", tiny_raw)
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.present.all()
    assert (dataset.arrays["audio"].reshape(len(dataset), -1).std(1) > 0).all()


def test_a_failure_in_the_midst_leaves_nothing(tiny_raw: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if what == "mixing sounds":
            raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        AvMnist(rows=ROWS).build(out / "d", tiny_raw, stop)
    assert not list(out.iterdir())
