"""IDX files, MNIST's format: a magic number, the axes' sizes, the bytes; gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from polymix.errors import DataError

UBYTE = 0x08
LARGEST = 1 << 30


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Read an IDX file of bytes, unpacking it in memory where it is gzipped.

    Args:
        path: the file; its first bytes, not its name, say whether it is gzipped.
        axes: how many axes it must have.

    Returns:
        A uint8 array of `axes` axes.

    Raises:
        DataError: it cannot be read, is cut short, or is not such a file.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
            return parse_idx(stream, axes, str(path))
    except EOFError:
        raise DataError(f"{path} is cut short: download it again") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; download it again") from None


def parse_idx(stream: IO[bytes], axes: int, where: str) -> np.ndarray:
    """Read an IDX array of bytes from a stream that holds nothing else.

    Args:
        stream: where to read.
        axes: how many axes it must have.
        where: how the stream is called in messages.

    Returns:
        A uint8 array of `axes` axes.

    Raises:
        DataError: it is not such an array.
    """
    wanted = bytes([0, 0, UBYTE, axes])
    magic = stream.read(4)
    if magic != wanted:
        raise DataError(
            f"{where} starts with {magic.hex(' ') or 'nothing'}, an IDX file of bytes with "
            f"{axes} {'axis' if axes == 1 else 'axes'} with {wanted.hex(' ')}: "
            "is it another file under this name? Download it again"
        )
    header = stream.read(4 * axes)
    if len(header) != 4 * axes:
        raise DataError(f"{where} is cut short in its header: download it again")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    count = math.prod(shape)
    if count > LARGEST:
        raise DataError(f"{where} claims the shape {shape}, which no MNIST file has")
    body = stream.read(count + 1)
    if len(body) != count:
        held = "more" if len(body) > count else f"{len(body)}"
        raise DataError(
            f"{where} says {shape}, which is {count} bytes, but holds {held}: download it again"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)
