"""Why a cell gives nothing: what the reports count."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

EMPTY = "empty"


class Unreadable(Exception):  # noqa: N818 - no error of the program: it is caught and counted
    """A cell that cannot be read.

    Args:
        cause: in a few words, the same for all cells with the same trouble.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def file_of(cell: Any, folder: Path) -> Path:
    """The file that a cell names.

    Raises:
        Unreadable: there is none, or it is no plain file.
    """
    if not isinstance(cell, str | Path):
        raise Unreadable("no path")
    text = str(cell).strip()
    if "://" in text:
        raise Unreadable("an address, not a file's path")
    try:
        path = folder / text
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable("no such file") from None
    except (OSError, ValueError):
        raise Unreadable("a path that cannot be followed") from None
    if stat.S_ISDIR(mode):
        raise Unreadable("a folder, not a file")
    if not stat.S_ISREG(mode):
        raise Unreadable("no plain file")
    if path.stat().st_size == 0:
        raise Unreadable("an empty file")
    return path
