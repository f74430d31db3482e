"""Digests of a folder's files: what was changed since it was written is not believed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

Stamp = tuple[int, ...]
"""Which file it was, and when it last changed; the system sets the last of the times itself."""

_known: dict[tuple[str, Stamp], str] = {}
"""Digests that this process took: a file that has not changed since is not read again."""


_whole: dict[tuple[str, Stamp], bool] = {}
"""Of files that hold their digest, whether they are what was written."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a plain file, read once a process.

    Raises:
        OSError: it cannot be read, or is no plain file.
    """
    # A pipe that nobody writes to would be waited for.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no plain file")
    with path.open("rb") as file:
        key = (str(path.absolute()), _stamp(file))
        if key not in _known:
            _known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return _known[key]


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The digests of files in a folder, by name."""
    return {name: digest_of(folder / name) for name in names}


def changed(folder: Path, recorded: Mapping[str, str]) -> list[str]:
    """A sentence for each file that is not what was written.

    Args:
        folder: where the files are.
        recorded: their digests, by name.
    """
    found = []
    for name, digest in recorded.items():
        try:
            if digest_of(folder / name) != digest:
                found.append(f"{folder / name} is not what was written: it was changed since")
        except OSError as error:
            found.append(f"{folder / name} cannot be read: {error.strerror or error}")
    return found


def append_digest(path: Path) -> None:
    """Put a file's digest behind all that it holds, where readers of arrays do not look."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(digest)


def holds_digest(path: Path) -> bool:
    """Whether a file is what it was when its digest was appended; read once a process."""
    try:
        with path.open("rb") as file:
            key = (str(path.absolute()), _stamp(file))
            if key not in _whole:
                left = os.fstat(file.fileno()).st_size - hashlib.sha256().digest_size
                digest = hashlib.sha256()
                while left > 0 and (block := file.read(min(left, 1 << 20))):
                    digest.update(block)
                    left -= len(block)
                _whole[key] = file.read() == digest.digest()
            return _whole[key]
    except OSError:
        return False


def _stamp(file: BinaryIO) -> Stamp:
    about = os.fstat(file.fileno())
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
