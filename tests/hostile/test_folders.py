"""Run folders that an accident or an attacker changed: refused in a sentence, or still used."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import socket
import sqlite3
import stat
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
import yaml

from polymix.cli import run as polymix
from polymix.store import integrity as seals

from .cases import COMMANDS, OPTIONS, Victim, as_json, changed, leaves

SMALL = ("config.yaml", "data_report.json", "description.json", "evaluation.json", "genotype.json",
         "metrics.json", "schema.json", "table.json")  # fmt: skip
LARGE = ("ledger.sqlite", "model.safetensors")
SEALED_JSON = ("genotype.json", "metrics.json", "schema.json", "table.json", "data_report.json",
               "config.yaml", "description.json")  # fmt: skip
VALUES = (
    None, True, 0, -1, 1, 3, 10**9, 2**63, 10**30, -(10**30), 1e-320, 1e308, "", "x", "../../etc",
    "a/b", "\x1b[31mred", "=1+1", "\ud800", "x" * 10_000, [], [[]], {}, {"a": 1}, [0] * 1000,
    [10**9] * 3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def little_memory():
    """Two gigabytes more than there are now are the most: what asks for more fails in the test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 2_000_000, f"{after - before} kB more"


def flip(path: Path, place: int, bits: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= bits
    path.write_bytes(bytes(data))


def flipped(victim: Victim, name: str, places: list[int], commands: list[str]) -> None:
    """Flip a byte of a file in turn, and ask; the file is whole again then."""
    kept = (victim.whole / name).read_bytes()
    rng = random.Random(0)
    for place, command in zip(places, cycle(commands), strict=False):
        flip(victim.run / name, place, rng.randrange(1, 256))
        victim.ask(command, f"byte {place} of {name} flipped")
        (victim.run / name).write_bytes(kept)


@pytest.mark.parametrize("name", SMALL)
def test_bytes_of_the_small_files(victim, name):
    size = (victim.whole / name).stat().st_size
    flipped(victim, name, random.Random(1).sample(range(size), 4), ["leaderboard", "predict"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_byte_of_the_small_files(victim, name):
    size = (victim.whole / name).stat().st_size
    flipped(victim, name, list(range(size)), ["leaderboard"])
    flipped(victim, name, list(range(0, size, 40)), list(COMMANDS))


def sampled_bytes(victim: Victim, name: str, count: int) -> None:
    size = (victim.whole / name).stat().st_size
    places = [*range(0, 200, 13), *(random.Random(2).randrange(size) for _ in range(count))]
    flipped(victim, name, places[:count], list(COMMANDS))
    for left in (0, 1, 7, 100, size // 2, size - 1)[: count // 2]:
        victim.restore()
        os.truncate(victim.run / name, left)
        victim.ask("evaluate", f"{name} cut to {left} bytes")


@pytest.mark.parametrize("name", LARGE)
def test_bytes_of_the_large_files(victim, name):
    sampled_bytes(victim, name, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_many_bytes_of_the_large_files(victim, name):
    sampled_bytes(victim, name, 150)


def read(victim: Victim, name: str) -> object:
    text = (victim.whole / name).read_text(encoding="utf-8")
    return yaml.safe_load(text) if name == "config.yaml" else json.loads(text)


def resealed(victim: Victim, name: str, count: int, seed: int) -> None:
    """Put monstrous values in places of a file, seal it again, and ask."""
    rng = random.Random(f"{name} {seed}")
    value = read(victim, name)
    places = list(leaves(value))
    commands = [c for c in COMMANDS if c != "leaderboard"]
    for _ in range(count):
        place, to = rng.choice(places), rng.choice(VALUES)
        try:
            victim.reseal(name, as_json(changed(value, place, to)))
        except (UnicodeEncodeError, ValueError, AttributeError, KeyError, TypeError):
            continue  # no file holds that, or the seal itself cannot
        command = rng.choice(commands)
        victim.ask(command, f"{name} {place} set to {str(to)[:40]!r} and sealed")
        victim.restore()


@pytest.mark.parametrize("name", SEALED_JSON)
def test_values_that_were_changed_and_sealed_again(victim, name):
    resealed(victim, name, 4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SEALED_JSON)
def test_many_values_that_were_changed_and_sealed_again(victim, name, seed):
    resealed(victim, name, 60, seed + 1)


# What lies in a file's place.


def as_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def as_link_outside(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def as_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_socket(path: Path) -> None:
    path.unlink()
    there = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(there)


def as_device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # endless zeros


def as_hole(path: Path) -> None:
    path.unlink()
    path.touch()
    os.truncate(path, 20 << 30)


def as_empty(path: Path) -> None:
    path.write_bytes(b"")


def as_nothing(path: Path) -> None:
    path.unlink()


def as_pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.")


def as_another(path: Path) -> None:
    path.write_bytes((path.parent / "schema.json").read_bytes())


WAYS = [as_link, as_link_outside, as_loop, as_folder, as_pipe, as_socket, as_device, as_hole,
        as_empty, as_nothing, as_pickle, as_another]  # fmt: skip


def put(victim: Victim, name: str, way: Callable[[Path], None], command: str) -> None:
    try:
        way(victim.run / name)
    except PermissionError:
        pytest.skip("only root makes devices")
    victim.ask(command, f"{name} {way.__name__}")
    assert not (victim.place / "ran").exists()


@pytest.mark.parametrize("way", WAYS)
def test_what_lies_in_a_file_s_place(victim, way):
    put(victim, random.Random(way.__name__).choice([*SMALL, *LARGE]), way, "predict")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*SMALL, *LARGE, ".lock", "log.txt", ".staging"])
def test_what_lies_in_each_file_s_place(victim, name, way):
    for command in COMMANDS:
        victim.restore()
        if not (victim.run / name).exists():
            (victim.run / name).touch()
        put(victim, name, way, command)


@pytest.mark.parametrize("way", [as_loop, as_link_outside, as_pipe, as_empty, as_nothing])
def test_what_lies_in_the_folder_s_place(victim, way):
    for command in COMMANDS:
        victim.restore()
        shutil.rmtree(victim.run)
        victim.run.touch()
        way(victim.run)
        assert victim.ask(command, f"the folder {way.__name__}") == 2


def test_another_run_s_files(victim, tmp_path):
    """Each file of another run on the same rows, and its whole ledger."""
    assert polymix(["search", "table.csv", *OPTIONS, "--seed", "1",
                    "--run-dir", str(tmp_path / "other")]) == 0  # fmt: skip
    assert polymix(["evaluate", str(tmp_path / "other")]) == 0
    for name in (*SMALL, *LARGE):
        victim.restore()
        shutil.copy(tmp_path / "other" / name, victim.run / name)
        status = victim.ask("leaderboard", f"{name} of another run")
        same = (victim.whole / name).read_bytes() == (victim.run / name).read_bytes()
        assert status == (0 if same or name == "evaluation.json" else 2)
        if name not in ("evaluation.json", "description.json", "ledger.sqlite"):
            victim.reseal(name, (tmp_path / "other" / name).read_bytes())
            for command in COMMANDS:
                victim.ask(command, f"{name} of another run, sealed")


def test_a_moved_folder_is_used_where_it_lies(victim):
    moved = victim.place / "cache" / "moved"
    victim.run.rename(moved)
    victim.run.symlink_to(moved)
    for command in COMMANDS:
        assert victim.ask(command, "a link to the folder") == 0
    moved.rename(victim.place / "cache" / "gone")
    victim.run.unlink()
    shutil.rmtree(victim.place / "cache" / "gone")


@pytest.mark.parametrize("column", ["exact", "curve", "score", "genotype", "recipe"])
def test_cells_of_the_ledger(victim, column):
    rng = random.Random(column)
    for value in rng.sample([v for v in VALUES if not isinstance(v, list | dict)], 5):
        victim.restore()
        connection = sqlite3.connect(victim.run / "ledger.sqlite")
        try:
            connection.execute(f"UPDATE trials SET {column} = ?", (value,))
        except (OverflowError, UnicodeEncodeError, sqlite3.IntegrityError):
            continue  # no cell holds that
        finally:
            connection.commit()
            connection.close()
        victim.ask("resume", f"{column} = {str(value)[:20]!r}")


def test_triggers_of_the_ledger_never_fire(victim):
    connection = sqlite3.connect(victim.run / "ledger.sqlite")
    connection.executescript("CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM trials; END")
    connection.close()
    for command in ("leaderboard", "evaluate", "resume"):
        assert victim.ask(command, "a trigger") == 2


def test_a_network_s_name_in_a_folder_is_only_a_name(victim):
    """Neither a hub nor a folder is looked at for what a genotype names."""
    for model in ("a/b", "../../evil", str(victim.place)):
        block = {"name": "pretrained-text", "preset": "small", "options": [["model", model]]}
        genotype = changed(read(victim, "genotype.json"), ("encoders", 0, 1), block)
        victim.restore()
        victim.reseal("genotype.json", as_json(genotype))
        for command in ("predict", "explain"):
            assert victim.ask(command, f"model {model}") == 2


def test_the_seal_of_this_suite_is_the_run_s_own(victim):
    for name in SEALED_JSON[:-1]:
        victim.reseal(name, (victim.run / name).read_bytes())
    seals.read(victim.run)
    for command in COMMANDS:
        assert victim.ask(command, "nothing") == 0
