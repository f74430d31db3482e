"""Where a run's folder comes to lie: at a free place, and as a copy at another."""

from __future__ import annotations

import shutil
import tempfile
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
