"""Arrays that are being written: beside their places, noted as they grow, taken up if left behind.

A draft carries its process's number. Whoever finds drafts of a process that is gone takes them
over, by renaming (the first to rename the note has them), and goes on from the note.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from polymix.data.arrays import create_array
from polymix.data.digests import append_digest, holds_digest
from polymix.errors import PolymixWarning

EVERY = 5.0
"""Seconds between notes: each writes to the disk what there is."""


class ResumableArrays:
    """Arrays `(N, …)` on the way to their files.

    Args:
        paths: where they go.
        dtype: of their numbers.

    Attributes:
        arrays: those that are open, in the order of paths.
    """

    def __init__(self, paths: Sequence[Path], dtype: str = "float16") -> None:
        self.paths, self.dtype = list(paths), np.dtype(dtype)
        self.arrays: list[np.memmap] = []
        self._noted = time.monotonic()

    def _drafts(self, process: int | str) -> list[Path]:
        return [path.with_suffix(f".{process}.draft") for path in self.paths]

    def _note(self, process: int | str) -> Path:
        return self.paths[0].with_suffix(f".{process}.note")

    def open(self, index: int, shape: tuple[int, ...]) -> None:
        """Begin the next array."""
        draft = self._drafts(os.getpid())[index]
        self.arrays.append(create_array(draft, self.dtype, shape))

    def note(self, rows: int) -> None:
        """Put down that rows up to this one are there, every few seconds."""
        if not self.arrays or time.monotonic() - self._noted < EVERY:
            return
        for array in self.arrays:
            array.flush()
        note = self._note(os.getpid())
        fresh = note.with_suffix(".fresh")
        text = {"rows": rows, "files": [p.name for p in self.paths]}
        fresh.write_text(json.dumps(text), encoding="utf-8")
        fresh.replace(note)
        self._noted = time.monotonic()

    def resume(self, count: int) -> int:
        """Take up what a process that is gone left of the same arrays.

        Args:
            count: N.

        Returns:
            How many rows are there.
        """
        for note in sorted(self.paths[0].parent.glob(self._note("*").name)):
            process = note.name.split(".")[-2]
            if not process.isdigit() or _alive(int(process)):
                continue
            # Left by others of the same arrays, or of fewer or more of them: of no use then.
            with suppress(OSError, ValueError, KeyError, TypeError):
                text = json.loads(note.read_text(encoding="utf-8"))
                mine, theirs = self._drafts(os.getpid()), self._drafts(process)
                if text["files"] == [p.name for p in self.paths]:
                    note.replace(self._note(os.getpid()))
                    for one, other in zip(mine, theirs, strict=True):
                        other.replace(one)
                    found = [np.lib.format.open_memmap(draft, "r+") for draft in mine]
                    if all(a.shape[0] == count and a.dtype == self.dtype for a in found):
                        self.arrays.extend(found)
                        return int(text["rows"])
        self._sweep()
        return 0

    def _sweep(self) -> None:
        """Remove what is of no use to anyone."""
        for path in self.paths:
            for left in path.parent.glob(path.with_suffix(".*").name):
                process = left.name.split(".")[-2]
                known = left.suffix in (".draft", ".note", ".fresh") and process.isdigit()
                if known and not _alive(int(process)):
                    left.unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the arrays to their places."""
        for array, draft, path in zip(
            self.arrays, self._drafts(os.getpid()), self.paths, strict=True
        ):
            array.flush()
            append_digest(draft)
            draft.replace(path)
        self._note(os.getpid()).unlink(missing_ok=True)

    def drop(self) -> None:
        """Leave nothing behind."""
        self.arrays.clear()
        for path in (*self._drafts(os.getpid()), self._note(os.getpid())):
            path.unlink(missing_ok=True)


def is_kept(path: Path) -> bool:
    """Whether an array is at its place, and what was written; one that was changed is told of."""
    if not path.is_file():
        return False
    if holds_digest(path):
        return True
    warnings.warn(
        f"{path} is not what was written: it is computed again", PolymixWarning, stacklevel=2
    )
    path.unlink()
    return False


def _alive(process: int) -> bool:
    """Whether another process of this number runs; this one's own drafts are free to take."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
