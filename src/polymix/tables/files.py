"""Tables from files and frames: CSV, TSV, JSON lines, Parquet, pandas."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix.errors import DataError, MissingExtraError, did_you_mean
from polymix.tables.cells import cells_of, well_formed

READ = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")
WRITTEN = (".csv", ".tsv", ".txt")
"""Forms of files in which every cell is a text."""

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


def open_table(source: str | Path | pd.DataFrame) -> Table:
    """Read a table.

    Args:
        source: a file, its format by its ending (see `READ`), or a frame, whose paths are relative
            to the working folder.

    Raises:
        DataError: it cannot be read as a table, is empty, or names a column twice.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if isinstance(source, pd.DataFrame):
        return _checked(source, "table", "the table", Path.cwd(), None, ())
    path = Path(source)
    if path.suffix.lower() not in READ:
        raise DataError(f"{path}: a table's name ends in {', '.join(READ)}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise DataError(f"{path}: {what}; name a table's file")
    notes: list[str] = []
    try:
        frame = _read(path, notes)
    except (OSError, MemoryError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return _checked(frame, path.stem, str(path), path.resolve().parent, path, tuple(notes))


def _read(path: Path, notes: list[str]) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _parquet(path)
    text = _decoded(path, notes)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _json(path, text)
    return _separated(path, text, "\t" if suffix == ".tsv" else None)


def _decoded(path: Path, notes: list[str]) -> str:
    data = path.read_bytes()
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
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


def _separated(path: Path, text: str, delimiter: str | None) -> pd.DataFrame:
    if not text.strip():
        raise DataError(f"{path} is empty: a table has a header, and a row at least")
    first = text.lstrip("\r\n").split("\n", 1)[0]
    counts = {d: first.count(d) for d in ",;\t|"}
    delimiter = delimiter or max(counts, key=lambda d: counts[d])
    try:
        header = next(row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
                      if row)  # fmt: skip
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{path}: its header cannot be read ({error})") from None
    names = [name.strip() or f"column_{i}" for i, name in enumerate(header)]
    _once(names, str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text, newline=""), sep=delimiter, header=0, names=names, dtype=object,
                keep_default_na=False, na_filter=False, index_col=False, skip_blank_lines=True,
            )  # fmt: skip
    except (ValueError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).replace("Error tokenizing data. C error: ", "").split())
        raise DataError(
            f"{path} cannot be read as a table with {len(names)} columns ({reason}): put cells "
            f"that hold {delimiter!r} or a line break in double quotes"
        ) from None
    return frame


def _json(path: Path, text: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    whole = path.suffix.lower() == ".json" and text.lstrip().startswith("[")
    lines = [(1, text)] if whole else list(enumerate(text.split("\n"), 1))
    for number, line in lines:
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}, line {number}: not JSON ({' '.join(str(error).split())})")
            continue
        for row in said if whole and isinstance(said, list) else [said]:
            if isinstance(row, dict):
                rows.append({str(key): value for key, value in row.items()})
            else:
                problems.append(f"{path}, line {number}: an object expected, got {str(row)[:40]}")
    if problems:
        raise DataError(problems)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        cells = np.empty(len(rows), object)
        cells[:] = [row.get(name) for row in rows]
        columns[name] = pd.Series(cells, dtype=object)
    return pd.DataFrame(columns, columns=names, index=range(len(rows)))


def _parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError(
            f'reading Parquet needs pyarrow ({error}): pip install "polymix[parquet]"'
        ) from None
    try:
        frame: pd.DataFrame = parquet.read_table(path).to_pandas(ignore_metadata=True)
    except (ValueError, OSError, KeyError, NotImplementedError, TypeError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error)[:200]}") from None
    return frame.set_axis([str(c) for c in frame.columns], axis=1)


def _once(names: list[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{where}: more than one column is called {' or '.join(map(repr, twice))}: rename them"
        )


def _checked(
    frame: pd.DataFrame, name: str, where: str, folder: Path, path: Path | None,
    notes: tuple[str, ...],
) -> Table:  # fmt: skip
    columns = [well_formed(str(c)) for c in frame.columns]
    _once(columns, where)
    if not columns or not len(frame):
        raise DataError(
            f"{where} has {len(frame)} rows and {len(columns)} columns: nothing to read"
        )
    cells = {column: cells_of(frame.iloc[:, i]) for i, column in enumerate(columns)}
    digest = hashlib.sha256(str(len(frame)).encode())
    for column in columns:
        digest.update(f"\n{column}\n".encode("utf-8", "surrogatepass"))
        for cell in cells[column]:
            digest.update(_bytes(cell) + b"\x1f")
    return Table(name, folder, tuple(columns), cells, digest.hexdigest()[:16], path, notes)


def _bytes(cell: Any) -> bytes:
    if isinstance(cell, np.ndarray) and cell.dtype != object:
        return f"{cell.dtype}{cell.shape}".encode() + np.ascontiguousarray(cell).tobytes()
    return f"{type(cell).__name__}:{cell}".encode("utf-8", "surrogatepass")
