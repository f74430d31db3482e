"""Raw files from the network: a file under its own name is whole and right, or not there.

A download lies in `NAME.part` until it is whole; it gets its name only once its checksum is
right, or, where nobody publishes one, once what must be in it was found in it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from polymix.datasets.builder import Progress, silent
from polymix.datasets.download import Sleep, UnwritableError, discard, download, requests_library
from polymix.errors import DataError


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be fetched.

    Attributes:
        path: where it belongs in the folder, with slashes.
        urls: where it is served; one after another is tried.
        sha256: of its bytes, where that is known.
        check: raises a `DataError` where the file's content is not what it must be.
    """

    path: str
    urls: tuple[str, ...]
    sha256: str | None = None
    check: Callable[[Path], None] | None = None

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise ValueError(f"{self.path!r} leads out of the folder")
        if self.sha256 is None and self.check is None:
            raise ValueError(f"{self.path!r} has neither a checksum nor a check")

    def verify(self, path: Path) -> None:
        """Look whether `path` holds this file.

        Raises:
            DataError: it does not, or cannot be read.
        """
        if self.sha256 is not None:
            try:
                with path.open("rb") as file:
                    got = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
            if got != self.sha256:
                raise DataError(f"{path}: sha256 {self.sha256} expected, but got {got}")
        if self.check is not None:
            self.check(path)


def fetch_files(
    files: Sequence[RemoteFile],
    folder: Path,
    progress: Progress = silent,
    sleep: Sleep = time.sleep,
) -> None:
    """Fetch what is not there yet; a fetch that was stopped is taken up where it broke.

    Args:
        files: which.
        folder: where to; made where it is not there.
        progress: called as `progress(done, total, what)`, in bytes.
        sleep: waits between attempts.

    Raises:
        DataError: files cannot be fetched, or others lie under their names; every problem is
            listed, and each names its file.
        MissingExtraError: requests is not installed.
    """
    requests_library()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".fetch.lock", timeout=0):
            missing = _missing(files, folder)
            problems: list[str] = []
            for file in missing:
                problems += _fetch(file, folder / file.path, progress, sleep)
    except Timeout:
        raise DataError(f"{folder} is being fetched into by another process: wait for it") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from None
    if problems:
        raise DataError(problems)


def _missing(files: Sequence[RemoteFile], folder: Path) -> list[RemoteFile]:
    """Those that are not there; others' files under their names are never overwritten."""
    missing, problems = [], []
    for file in files:
        target = folder / file.path
        if not target.exists():
            missing.append(file)
            continue
        try:
            file.verify(target)
        except DataError as error:
            problems += [f"{p}: move it elsewhere and run again" for p in error.problems]
    if problems:
        raise DataError(problems)
    return missing


def _fetch(file: RemoteFile, target: Path, progress: Progress, sleep: Sleep) -> list[str]:
    """Fetch one from the first of its places that has it; what was wrong where none has."""
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    for url in file.urls:
        try:
            download(url, part, lambda done, all_: progress(done, all_, file.path), sleep)
        except UnwritableError:
            raise
        except DataError as error:
            problems += [f"{target}: {p}" for p in error.problems]
            continue
        try:
            file.verify(part)
        except DataError as error:
            discard(part)
            problems += [f"{p} from {url}".replace(str(part), str(target)) for p in error.problems]
            continue
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.rename(target)
        discard(part)
        return []
    return problems
