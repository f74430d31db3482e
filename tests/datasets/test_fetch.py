from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymix.cli import run
from polymix.datasets import download
from polymix.datasets.avmnist import fetch as avmnist_files
from polymix.datasets.avmnist.fetch import (
    FSDD,
    MNIST_SHA256,
    check_noise,
    check_speech,
    fetch_avmnist,
    unpack_noise,
)
from polymix.datasets.avmnist.raw import locate
from polymix.datasets.fetch import RemoteFile, fetch_files
from polymix.errors import DataError, MissingExtraError, PolymixError

from .server import Site, serving

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "deep/a.bin"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/a.bin": CONTENT})) as site:
        yield site


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CHUNK", 1 << 14)


def remote(site: Site, *paths: str, sha256: str | None = SHA256, **more: Any) -> RemoteFile:
    return RemoteFile(NAME, tuple(site.url + path for path in paths or ("/a.bin",)), sha256, **more)


def fetch(site: Site, folder: Path, *paths: str, **more: Any) -> list[tuple[int, int, str]]:
    steps: list[tuple[int, int, str]] = []
    fetch_files(
        [remote(site, *paths)],
        folder,
        more.pop("progress", lambda *step: steps.append(step)),
        lambda seconds: None,
    )
    return steps


def whole(folder: Path) -> bool:
    """Whether the file is there, whole, with nothing beside it; never half of it."""
    path = folder / NAME
    if not path.exists():
        return False
    assert path.read_bytes() == CONTENT
    assert not list(folder.rglob("*.part"))
    return True


def test_a_file_arrives(site: Site, tmp_path: Path) -> None:
    steps = fetch(site, tmp_path)
    assert whole(tmp_path)
    assert steps[0] == (0, len(CONTENT), NAME)
    assert steps[-1] == (len(CONTENT), len(CONTENT), NAME)
    assert [done for done, *_ in steps] == sorted(done for done, *_ in steps)
    assert not fetch(site, tmp_path)  # it is there
    assert len(site.asked) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_cut_connections_are_taken_up(site: Site, tmp_path: Path, chunked: bool) -> None:
    site.cuts, site.chunked = [300_000, 100_000, 0, 50_000], chunked
    fetch(site, tmp_path)
    assert whole(tmp_path)
    assert site.asked == [
        None, "bytes=300000-", "bytes=400000-", "bytes=400000-", "bytes=450000-"
    ]  # fmt: skip


@pytest.mark.parametrize("etag", ['"v1"', "", 'W/"v1"'])
def test_a_server_that_ignores_range_starts_anew(site: Site, tmp_path: Path, etag: str) -> None:
    site.cuts, site.ranges, site.etag = [300_000, 100_000], False, etag
    fetch(site, tmp_path)
    assert whole(tmp_path)
    assert (site.asked[1] is None) == (etag != '"v1"')


def test_two_versions_are_never_joined(site: Site, tmp_path: Path) -> None:
    site.files["/a.bin"] = b"x" * len(CONTENT)
    site.cuts = [300_000]

    def change(site: Site) -> None:
        if len(site.asked) == 2:
            site.files["/a.bin"], site.etag = CONTENT, '"v2"'

    site.before = change
    fetch(site, tmp_path)
    assert whole(tmp_path)


def test_nor_where_if_range_is_ignored(site: Site, tmp_path: Path) -> None:
    test_server = site
    test_server.if_range = False
    test_two_versions_are_never_joined(site, tmp_path)
    assert site.asked == [None, "bytes=300000-", None]


def test_a_range_that_is_not_the_one_asked_for(site: Site, tmp_path: Path) -> None:
    site.cuts = [300_000]
    site.files["/a.bin"] = CONTENT[:200_000]
    site.cuts = [150_000]

    def shrink(site: Site) -> None:
        if len(site.asked) == 2:  # the same tag, and fewer bytes than have arrived
            site.files["/a.bin"] = CONTENT[:1000]
        if len(site.asked) == 3:
            site.files["/a.bin"] = CONTENT

    site.before = shrink
    fetch(site, tmp_path)
    assert whole(tmp_path)


def test_wrong_bytes_are_named_and_removed(site: Site, tmp_path: Path) -> None:
    site.files["/a.bin"] = wrong = CONTENT[:-1] + b"x"
    with pytest.raises(DataError) as caught:
        fetch(site, tmp_path)
    said = str(caught.value)
    assert str(tmp_path / NAME) in said
    assert ".part" not in said
    assert SHA256 in said
    assert hashlib.sha256(wrong).hexdigest() in said
    assert not list(tmp_path.rglob("*a.bin*"))


def test_a_length_that_is_too_short(site: Site, tmp_path: Path) -> None:
    site.length = lambda true: true // 2
    with pytest.raises(DataError, match=f"sha256 {SHA256} expected"):
        fetch(site, tmp_path)
    assert not list(tmp_path.rglob("*a.bin*"))


def test_a_length_that_is_too_long(site: Site, tmp_path: Path) -> None:
    site.length, site.ranges = lambda true: true + 1000, False
    with pytest.raises(DataError, match=r"1000 more expected.*; gave up after 6 attempts"):
        fetch(site, tmp_path)
    assert not whole(tmp_path)
    site.ranges = True  # now the server says that nothing is left
    fetch(site, tmp_path)
    assert whole(tmp_path)


def test_a_file_that_is_nowhere(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(site, tmp_path, "/b.bin", "/c.bin")
    assert len(caught.value.problems) == 2
    for problem, name in zip(caught.value.problems, ("/b.bin", "/c.bin"), strict=True):
        assert "404" in problem
        assert name in problem
        assert NAME in problem
    assert len(site.asked) == 2  # what is not there is not asked for again


def test_another_place_is_tried(site: Site, tmp_path: Path) -> None:
    site.files["/wrong.bin"] = b"wrong"
    fetch(site, tmp_path, "/nowhere.bin", "/wrong.bin", "/a.bin")
    assert whole(tmp_path)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path, status: int) -> None:
    site.statuses = [status] * 5
    waits: list[float] = []
    fetch_files([remote(site)], tmp_path, sleep=waits.append)
    assert whole(tmp_path)
    assert waits == [1, 2, 4, 8, 16]
    site.statuses = [status] * 6
    with pytest.raises(DataError, match=f"{status}.* gave up after 6 attempts"):
        fetch(site, tmp_path / "other")


def test_nobody_answers(tmp_path: Path) -> None:
    with serving(Site({})) as site:
        pass
    with pytest.raises(DataError, match="gave up after 6 attempts"):
        fetch(site, tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        fetch_files([RemoteFile("x", ("nowhere",), SHA256)], tmp_path)


@pytest.mark.usefixtures("small")
def test_stopped_by_hand_and_taken_up(site: Site, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site, tmp_path, progress=stop)
    left = {path.name for path in (tmp_path / "deep").iterdir()}
    assert left == {"a.bin.part", "a.bin.etag.part"}
    steps = fetch(site, tmp_path)
    assert steps[0][0] > 500_000
    assert whole(tmp_path)


@pytest.mark.usefixtures("small")
def test_a_part_of_another_version_or_place_starts_anew(site: Site, tmp_path: Path) -> None:
    site.files["/b.bin"] = CONTENT
    for change in ("tag", "place", "no note", "a broken note"):
        folder = tmp_path / change
        with pytest.raises(KeyboardInterrupt):
            fetch(site, folder, progress=_stop_at(300_000))
        note = folder / "deep" / "a.bin.etag.part"
        place = "/b.bin" if change == "place" else "/a.bin"
        if change == "tag":
            site.etag = '"v2"'
        elif change == "no note":
            note.unlink()
        elif change == "a broken note":
            note.write_text("[1")
        assert fetch(site, folder, place)[0][0] == 0, change
        assert whole(folder)


def test_a_part_that_was_whole_already(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "deep" / "a.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    note = {"url": site.url + "/a.bin", "validator": '"v1"'}
    download.note_of(part).write_text(json.dumps(note))
    fetch(site, tmp_path)
    assert whole(tmp_path)
    assert site.asked == [f"bytes={len(CONTENT)}-"]


def _stop_at(limit: int) -> Callable[[int, int, str], None]:
    def stop(done: int, total: int, what: str) -> None:
        if done > limit:
            raise KeyboardInterrupt

    return stop


@pytest.mark.usefixtures("small")
def test_a_full_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = download.write_all, 0

    def full(file: Any, chunk: bytes) -> None:
        nonlocal written
        written += len(chunk)
        if written > 400_000:
            file.write(chunk[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, chunk)

    site.files["/b.bin"] = CONTENT
    monkeypatch.setattr(download, "write_all", full)
    with pytest.raises(DataError, match=r"No space left on device.*make room") as caught:
        fetch(site, tmp_path, "/a.bin", "/b.bin")
    assert len(caught.value.problems) == 1  # another place would not help
    assert not whole(tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert fetch(site, tmp_path)[0][0] > 300_000
    assert whole(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_that_is_truly_full(site: Site, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left on device"):
        fetch(site, tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_folder_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file cannot be written"):
        fetch(site, tmp_path / "file")
    (tmp_path / "deep").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        fetch(site, tmp_path)


def test_what_lies_under_the_name_is_never_overwritten(site: Site, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(DataError, match=r"a\.bin: sha256 .* move it elsewhere"):
        fetch(site, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"mine"
    assert not site.asked


def test_one_fetch_at_a_time(site: Site, tmp_path: Path) -> None:
    def again(done: int, total: int, what: str) -> None:
        with pytest.raises(DataError, match="another process"):
            fetch(site, tmp_path)

    fetch(site, tmp_path, progress=again)
    assert whole(tmp_path)


@pytest.mark.parametrize("path", ["../x", "/x", "", "a/../../x"])
def test_paths_stay_in_the_folder(path: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        RemoteFile(path, (), SHA256)
    with pytest.raises(ValueError, match="neither a checksum nor a check"):
        RemoteFile("x", ())


def test_without_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(MissingExtraError, match=r'pip install "polymix\[fetch\]"'):
        fetch_avmnist(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_requests_is_imported_by_a_fetch_alone() -> None:
    script = "import sys, polymix.datasets.fetchable; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_happens_a_file_under_its_name_is_right(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with serving(Site({"/a.bin": CONTENT})) as site:
        for _ in range(3):
            site.cuts = data.draw(st.lists(st.integers(0, 1_100_000), max_size=4))
            site.statuses = data.draw(st.lists(st.sampled_from([200, 500, 404, 403]), max_size=3))
            site.ranges, site.if_range = data.draw(st.booleans()), data.draw(st.booleans())
            site.chunked = data.draw(st.booleans())
            site.etag = data.draw(st.sampled_from(['"v1"', '"v2"', "", 'W/"v1"']))
            wrong = b"x" * data.draw(st.sampled_from([0, 5, len(CONTENT)]))
            site.files["/a.bin"] = data.draw(st.sampled_from([CONTENT, wrong]))
            added = data.draw(st.sampled_from([-10, 0, 10]))
            site.length = lambda true, added=added: max(0, true + added)  # type: ignore[misc]
            stop = data.draw(st.sampled_from([400_000, 10**9]))
            try:
                fetch(site, folder, progress=_stop_at(stop))
            except (PolymixError, KeyboardInterrupt):
                whole(folder)
            else:
                assert whole(folder)
        site.cuts, site.statuses, site.ranges, site.chunked = [], [], True, False
        site.etag, site.files["/a.bin"], site.length = '"v3"', CONTENT, lambda true: true
        fetch(site, folder)
        assert whole(folder)


# AV-MNIST's own files.


def zipped(names: Iterator[str] | list[str], content: bytes = b"RIFF") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return out.getvalue()


SPEECH = [
    f"free-spoken-digit-dataset-1.0.10/recordings/{digit}_{who}_{k}.wav"
    for digit in range(10)
    for who in ("ann", "bob", "cas", "dan", "eve", "flo")
    for k in range(50)
]
NOISE = [f"ESC-50-master/audio/{k % 5 + 1}-{1000 + k}-A-{k % 50}.wav" for k in range(2000)]


def test_all_of_avmnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist = {f"/mnist/{name}": name.encode() for name in MNIST_SHA256}
    noise = zipped([*NOISE, "ESC-50-master/meta/esc50.csv", "../../1-2-A-3.txt"])
    site = Site({**mnist, "/fsdd.zip": zipped(SPEECH), "/esc50.zip": noise})
    with serving(site):
        sums = {path: hashlib.sha256(content).hexdigest() for path, content in mnist.items()}
        files = tuple(RemoteFile(p[1:], (site.url + p,), sums[p]) for p in mnist)
        fsdd = RemoteFile("fsdd.zip", (site.url + "/fsdd.zip",), check=check_speech)
        esc50 = RemoteFile("esc50.zip", (site.url + "/esc50.zip",), check=check_noise)
        monkeypatch.setattr(avmnist_files, "MNIST", files)
        monkeypatch.setattr(avmnist_files, "FSDD", fsdd)
        monkeypatch.setattr(avmnist_files, "ESC50", esc50)
        raw = tmp_path / "raw"
        with pytest.raises(KeyboardInterrupt):
            fetch_avmnist(raw, _stop_in("unpacking noise", 1000))
        assert not (raw / "noise" / "esc-50").exists()
        assert not any(path.is_file() for path in (raw / "noise").rglob("*"))
        assert len(site.asked) == 6
        assert run(["datasets", "fetch", "avmnist", "--to", str(raw)]) == 0
        assert run(["datasets", "fetch", "avmnist", "--to", str(raw)]) == 0
    assert len(site.asked) == 6
    found = locate(raw)
    assert len(found.noise) == 2000
    assert found.speech == raw / "fsdd.zip"
    assert {path.name for path in raw.iterdir()} <= {"mnist", "fsdd.zip", "noise", ".fetch.lock"}
    outside = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(raw) for path in outside)


def _stop_in(step: str, at: int) -> Callable[[int, int, str], None]:
    def stop(done: int, total: int, what: str) -> None:
        if what == step and done == at:
            raise KeyboardInterrupt

    return stop


FLAWS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda content: content[:-100], "not a whole zip file"),
    "a page": (lambda content: b"<html>", "not a whole zip file"),
    "a flipped byte": (lambda content: content.replace(b"RIFF", b"RIFX", 1), "is damaged"),
    "one too few": (lambda content: zipped(SPEECH[1:]), "3000 recordings.* got 2999"),
    "one twice": (lambda content: zipped([*SPEECH[1:], "x/" + SPEECH[5]]), "got 2999"),
    "another digit": (lambda content: zipped([*SPEECH[1:], "9_guy_3.wav"]), "as many of each"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_has_no_checksum_is_looked_into(flaw: str, tmp_path: Path) -> None:
    damage, says = FLAWS[flaw]
    path = tmp_path / "fsdd.zip"
    path.write_bytes(zipped(SPEECH))
    check_speech(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=says):
        check_speech(path)


def test_too_few_noises_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "esc50.zip"
    path.write_bytes(zipped(NOISE[1:]))
    with pytest.raises(DataError, match="2000 recordings expected, but got 1999"):
        check_noise(path)

    def full(source: object, copy: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(DataError, match="No space left"):
        unpack_noise(path, tmp_path / "noise")
    assert {p.name for p in tmp_path.iterdir()} == {"esc50.zip"}


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avmnist_files, "LARGEST", 1000)
    (tmp_path / "fsdd.zip").write_bytes(zipped(SPEECH))
    with pytest.raises(DataError, match="too much"):
        FSDD.verify(tmp_path / "fsdd.zip")


def test_the_real_recordings_pass(real_raw: Path) -> None:
    check_speech(real_raw / "fsdd.zip")


@pytest.mark.parametrize(
    ("name", "says"),
    [("mimic", "credentialed"), ("mmimdb", "hdf5"), ("demo", "installed"), ("avmnst", "avmnist")],
)
def test_what_is_not_fetched(name: str, says: str, tmp_path: Path, capsys: Any) -> None:
    assert run(["datasets", "fetch", name, "--to", str(tmp_path / "raw")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()
