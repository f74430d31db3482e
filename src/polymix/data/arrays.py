"""Arrays on disk: made with all the room that they will take, and mapped."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

_BLOCK = bytes(1 << 20)
_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What a file system says that cannot be asked for room."""


def create_array(path: Path, dtype: np.dtype | str, shape: tuple[int, ...]) -> np.memmap:
    """Make an array's file, zeros, and map it for writing.

    Its room is taken beforehand: a mapped page for which the disk has none kills the process.

    Raises:
        OSError: there is no room; the file is gone then.
    """
    try:
        array: np.memmap = open_memmap(path, "w+", np.dtype(dtype), shape)
        with path.open("r+b") as file:
            _take_room(file.fileno(), path.stat().st_size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return array


def _take_room(file: int, size: int) -> None:
    """Have the disk give a file all its bytes; beyond its header they are zeros."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
        else:
            return
    header = 4096  # has been written
    os.lseek(file, min(header, size), os.SEEK_SET)
    for begin in range(min(header, size), size, len(_BLOCK)):
        os.write(file, _BLOCK[: size - begin])
