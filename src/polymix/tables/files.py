"""Tables from files and frames: CSV, TSV, JSON lines, Parquet, pandas."""

from __future__ import annotations

import codecs
import hashlib
import json
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix.errors import DataError, did_you_mean
from polymix.tables.cells import cells_of, well_formed
from polymix.tables.parquet import read_parquet
from polymix.tables.room import check_cells, check_columns
from polymix.tables.separated import check_once, read_separated

READ = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")
WRITTEN = (".csv", ".tsv", ".txt")
"""Forms of files in which every cell is a text."""

BLOCK = 1 << 24
"""Bytes of a file that are read at once."""

MOST_PROBLEMS = 20
"""Lines that are told of where they cannot be read."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Table:
    """A table's cells.

    Attributes:
        name: the file's, without its ending; `table` of a frame.
        folder: what paths in cells are relative to.
        columns: names, in order.
        cells: by column, `(N,)` object, None where a cell is empty.
        digest: sixteen hex digits that stand for all cells.
        path: the file, if it is one.
        notes: what was noticed in reading.
    """

    name: str
    folder: Path
    columns: tuple[str, ...]
    cells: dict[str, np.ndarray] = field(repr=False)
    digest: str
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cells[self.columns[0]])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.cells:
            raise DataError(f"no column '{name}': {did_you_mean(name, self.columns)}")
        return self.cells[name]

    def missing_columns(self, wanted: dict[str, str]) -> list[str]:
        """A line for each wanted column that is not there, with what wants it."""
        return [
            f"{why} '{name}': the table has no such column, {did_you_mean(name, self.columns)}"
            for name, why in wanted.items()
            if name not in self.cells
        ]


def open_table(source: str | Path | pd.DataFrame | Table) -> Table:
    """Read a table.

    Args:
        source: a file, its format by its ending (see `READ`), or a frame, whose paths are relative
            to the working folder; an open table stays as it is.

    Raises:
        DataError: it cannot be read as a table, is empty, or names a column twice.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, pd.DataFrame):
        return _checked(source, "table", "the table", Path.cwd(), None, ())
    path = Path(source)
    if path.suffix.lower() not in READ:
        raise DataError(f"{path}: a table's name ends in {', '.join(READ)}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        what = "is no plain file" if path.exists() and not path.is_dir() else what
        raise DataError(f"{path}: {what}; name a table's file")
    notes: list[str] = []
    try:
        frame = _read(path, notes)
    except (OSError, MemoryError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    name = well_formed(path.stem)
    return _checked(frame, name, str(path), path.resolve().parent, path, tuple(notes))


def _read(path: Path, notes: list[str]) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return read_parquet(path)
    text = _decoded(path, notes)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _json(path, text)
    return read_separated(path, text, "\t" if suffix == ".tsv" else None, notes)


def _decoded(path: Path, notes: list[str]) -> str:
    with path.open("rb") as file:
        data = bytearray(file.read(BLOCK))
        encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
        wide = encoding in ("utf-16", "utf-32")
        # A file of nothing but holes has any size: it is refused before it is in memory.
        while (wide or b"\0" not in data[-BLOCK:]) and (block := file.read(BLOCK)):
            data += block
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8" or b"\0" in data:
            raise DataError(f"{path} is no text in {encoding}: save it as UTF-8") from None
        text = data.decode("cp1252", errors="replace")
        notes.append(f"{path.name} is not UTF-8: it was read as Windows-1252")
    if "\0" in text:
        raise DataError(
            f"{path} holds NUL characters: it is no text, or not UTF-8; save it as such"
        )
    return text


def _json(path: Path, text: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    whole = path.suffix.lower() == ".json" and text.lstrip().startswith("[")
    lines = [(1, text)] if whole else list(enumerate(text.split("\n"), 1))
    for number, line in lines:
        if len(problems) >= MOST_PROBLEMS:
            problems.append(f"{path}: and maybe others")
            break
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}, line {number}: not JSON ({' '.join(str(error).split())})")
            continue
        for row in said if whole and isinstance(said, list) else [said]:
            if isinstance(row, dict):
                rows.append(row)
            elif len(problems) < MOST_PROBLEMS:
                got = reprlib.repr(row)[:40]
                problems.append(f"{path}, line {number}: an object expected, got {got}")
    if problems:
        raise DataError(problems)
    names = list(dict.fromkeys(name for row in rows for name in row))
    check_columns(path, len(names))
    check_cells(path, len(rows) * len(names), len(text))
    columns = {}
    for name in names:
        cells = np.empty(len(rows), object)
        cells[:] = [row.get(name) for row in rows]
        columns[name] = pd.Series(cells, dtype=object)
    return pd.DataFrame(columns, columns=names, index=range(len(rows)))


def _checked(
    frame: pd.DataFrame, name: str, where: str, folder: Path, path: Path | None,
    notes: tuple[str, ...],
) -> Table:  # fmt: skip
    columns = [well_formed(str(c)) for c in frame.columns]
    check_once(columns, where)
    if not columns or not len(frame):
        raise DataError(
            f"{where} has {len(frame)} rows and {len(columns)} columns: nothing to read"
        )
    cells = {column: cells_of(frame.iloc[:, i]) for i, column in enumerate(columns)}
    digest = hashlib.sha256(str(len(frame)).encode())
    for column in columns:
        digest.update(f"\n{column}\n".encode("utf-8", "surrogatepass"))
        for cell in cells[column]:
            digest.update(_bytes(cell, where) + b"\x1f")
    return Table(name, folder, tuple(columns), cells, digest.hexdigest()[:16], path, notes)


def _bytes(cell: Any, where: str) -> bytes:
    if isinstance(cell, np.ndarray) and cell.dtype != object:
        return f"{cell.dtype}{cell.shape}".encode() + np.ascontiguousarray(cell).tobytes()
    try:
        return f"{type(cell).__name__}:{cell}".encode("utf-8", "surrogatepass")
    except RecursionError:
        raise DataError(f"{where} holds a list in lists without end: flatten it") from None
