"""Files that are written whole or not at all, and files that are refused unread."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
"""What pickles and torch's archives are called: loading one may run any code."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file, its mode kept: a reader, or a crash, finds the old content or the new."""
    # Forty characters: a name that is as long as names may be leaves no room for more.
    temporary = path.with_name(f".{path.name[:40]}.{uuid4().hex[:8]}.tmp")
    try:
        write_synced(temporary, data)
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file, on the disk when this returns."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder, where there is none or an empty one, with these files or not at all."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        for name, data in files.items():
            write_synced(temporary / name, data)
        sync_folder(temporary)
        _put_in_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _put_in_place(folder: Path, target: Path) -> None:
    """Rename a folder to where none is, or an empty one, in one step where the system can."""
    try:
        folder.rename(target)
    except FileExistsError:  # Windows replaces no folder
        target.rmdir()
        folder.rename(target)


def sync_folder(path: Path) -> None:
    """Have the folder's names on the disk; where folders cannot be opened, nothing is done."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_temporary(path: Path) -> bool:
    """Whether the file is what a killed `write_atomic` left."""
    return path.name.startswith(".") and path.name.endswith(".tmp") and path.is_file()


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON as polymix writes it.

    Raises:
        ValueError: a number that is not finite, or something JSON has no word for.
    """
    try:
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        try:
            return (text + "\n").encode()
        except UnicodeEncodeError:  # a file's name that is not UTF-8
            return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def from_json(data: bytes) -> dict[str, Any]:
    """A JSON object, and nothing else.

    Raises:
        ValueError: it is not one.
    """
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def sha256(data: bytes) -> str:
    """The content's SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def suspicious(folder: Path) -> dict[Path, str]:
    """The files below a folder that must not be opened, and why; told without loading any."""
    found = {}
    pending = [folder]
    while pending:
        try:
            entries = sorted(pending.pop().iterdir())
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                mode = entry.lstat().st_mode
                if stat.S_ISDIR(mode):
                    pending.append(entry)
                    continue
                problem = _problem(entry, mode)
            except FileNotFoundError:  # another process's, gone meanwhile
                continue
            if problem:
                found[entry] = f"{entry.relative_to(folder)} {problem}"
    return found


def _problem(path: Path, mode: int) -> str | None:
    if stat.S_ISLNK(mode):
        return "is a link: a run folder has plain files only; replace it by the file, or remove it"
    if not stat.S_ISREG(mode):
        return "is no plain file: remove it"
    if path.suffix.lower() in PICKLE_SUFFIXES or _is_pickle(path):
        return "is a pickle or a torch archive, which may run any code when loaded: remove it"
    return None


def _is_pickle(path: Path) -> bool:
    """Whether the file starts as pickles do since protocol 2, or is an archive that has one."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        # A safetensors file whose header is 640 bytes long starts with these bytes, too.
        return head[4:] != b"\0\0\0\0{"
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        pass
    return False
