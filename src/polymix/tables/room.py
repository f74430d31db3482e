"""How much a table's file may unfold to: a small file that asks for gigabytes is refused."""

from __future__ import annotations

from pathlib import Path

from polymix.errors import DataError

MOST_CELLS = 10_000_000
"""Cells that any file may have, however small."""

MOST_COLUMNS = 20_000
"""Columns that a table may have."""

MOST_BYTES = 100_000_000
"""Bytes that any file may unpack to, however small."""

PACKED = 100
"""Times that a file may be packed: cells and bytes for each of its bytes, at most."""

MOST_TEXT = 1_000_000_000
"""Characters that all of a table's texts may have."""


def check_cells(path: Path, cells: int, most: int) -> None:
    """Make sure that a file does not unfold to far more cells than it has room for.

    Args:
        path: the file.
        cells: that reading it would make.
        most: cells that a file of its size may have, where they are many.

    Raises:
        DataError: it does.
    """
    if cells > max(MOST_CELLS, most):
        raise DataError(
            f"{path} unfolds to {cells:,} cells, far more than its size calls for: its rows do "
            "not fill its columns; write those columns alone that are needed"
        )


def check_columns(path: Path, count: int) -> None:
    """Make sure that a table has no more columns than can be looked at.

    Raises:
        DataError: it has.
    """
    if count > MOST_COLUMNS:
        raise DataError(
            f"{path} has {count:,} columns, and {MOST_COLUMNS:,} are the most: leave some out"
        )


def check_bytes(path: Path, unpacked: int, packed: int) -> None:
    """Make sure that a file does not unpack to far more bytes than it has.

    Raises:
        DataError: it does.
    """
    if unpacked > max(MOST_BYTES, PACKED * packed):
        raise DataError(
            f"{path} has {packed:,} bytes and unpacks to {unpacked:,}: more than a table is "
            f"packed; write it again, or fewer of its rows"
        )


def check_text(path: Path, characters: int) -> None:
    """Make sure that a table's texts can be held.

    Raises:
        DataError: they cannot.
    """
    if characters > MOST_TEXT:
        raise DataError(
            f"{path} holds texts of {characters:,} characters in all, and {MOST_TEXT:,} are the "
            "most: shorten them, or use fewer rows"
        )
