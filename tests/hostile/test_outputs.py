"""Outputs that are no plain file, streams that are lost, runs that start at once."""

from __future__ import annotations

import itertools
import os
import random
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymix.cli import run as polymix
from polymix.errors import UsageError, printable
from polymix.runs.paths import folder_name, free_path, reserved
from polymix.runs.predictions import csv_text
from polymix.store import outputs
from polymix.store.outputs import check_output, write_output

from .cases import COMMANDS, OPTIONS, Victim

DATA = b"a,b\n" * 50_000
"""More than a pipe holds."""

KINDS = ("nothing", "file", "read-only file", "link", "chain of links", "dangling link",
         "link to nowhere", "loop", "folder", "link to a folder", "pipe", "pipe nobody reads",
         "link to a pipe", "null", "link to null", "full", "socket", "disk", "no folder",
         "in a file", "long name", "too long a name", "nul", "trailing slash", "dots", "odd name",
         "not utf-8", "open file")  # fmt: skip
WRITTEN = {"nothing", "file", "read-only file", "link", "chain of links", "dangling link", "pipe",
           "link to a pipe", "null", "link to null", "long name", "odd name", "not utf-8",
           "open file"}  # fmt: skip


def make(kind: str, there: Path) -> tuple[Path, Path | None]:
    """A path of a kind, and where what is written to it is read; none where it is refused."""
    out = there / "out.csv"
    target = there / "deep" / "target.csv"
    target.parent.mkdir()
    match kind:
        case "file" | "read-only file" | "link" | "chain of links" | "open file":
            target.write_text("old")
            target.chmod(0o400 if kind == "read-only file" else 0o640)
            if kind == "chain of links":
                (there / "middle").symlink_to(target)
            out = target if "link" not in kind else out
            if "link" in kind:
                out.symlink_to("middle" if "chain" in kind else target)
        case "dangling link":
            out.symlink_to(target)
        case "link to nowhere":
            out.symlink_to(there / "no" / "where")
            return out, None
        case "loop":
            out.symlink_to("back")
            (there / "back").symlink_to("out.csv")
        case "folder" | "trailing slash":
            out.mkdir()
        case "link to a folder":
            out.symlink_to(target.parent)
        case "pipe" | "pipe nobody reads" | "link to a pipe":
            os.mkfifo(target)
            out.symlink_to(target)
            out = out if "link" in kind else target
        case "null" | "full":
            return Path(f"/dev/{kind}"), None
        case "link to null":
            out.symlink_to("/dev/null")
            return out, None
        case "socket":
            before = Path.cwd()
            os.chdir(there)
            with socket.socket(socket.AF_UNIX) as made:
                made.bind("out.csv")
            os.chdir(before)
        case "disk":
            os.mknod(out, 0o600 | stat.S_IFBLK, os.makedev(259, 99))
        case "no folder":
            return there / "no" / "out.csv", None
        case "in a file":
            target.touch()
            return target / "out.csv", None
        case "long name":
            out = there / ("x" * 251 + ".csv")
        case "too long a name":
            out = there / ("x" * 300)
        case "nul":
            return Path(f"{there}/a\0b"), None
        case "dots":
            return there / "..", None
        case "odd name":
            out = there / "a\nb\x1b[31m [red] 日.csv"
        case "not utf-8":
            out = there / os.fsdecode(b"a\xff.csv")
    return out, target if kind in ("link", "chain of links", "dangling link") else out


def kinds_of(there: Path) -> dict[str, tuple[int, str]]:
    """What lies in a folder: its type, and where links lead."""
    found = {}
    for path in sorted(there.rglob("*")):
        mode = path.lstat().st_mode
        leads = str(path.readlink()) if stat.S_ISLNK(mode) else ""
        found[str(path)] = (stat.S_IFMT(mode), leads)
    return found


def attempt(kind: str, there: Path, data: bytes = DATA) -> str:
    """Write to a path of a kind; `written` or `refused`, and nothing became of another kind."""
    try:
        out, read = make(kind, there)
    except (PermissionError, OSError) as error:
        if kind in ("disk", "not utf-8"):
            pytest.skip(f"no such thing here: {error}")
        raise
    before, got = kinds_of(there), []
    reader, refusal = None, ()
    if kind in ("pipe", "link to a pipe"):
        reader = threading.Thread(target=lambda: got.append(out.read_bytes()))
        reader.start()
    try:
        if kind == "trailing slash":
            out = Path(f"{out}/")
        check_output(out, "--out")
        write_output(out, data, "--out")
    except UsageError as error:
        refusal = error.problems
    finally:
        if reader is not None:
            reader.join(10)
    if refusal:
        assert len(refusal) == 1
        assert refusal[0].startswith("--out ")
        assert kinds_of(there) == before
        return "refused"
    after = kinds_of(there)
    assert {path: after[path] for path in before} == before
    assert not [path for path in after if path.endswith(".tmp")]
    if reader is not None:
        assert got == [data]
    elif read is not None:
        assert read.read_bytes() == data
    return "written"


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(outputs, "READER_S", 0.2)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_of_each_kind(kind, tmp_path, tally):
    found = attempt(kind, tmp_path)
    tally[found] += 1
    assert found == ("written" if kind in WRITTEN else "refused")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_outputs_of_many_sizes(seed, tmp_path, tally):
    rng = random.Random(seed)
    for kind in KINDS:
        there = tmp_path / kind.replace(" ", "-")
        there.mkdir()
        data = rng.randbytes(rng.choice([0, 1, 4095, 4096, 65_536, 65_537, 1_000_000]))
        if kind == "full" and not data:
            continue  # nothing fits anywhere
        found = attempt(kind, there, data)
        tally[found] += 1
        assert found == ("written" if kind in WRITTEN else "refused")


def test_a_file_keeps_its_mode(tmp_path):
    path = tmp_path / "out.csv"
    path.touch()
    for mode in (0o600, 0o644, 0o660):
        path.chmod(mode)
        write_output(path, b"x", "--out")
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("kind", ["link", "null", "folder", "pipe nobody reads", "loop", "full"])
def test_predictions_go_where_they_are_sent(kind, victim, tmp_path, capsys):
    out, read = make(kind, tmp_path)
    before = kinds_of(tmp_path)
    status = polymix(["predict", "run", "rows.csv", "--out", str(out)])
    said = capsys.readouterr().err
    assert kinds_of(tmp_path) == before
    assert status == (0 if kind in WRITTEN else 2)
    assert ("error: --out" in said) == (status == 2)
    if status == 0 and read is not None:
        assert len(pd.read_csv(read)) == 12
    victim.tally["refused" if status else "written"] += 1


def test_a_device_is_written_by_the_export_too(victim, capsys):
    pytest.importorskip("onnxscript")
    assert polymix(["export", "run", "--onnx", "/dev/full"]) == 2
    assert "--onnx /dev/full: No space left" in capsys.readouterr().err
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


# Streams, as a shell gives them.


def shell(command: str, place: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    polymix_here = f"{sys.executable} -m polymix"
    return subprocess.run(
        ["bash", "-c", command.replace("polymix", polymix_here, 1)],
        cwd=place, capture_output=True, timeout=120, check=False, env=os.environ | more,
    )  # fmt: skip


STREAMS = [
    ("polymix leaderboard run > /dev/full", 2, b"error: the standard output: No space left"),
    ("polymix predict run rows.csv > /dev/full", 2, b"error: the standard output: No space left"),
    ("polymix leaderboard run >&-", 0, b""),
    ("polymix leaderboard run 2>&-", 0, b""),
    ("polymix leaderboard run 2> /dev/full", 0, b""),
    ("polymix leaderboard nowhere 2> /dev/full", 2, b""),
    ("polymix leaderboard run <&- >&- 2>&-", 0, b""),
    ("polymix predict run rows.csv --json | head -c 5", 0, b""),
]


def lose(command: str, status: int, said: bytes, victim: Victim) -> None:
    ended = shell(command, victim.place)
    assert ended.returncode == status, ended.stderr
    assert ended.stderr.startswith(said)
    assert ended.stderr.count(b"\n") == bool(said)
    victim.tally["refused" if status else "survived"] += 1


def test_a_lost_stream_is_a_sentence(victim):
    lose(*STREAMS[0], victim)
    lose(*STREAMS[2], victim)


@pytest.mark.slow
@pytest.mark.parametrize("case", STREAMS)
def test_any_lost_stream_is_a_sentence(case, victim):
    lose(*case, victim)


ENCODINGS = ("ascii", "cp1252", "latin-1", "utf-8")


def test_a_pipe_of_few_characters(victim):
    ended = shell("polymix leaderboard run", victim.place, PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr
    assert b"0." in ended.stdout
    victim.tally["survived"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values())
@pytest.mark.parametrize("stream", [*ENCODINGS, "> /dev/full", ">&-", "2>&-", "2> /dev/full"])
def test_every_command_on_every_stream(command, stream, victim):
    plain = stream in ENCODINGS
    more = {"PYTHONIOENCODING": stream} if plain else {}
    ended = shell(f"polymix {' '.join(command)} {'' if plain else stream}", victim.place, **more)
    assert ended.returncode == (2 if stream == "> /dev/full" else 0), ended.stderr
    assert b"Traceback" not in ended.stderr + ended.stdout
    victim.tally["refused" if ended.returncode else "survived"] += 1


def test_searches_that_start_at_once_take_the_next_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken, start = [], threading.Barrier(8)

    def begin() -> None:
        start.wait()
        with reserved("toy") as path:
            (path / "description.json").touch()
            taken.append(path)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(taken)) == 8
    with reserved("toy") as path:
        assert path == Path("runs/toy-9")
    assert not path.exists()


@given(st.text(max_size=300))
def test_no_name_leads_out_of_the_runs(name):
    found = folder_name(name)
    assert found not in ("", ".", "..")
    assert Path(found).name == found
    assert free_path(None, found).parent == Path("runs")
    assert len(found.encode()) <= 150


# What is printed of people's data.

COMMANDING = ("\x1b[2J", "\x9b31m", "\r", "\b", "\x07", "\u202e", "\u2028", "\0")


@given(st.text())
def test_nothing_that_is_shown_commands_a_terminal(text):
    shown = printable(text)
    assert printable(shown) == shown
    assert not {*map(ord, shown)} & {*range(32), *range(127, 160), 0x202E, 0x2028}
    shown.encode()
    assert printable(text, lines=True).count("\n") == text.count("\n")


@pytest.mark.parametrize("odd", COMMANDING)
def test_names_of_columns_and_classes_reach_no_terminal_raw(odd, victim, tmp_path, capsys):
    table = pd.read_csv("table.csv").rename(columns={"size": f"si{odd}ze[red]"})
    table["y"] = table["y"].map({"yes": f"=ye{odd}s", "no": "[bold]no"})
    path = tmp_path / "odd.csv"
    path.write_bytes(table.to_csv(index=False).encode("utf-8", "surrogatepass"))
    status = polymix(["search", str(path), *OPTIONS, "--run-dir", str(tmp_path / "run")])
    said = capsys.readouterr()
    assert status in (0, 2)
    assert odd not in said.err + said.out
    victim.tally["refused" if status else "survived"] += 1


@settings(max_examples=60)
@given(st.lists(st.text(alphabet="=+-@\t\r19.e a'\",\n"), min_size=1, max_size=9))
def test_no_cell_is_a_formula(cells):
    text = csv_text(pd.DataFrame({"=y": pd.Series(cells, dtype=object)}))
    read = pd.read_csv(pd.io.common.StringIO(text), dtype=str, keep_default_na=False,
                       skip_blank_lines=False)  # fmt: skip
    assert list(read.columns) == ["'=y"]
    for cell in read["'=y"]:
        if cell.startswith(("=", "+", "-", "@", "\t")):
            float(cell)  # a number is no formula


def test_numbers_in_a_table_stay_as_they_are():
    frame = pd.DataFrame({"y": [-1, 1], "z": [-0.5, 2.5], "t": ["-1", "+2.5"]})
    assert csv_text(frame) == "y,z,t\n-1,-0.5,-1\n1,2.5,+2.5\n"


def test_folders_of_the_cache_obey_the_umask(victim, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    before = os.umask(0o077)
    try:
        assert polymix(["search", "table.csv", *OPTIONS, "--dry-run"]) == 0
    finally:
        os.umask(before)
    made = list(itertools.islice((tmp_path / "cache").rglob("*"), 200))
    assert made
    assert not [path for path in made if path.stat().st_mode & 0o077]
