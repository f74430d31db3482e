"""What a person asks for by a file's name: written whole, and nothing but a file is replaced.

A regular file is replaced by one rename, keeping its mode; a link is followed to where it leads; a
device of characters or a pipe is written as it is. All else is refused.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

from polymix.errors import UsageError
from polymix.store.files import write_atomic

READER_S = 5.0
"""Seconds to wait for somebody to read a named pipe."""

_OPEN_FILES = (Path("/dev"), Path("/proc"))
"""Where links name what a process has open, which no rename must take away."""


def check_output(path: Path, option: str) -> None:
    """Make sure, before the work is done, that there is a place for a file.

    Args:
        path: the file.
        option: that names it, for messages.

    Raises:
        UsageError: there is none.
    """
    _target(path, option)


def write_output(path: Path, data: bytes, option: str) -> None:
    """Write a file, whole or not at all where it is a regular one; one that is there is replaced.

    Args:
        path: the file.
        data: what it is to hold.
        option: that names it, for messages.

    Raises:
        UsageError: it cannot be written.
    """
    target, as_it_is = _target(path, option)
    try:
        if as_it_is:
            _write_through(target, data)
        else:
            write_atomic(target, data)
    except OSError as error:
        raise _refused(path, option, error.strerror or str(error)) from None


def _target(path: Path, option: str) -> tuple[Path, bool]:
    """Where links lead, and whether it is written as it is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    except (OSError, ValueError) as error:
        raise _refused(path, option, getattr(error, "strerror", None) or str(error)) from None
    if mode is not None and stat.S_ISDIR(mode):
        raise _refused(path, option, "name a file in a folder that exists")
    if mode is not None and (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or _is_open_file(path)):
        return path, True
    if mode is not None and not stat.S_ISREG(mode):
        raise _refused(path, option, "it is neither a file nor a pipe: name another")
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a loop
        raise _refused(path, option, str(error)) from None
    if not path.name or not target.parent.is_dir() or target.is_dir():
        raise _refused(path, option, "name a file in a folder that exists")
    return target, False


def _is_open_file(path: Path) -> bool:
    return any(path.absolute().is_relative_to(place) for place in _OPEN_FILES)


def _write_through(path: Path, data: bytes) -> None:
    """Write to what is there, without replacing it."""
    handle = _open(path)
    try:
        os.set_blocking(handle, True)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    """Open for writing; of a pipe, once somebody reads it."""
    until = time.monotonic() + READER_S
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > until:
                if error.errno == errno.ENXIO:
                    raise OSError(error.errno, "nobody reads it") from None
                raise
        time.sleep(0.02)


def _refused(path: Path, option: str, why: str) -> UsageError:
    return UsageError(f"{option} {path}: {why}")
