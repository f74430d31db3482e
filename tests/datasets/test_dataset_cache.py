from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import platformdirs
import pytest

from polymix.datasets import (
    DATASETS,
    AvMnist,
    Demo,
    cache_folder,
    list_datasets,
    open_built,
    open_dataset,
)
from polymix.errors import DataError, MissingExtraError, PolymixWarning, UsageError

from .conftest import ROWS

SMALL = {"rows": (30, 10, 10)}


def test_the_cache_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("POLYMIX_CACHE")
    assert cache_folder() == Path(platformdirs.user_cache_dir("polymix"))


def test_the_list() -> None:
    assert [entry.name for entry in list_datasets()] == [
        "demo", "avmnist", "mimic", "mmimdb", "mosi", "mosei", "meld"
    ] == list(DATASETS)  # fmt: skip
    assert [entry.needs_raw for entry in list_datasets()] == [False] + [True] * 6
    assert not any(entry.built for entry in list_datasets())
    open_dataset("demo", options=SMALL)
    assert [entry.built for entry in list_datasets()] == [True] + [False] * 6
    assert all(entry.summary and entry.modalities for entry in list_datasets())


def test_a_second_opening_builds_nothing() -> None:
    steps: list[object] = []
    progress = lambda *step: steps.append(step)  # noqa: E731
    first = open_dataset("demo", options=SMALL, progress=progress)
    assert steps
    steps.clear()
    second = open_dataset("demo", options=SMALL, progress=progress)
    assert not steps
    assert first.path == second.path
    assert first.fingerprint == second.fingerprint
    assert open_dataset("demo", seed=1, options=SMALL).path != first.path


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="did you mean 'avmnist'"):
        open_dataset("av-mnist")
    with pytest.raises(UsageError, match="did you mean 'snr_db'"):
        open_dataset("avmnist", options={"snr": 3})


def test_raw_files_decide_by_content(tiny_raw: Path) -> None:
    builder = AvMnist(rows=ROWS)
    first = open_built(builder, tiny_raw)
    for path in tiny_raw.rglob("*"):
        os.utime(path, (1, 1))
    moved = tiny_raw.rename(tiny_raw.with_name("moved"))
    assert open_built(builder, moved).path == first.path
    # Another content of the same size and date.
    noise = moved / "noise" / "hiss.wav"
    content = bytearray(noise.read_bytes())
    content[-100:] = bytes(100)
    noise.write_bytes(content)
    os.utime(noise, (1, 1))
    changed = open_built(builder, moved)
    assert changed.path != first.path
    assert changed.fingerprint != first.fingerprint


def test_without_raw_the_newest_with_the_same_settings(tiny_raw: Path) -> None:
    builder = AvMnist(rows=ROWS)
    with pytest.raises(UsageError, match="polymix datasets build avmnist --raw DIR"):
        open_built(builder)
    first = open_built(builder, tiny_raw)
    assert open_built(builder).path == first.path
    (tiny_raw / "noise" / "hiss.wav").unlink()
    second = open_built(builder, tiny_raw)
    assert second.path is not None
    os.utime(second.path / "dataset.json", (2**31, 2**31))
    assert open_built(builder).path == second.path != first.path
    with pytest.raises(UsageError, match="--raw DIR"):
        open_built(AvMnist(rows=ROWS, snr_db=0))
    with pytest.raises(UsageError, match="--raw DIR"):
        open_built(AvMnist(rows=ROWS, seed=1))


def test_settings_that_are_equal_share_a_folder(tiny_raw: Path) -> None:
    one = open_dataset("avmnist", raw=tiny_raw, options={"rows": ROWS, "snr_db": -8})
    two = open_dataset("avmnist", raw=tiny_raw, options={"rows": list(ROWS), "workers": 1})
    assert one.path == two.path


def test_a_built_demo_opens_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Demo, raw: Path | None) -> str:
        raise MissingExtraError("not installed")

    first = open_dataset("demo", options=SMALL)
    monkeypatch.setattr(Demo, "fingerprint", absent)
    assert open_dataset("demo", options=SMALL).path == first.path
    with pytest.raises(MissingExtraError):
        open_dataset("demo", seed=5, options=SMALL)


def test_a_broken_folder_is_built_again() -> None:
    path = open_dataset("demo", options=SMALL).path
    assert path is not None
    whole = (path / "audio.npy").read_bytes()
    (path / "audio.npy").write_bytes(b"x")
    with pytest.warns(PolymixWarning, match=r"audio\.npy is not what was written.* built again"):
        assert open_dataset("demo", options=SMALL).path == path
    assert (path / "audio.npy").read_bytes() == whole


def test_a_broken_folder_without_its_raw_files_names_the_cure(tiny_raw: Path) -> None:
    options = {"rows": ROWS}
    path = open_dataset("avmnist", raw=tiny_raw, options=options).path
    assert path is not None
    (path / "audio.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="to have it built again"):
        open_dataset("avmnist", options=options)


def test_bad_raw_files_leave_no_folder(tiny_raw: Path, cache: Path) -> None:
    (tiny_raw / "noise" / "bad.wav").write_text("x")
    with pytest.raises(DataError, match=r"bad\.wav"):
        open_dataset("avmnist", raw=tiny_raw, options={"rows": ROWS})
    assert [p.name for p in cache.iterdir()] == [".locks"]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set POLYMIX_CACHE"):
        open_dataset("demo", options=SMALL)


def test_what_a_killed_build_left_is_no_dataset_and_is_swept(cache: Path) -> None:
    script = (
        "import time\n"
        "from polymix.datasets import open_dataset\n"
        "def wait(done, total, what):\n"
        "    if what == 'making rows':\n"
        "        print('now', flush=True); time.sleep(60)\n"
        "open_dataset('demo', options={'rows': (30, 10, 10)}, progress=wait)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    assert len(list((cache / "demo").iterdir())) == 1
    assert not any(entry.built for entry in list_datasets())
    dataset = open_dataset("demo", options=SMALL)
    assert list((cache / "demo").iterdir()) == [dataset.path]


def test_two_at_once_build_it_once(cache: Path) -> None:
    script = (
        "from polymix.datasets import open_dataset\n"
        "steps = []\n"
        "note = lambda *step: steps.append(step)\n"
        "d = open_dataset('demo', options={'rows': (30, 10, 10)}, progress=note)\n"
        "print(d.fingerprint, bool(steps))\n"
    )
    start = time.monotonic()
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0].split() for process in processes]
    assert answers[0][0] == answers[1][0]
    assert sorted(answer[1] for answer in answers) == ["False", "True"]
    assert len(list((cache / "demo").iterdir())) == 1
    assert time.monotonic() - start < 60


def test_datasets_know_no_torch() -> None:
    script = "import sys, polymix.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
