"""Where a run's folder comes to lie: at a free place, and as a copy at another."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from polymix.errors import RunFolderError
from polymix.store.run_folder import RunFolder


def free_path(path: Path | None, name: str) -> Path:
    """A run folder that can be made: `path`, or the first of `runs/NAME`, `runs/NAME-2`, ….

    Raises:
        RunFolderError: `path` is there already.
    """
    if path is None:
        path, count = Path("runs") / name, 1
        while path.exists():
            count += 1
            path = Path("runs") / f"{name}-{count}"
    elif path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file: name another place with --run-dir")
    elif path.exists() and any(path.iterdir()):
        raise RunFolderError(
            f"{path} exists: `polymix resume {path}` goes on with it, "
            "or name another with --run-dir"
        )
    return path


def folder_name(name: str) -> str:
    """A table's or a dataset's name as a folder's, which leads nowhere and is one on any disk.

    >>> folder_name("."), folder_name("../sales (1)")
    ('table', 'sales (1)')
    """
    kept = re.sub(r"[^\w.()+,=@ -]+", "-", name).strip("-. ")
    while len(kept.encode()) > 150:
        kept = kept[:-1]
    return kept or "table"


@contextlib.contextmanager
def reserved(name: str) -> Iterator[Path]:
    """Make the first of `runs/NAME`, `runs/NAME-2`, … that no other run has, or is about to have.

    What is still empty at the end is removed again.

    Raises:
        RunFolderError: no folder can be made.
    """
    while True:
        path = free_path(None, name)
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue  # another run was faster
        except OSError as error:
            raise RunFolderError(f"{path}: {error.strerror}: name another with --run-dir") from None
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()
            path.parent.rmdir()


def copy_run(folder: RunFolder, target: Path) -> None:
    """Copy a run folder, without what can be made again; nobody writes meanwhile.

    Raises:
        RunFolderError: `target` exists, or another process is writing.
    """
    if target.exists():
        raise RunFolderError(f"{target} exists: name another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    with folder.hold(), tempfile.TemporaryDirectory(dir=target.parent) as draft:
        copy = Path(draft) / "run"
        shutil.copytree(folder.path, copy, ignore=shutil.ignore_patterns(".lock", "bank"))
        copy.rename(target)
