"""Whatever ends a run, taken up again it comes to the end of the undisturbed one."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from faults.common import CASES, Command, begun, left_by, search
from polymix import seeds
from polymix.store.ledger import Ledger

STRATEGIES = list(CASES)
QUICK = ("mixmas", "bm-nas", "auto")
JOBS = ("--jobs", "2")
"""More processes have fewer threads each, and round otherwise: a run equals one of as many."""

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def finish(strategy: str, table: Path, path: Path, *more: str) -> None:
    """Go on, undisturbed, to the end."""
    command = Command(search(strategy, table, path, *more), path.parent)
    assert command.status == 0, command.output


@pytest.mark.parametrize(
    "strategy", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in STRATEGIES]
)
def test_killed(strategy, whole, table, tmp_path):
    expected, rng = whole(strategy), seeds.stream(0, "kills", strategy)
    path = tmp_path / "run"
    for _ in range(2):
        command = Command(search(strategy, table, path), tmp_path)
        begun(command, path, rng.uniform(0.0, 0.6) * expected.seconds)
        command.send(signal.SIGKILL)
        assert command.status in (0, -signal.SIGKILL), command.output
    finish(strategy, table, path)
    assert left_by(path) == expected.left


@pytest.mark.parametrize(
    ("number", "times"),
    [
        pytest.param(n, times, marks=[] if times == 1 or n == 2 == times else pytest.mark.slow)
        for n in SIGNALS
        for times in (1, 2, 5)
    ],
)
def test_signals_end_a_run_as_ctrl_c_does(number, times, whole, table, tmp_path):
    strategy, path = QUICK[(number + times) % len(QUICK)], tmp_path / "run"
    expected = whole(strategy)
    command = Command(search(strategy, table, path), tmp_path)
    begun(command, path, 0.1 * expected.seconds)
    assert command.process.exitcode is None, "it was too quick"
    for _ in range(times):
        command.send(number)
        time.sleep(0.02)
    assert command.status == SIGNALS[number], command.output
    assert "Traceback" not in command.output
    assert command.output.rstrip().endswith(("stopped", f"continue with: polymix resume {path}"))
    finish(strategy, table, path)
    assert left_by(path) == expected.left


def test_what_nohup_ignores_stays_ignored(table, tmp_path):
    path = tmp_path / "run"
    ignore = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    command = Command(search("m2-mixer", table, path), tmp_path, ignore)
    begun(command, path)
    command.send(signal.SIGHUP)
    assert command.status == 0, command.output


# Several processes.


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_workers_that_are_killed(number, whole, table, tmp_path):
    path = tmp_path / "run"
    command = Command(search("mixmas", table, path, *JOBS), tmp_path)
    until, killed = time.monotonic() + 60, 0
    while not killed and command.process.exitcode is None and time.monotonic() < until:
        time.sleep(0.02)
        for pid in command.others():
            if "spawn_main" in _command_line(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    killed += 1
    assert killed
    assert command.status == 0, command.output
    assert "Traceback" not in command.output
    assert left_by(path) == whole("mixmas", *JOBS).left


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(n, marks=pytest.mark.slow) for n in SIGNALS)]
)
def test_no_worker_is_left_behind(number, whole, table, tmp_path):
    path = tmp_path / "run"
    command = Command(search("mixmas", table, path, *JOBS), tmp_path)
    until = time.monotonic() + 60
    while not command.others() and time.monotonic() < until:
        time.sleep(0.02)
    command.ends_within(1.0)
    command.send(number)
    command.send(number)
    assert command.status in (SIGNALS.get(number, -number), 0), command.output
    finish("mixmas", table, path, *JOBS)
    assert left_by(path) == whole("mixmas", *JOBS).left


def test_a_worker_that_dies_twice_is_tried_again_when_resumed(whole, table, tmp_path):
    """Its trial is not stored as failed for good."""
    path = tmp_path / "run"
    command = Command(search("mixmas", table, path, *JOBS), tmp_path, _workers_die)
    assert command.status == 2, command.output
    assert "Traceback" not in command.output
    assert "the process died, twice" in command.output
    assert "polymix resume" in command.output
    with Ledger.open(path / "ledger.sqlite", read_only=True) as ledger:
        assert {t.status.value for t in ledger.trials()} == {"lost: system"}
    finish("mixmas", table, path, *JOBS)
    assert left_by(path) == whole("mixmas", *JOBS).left


def _workers_die() -> None:
    import polymix.search.workers as workers

    workers._run = _die


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# What the system refuses.


@pytest.mark.parametrize("strategy", ["mixmas", "mro"])
@pytest.mark.parametrize("kilobytes", [pytest.param(40, marks=pytest.mark.slow), 160])
def test_a_full_disk(strategy, kilobytes, whole, table, tmp_path):
    expected, path = whole(strategy), tmp_path / "run"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (kilobytes * 1024,) * 2)
    command = Command(search(strategy, table, path), tmp_path, limit)
    assert command.status in (0, 2), command.output
    assert "Traceback" not in command.output
    finish(strategy, table, path)
    assert left_by(path) == expected.left


@pytest.mark.parametrize("strategy", ["mixmas", "bm-nas", "auto"])
def test_too_little_memory(strategy, whole, table, tmp_path):
    expected, path = whole(strategy), tmp_path / "run"
    command = Command(search(strategy, table, path), tmp_path, _starve)
    assert command.status == 2, command.output
    assert "Traceback" not in command.output
    assert "out of memory" in command.output
    assert "preset" in command.output
    finish(strategy, table, path)
    assert left_by(path) == expected.left


def _starve() -> None:
    """Leave memory for what is small, and for nothing that is trained."""
    from polymix.train import loop

    def refuse(*_: object) -> None:
        raise MemoryError("Unable to allocate 8.00 GiB")

    loop.Trainer.run = refuse


def test_a_cache_that_is_gone_is_built_again(whole, table, tmp_path, monkeypatch):
    expected, path = whole("mixmas"), tmp_path / "run"
    monkeypatch.setenv("POLYMIX_CACHE", str(tmp_path / "cache"))
    command = Command(search("mixmas", table, path), tmp_path, _own_cache(tmp_path))
    begun(command, path, 0.2 * expected.seconds)
    command.send(signal.SIGKILL)
    assert command.status in (0, -signal.SIGKILL)
    shutil.rmtree(tmp_path / "cache")
    again = Command(search("mixmas", table, path), tmp_path, _own_cache(tmp_path))
    assert again.status == 0, again.output
    assert left_by(path) == expected.left


def _own_cache(folder: Path) -> partial[None]:
    return partial(_set_cache, str(folder / "cache"))


def _set_cache(place: str) -> None:
    os.environ["POLYMIX_CACHE"] = place


@pytest.mark.parametrize("strategy", ["mixmas", pytest.param("bm-nas", marks=pytest.mark.slow)])
def test_a_clock_that_is_set_back(strategy, whole, table, tmp_path):
    expected, path = whole(strategy), tmp_path / "run"
    command = Command(search(strategy, table, path), tmp_path)
    begun(command, path, 0.3 * expected.seconds)
    command.send(signal.SIGTERM)
    assert command.status in (0, 143), command.output
    again = Command(search(strategy, table, path), tmp_path, _set_back)
    assert again.status == 0, again.output
    assert left_by(path) == expected.left


def _set_back() -> None:
    """The year 1970, and a machine that was just started."""
    began = time.monotonic()
    monotonic = time.monotonic
    time.time = lambda: 1.0
    time.monotonic = lambda: monotonic() - began


# Many kills, and a table of them.


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills(whole, table, tmp_path, capsys):
    rng, told = seeds.stream(1, "kills"), []
    cases = [(s, jobs) for s in STRATEGIES for jobs in ((), JOBS)]
    kills, each = 0, -(-100 // len(cases))
    for strategy, jobs in cases:
        expected, done, runs = whole(strategy, *jobs), 0, 0
        path = tmp_path / f"{strategy} {len(jobs)} {runs}"
        while done < each:
            command = Command(search(strategy, table, path, *jobs), tmp_path)
            command.ends_within(rng.uniform(0.05, 0.7) * expected.seconds)
            command.send(signal.SIGKILL)
            if command.status == 0:  # too quick for us: again from the start
                assert left_by(path) == expected.left
                runs += 1
                path = tmp_path / f"{strategy} {len(jobs)} {runs}"
                continue
            done += 1
        finish(strategy, table, path, *jobs)
        assert left_by(path) == expected.left
        kills += done
        told.append(f"{strategy:10} {'2 jobs' if jobs else '1 job':7} {done:3} kills, equal")
    assert kills >= 100
    with capsys.disabled():
        print("\n" + "\n".join(told))
