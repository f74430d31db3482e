"""Signals that end a command, and what a system's refusals are told as."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator

import pytest
import typer

from polymix.cli import signals
from polymix.cli.common import Stopped, errors
from polymix.faults import is_disk_full, is_out_of_memory


@pytest.fixture
def handlers() -> Iterator[None]:
    """Handlers are as they were afterwards."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", signals.ENDING)
def test_a_signal_is_ctrl_c_with_its_own_status(number, capsys) -> None:
    signals.listen()
    with pytest.raises(typer.Exit) as ended, errors(Stopped()):
        signal.raise_signal(number)
    assert ended.value.exit_code == 128 + number
    assert capsys.readouterr().err == "\nStopped. Nothing was written.\n"


@pytest.mark.usefixtures("handlers")
def test_what_the_caller_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.listen()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signals.ignore()
    for number in signals.ENDING:
        signal.raise_signal(number)


def test_a_plain_ctrl_c_is_130() -> None:
    assert signals.exit_status(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 8 GiB"), "out of memory: a smaller preset"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: a smaller"),
        (OSError(errno.ENOSPC, "No space left on device"), "nothing more can be written: "),
    ],
    ids=["memory", "torch", "disk"],
)
def test_what_the_system_refuses_is_a_sentence(error, said, tmp_path, capsys) -> None:
    (tmp_path / "description.json").touch()
    with pytest.raises(typer.Exit) as ended, errors(Stopped(tmp_path)):
        raise error
    assert ended.value.exit_code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {said}")
    assert second == f"error: continue with: polymix resume {tmp_path}"


def test_other_errors_are_raised_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), errors(Stopped()):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error", [ValueError("bad value"), OSError(errno.ENOENT, "no such file"), RuntimeError("")]
)
def test_what_is_no_fault_of_the_system(error) -> None:
    assert not is_out_of_memory(error)
    assert not is_disk_full(error)
