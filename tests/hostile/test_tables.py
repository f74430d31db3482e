"""Hostile tables: read with every loss counted, or refused in a sentence, and nothing else.

Never a traceback, never more than two gigabytes or a minute, nothing written outside of the run's
folder and the cache, no network.
"""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from hostile.hostile_tables import BOMBS, Hostile, hostile_tables, write_files
from polymix.cli import run as command
from polymix.datasets.own_table import TableOptions, open_table_dataset, read_recipe, read_report
from polymix.errors import PolymixError
from polymix.runs.rows import GivenRows
from polymix.tables.read import read_rows

SECONDS, BYTES = 60, 2 * 10**9
LONGEST_SENTENCE = 2000

QUIET = settings(
    suppress_health_check=list(HealthCheck), deadline=None, derandomize=True, database=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, from which nothing is written elsewhere, and no network is reached."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for folder in ("tables", "home", "work"):
        (tmp_path / folder).mkdir()
    write_files(tmp_path / "tables")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def check_sentences(problems: tuple[str, ...] | list[str]) -> None:
    assert problems
    for problem in problems:
        assert problem.strip()
        assert len(problem) < LONGEST_SENTENCE
        assert "Traceback" not in problem


def check_untouched(place: Path) -> None:
    """Nothing lies in the home folder, and nothing but the cache beside the tables."""
    assert not list((place / "home").iterdir())
    assert not list((place / "work").iterdir())
    allowed = {"tables", "home", "work", "cache"}
    assert {p.name for p in place.iterdir()} <= allowed
    left = [p for p in (place / "cache").glob("tables/.*") if p.is_dir()]
    assert not left, "a failed build leaves nothing behind"


def read(hostile: Hostile, place: Path) -> str:
    """What became of a table: `refused`, or `read`, or `counted` where something was lost."""
    path = hostile.write(place / "tables")
    try:
        options = TableOptions.model_validate(hostile.options)
        dataset = open_table_dataset(path, options)
    except ValidationError as error:
        pytest.fail(f"the test asks for what is none: {error}")
    except PolymixError as error:
        check_sentences(error.problems)
        return "refused"
    else:
        report = read_report(dataset)
        rows = report["rows"]
        assert rows["used"] == len(dataset) == sum(report["split"].values())
        aside = sum(count for why, count in rows.items() if why not in ("read", "used"))
        assert rows["read"] == rows["used"] + aside
        recipe = read_recipe(dataset)
        assert recipe is not None
        again = read_rows(path, recipe, jobs=1)
        assert len(again) == rows["read"]
        assert GivenRows.every(dataset).of == len(dataset)
        gone = (~dataset.present).sum(0).tolist()
        assert gone == [report["absent"][name] for name in dataset.schema.names]
        return "counted" if report["cells"] or aside else "read"
    finally:
        path.unlink()
        shutil.rmtree(place / "cache", ignore_errors=True)


def survive(count: int, place: Path) -> Counter[str]:
    """Read so many tables; what became of them."""
    found: Counter[str] = Counter()
    least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(QUIET, max_examples=count)
    @given(hostile_tables())
    def one(hostile: Hostile) -> None:
        begun = time.monotonic()
        found[read(hostile, place)] += 1
        assert time.monotonic() - begun < SECONDS

    one()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - least) * 1024
    assert grown < BYTES
    check_untouched(place)
    return found


def test_sixty_tables(place: Path) -> None:
    found = survive(60, place)
    assert sum(found.values()) >= 60
    assert found["refused"]
    assert found["read"] + found["counted"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_tables(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = survive(1000, place)
    with capsys.disabled():
        print(f"\nhostile tables: {dict(found)}, 0 tracebacks, 0 connections")
    assert sum(found.values()) >= 1000
    assert found["read"] + found["counted"] >= 100


CHILD = """
import resource, socket, sys
def no(*_, **__): raise AssertionError('a connection was asked for')
socket.socket.connect = socket.getaddrinfo = no
from polymix.cli import run
status = run(sys.argv[2:])
lines = open('/proc/self/status').read().splitlines()
most = next(line.split()[1] for line in lines if line.startswith('VmHWM:'))
with open(sys.argv[1], 'w') as file:
    file.write(most + ' ' + str(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])))
sys.exit(status)
"""
"""A command without a network, which tells how much memory and processor time it took."""


def child(arguments: list[str], place: Path) -> tuple[int, str, float, float]:
    """A command in a process of its own: its exit code, errors, seconds, and bytes at its most."""
    told = place / "cache" / "told"
    told.parent.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(told), *arguments],
        capture_output=True, text=True, errors="replace", timeout=500, check=False,
    )  # fmt: skip
    assert told.is_file(), f"it ended with {done.returncode}: {done.stderr[-500:]}"
    kilobytes, seconds = map(float, told.read_text().split())
    return done.returncode, done.stderr, seconds, kilobytes * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, write = BOMBS[name]
    path = place / "tables" / file
    write(path)
    arguments = ["search", str(path), "--target", "y", "--dry-run"]
    status, errors, seconds, most = child(arguments, place)
    with capsys.disabled():
        first = (errors.splitlines() or [""])[0][:90]
        print(f"\n{name}: exit {status}, {seconds:.0f} s, {most / 1e6:.0f} MB, {first}")
    assert status in (0, 2)
    assert "Traceback" not in errors
    if status == 2:
        check_sentences([line for line in errors.splitlines() if line.startswith("error:")])
    assert seconds < SECONDS
    assert most < BYTES
    check_untouched(place)


def searched(path: Path, target: str, place: Path, capsys: Any) -> int:
    """A whole tiny search, and predictions of the same table."""
    folder = place / "runs" / "run"
    shutil.rmtree(folder, ignore_errors=True)
    options = ["--target", target, "--trials", "2", "--run-dir", str(folder)]
    tiny = ["--strategy", "mixmas", "-o", "epochs=1", "-o", "full_epochs=1", "-o", "encoders=[mlp]"]
    (place / "runs").mkdir(exist_ok=True)
    status = command(["search", str(path), *options, *tiny])
    if status == 0:
        assert command(["predict", str(folder), str(path), "--out", str(place / "p.csv")]) == 0
        assert command(["evaluate", str(folder), str(path)]) in (0, 2)
        assert command(["explain", str(folder), "--rows", "10"]) in (0, 2)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if status:
        assert status == 2
        check_sentences([line for line in told.splitlines() if line.startswith("error:")])
    return status


NUMBERS = {
    "tiny": [f"{i}e-320" for i in range(40)],
    "huge": [f"{i - 20}e307" for i in range(40)],
    "both": [f"{i + 1}e{300 * (-1) ** i}" for i in range(40)],
    "times": [str(1_700_000_000 + 60 * i) for i in range(40)],
    "one number": ["5"] * 40,
    "one other": ["5"] * 39 + ["6"],
}


@pytest.mark.parametrize("kind", ["tiny", "huge", "times"])
def test_searches_on_numbers_at_the_ends(kind: str, place: Path, capsys: Any) -> None:
    lines = [f"{i % 5},{value},{i}" for i, value in enumerate(NUMBERS[kind])]
    path = place / "tables" / "t.csv"
    path.write_text("\n".join(['"a\n=1+1",y,"<b>é\x1b[31m"', *lines]))
    searched(path, "y", place, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_searches_on_hostile_tables(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: Counter[int] = Counter()

    @settings(QUIET, max_examples=40)
    @given(hostile_tables())
    def one(hostile: Hostile) -> None:
        path = hostile.write(place / "tables")
        try:
            found[searched(path, hostile.options["target"], place, capsys)] += 1
        finally:
            path.unlink()

    one()
    with capsys.disabled():
        print(f"\nsearches on hostile tables, by exit code: {dict(found)}")
    assert set(found) <= {0, 2}
    assert not list((place / "home").iterdir())
