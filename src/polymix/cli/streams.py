"""The standard streams of a command: whatever they are, a run's end is no traceback.

They may be closed, a disk that is full, a pipe that nobody reads, or of an encoding that lacks
characters.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from polymix.errors import printable

STANDARD_OUTPUT = "the standard output"
"""The file that an error names where the output is lost."""


def open_closed() -> None:
    """Open those that are closed on nothing: else the next file opened would be taken for them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """With a standard error that may be lost, and no character that a stream cannot encode."""
    before = sys.stdout, sys.stderr
    strict = [
        stream
        for stream in before
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict"
    ]
    for stream in strict:
        stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = _Output(before[0]), _Progress(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in strict:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="strict")


def print_text(text: str) -> None:
    """Write text to the standard output as it is, in UTF-8 where the output's encoding lacks it.

    On a terminal, what would command it is escaped.
    """
    out = sys.stdout
    if out.isatty():
        text = printable(text, lines=True)
    buffer = getattr(out, "buffer", None)
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        if buffer is not None:
            out.flush()
            buffer.write(text.encode("utf-8", "backslashreplace"))
            return
    out.write(text)


def let_go(stream: TextIO) -> None:
    """Have what is still to be written to a stream go nowhere, at the process's end, too."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Watched:
    """A stream whose loss is told by `_lost`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._lost(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lost(error)

    def _lost(self, error: OSError | ValueError) -> None:
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Output(_Watched):
    """The standard output: its loss is an error that names it."""

    def _lost(self, error: OSError | ValueError) -> None:
        let_go(self._stream)
        if isinstance(error, BrokenPipeError) or not isinstance(error, OSError):
            raise error
        raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


class _Progress(_Watched):
    """The standard error: its loss ends nothing, and a search goes on without its progress."""

    def _lost(self, error: OSError | ValueError) -> None:  # noqa: ARG002
        let_go(self._stream)
