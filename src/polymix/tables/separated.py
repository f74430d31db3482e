"""Text tables: what separates their cells, which lines are none of theirs, and their cells."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from polymix.errors import DataError
from polymix.tables.room import check_cells, check_columns

DELIMITERS = (",", ";", "\t", "|")
LOOKED_AT, RECORDS = 1 << 20, 50
"""Characters and rows by which the separator is found."""

_DECLARED = re.compile(r'"?sep=(.)"?[ \t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""The first line by which Excel says what separates cells."""

Record = tuple[int, int, list[str]]
"""The first of a row's lines, the one behind its last, and its cells."""


def read_separated(path: Path, text: str, delimiter: str | None, notes: list[str]) -> pd.DataFrame:
    """A text table's cells, all of them texts.

    Args:
        path: its file, for messages.
        text: what the file holds.
        delimiter: what separates cells; found where not given.
        notes: what is noticed is added.

    Raises:
        DataError: it is no table.
    """
    text = text.lstrip("\r\n")
    if declared := _DECLARED.match(text):
        delimiter, text = declared[1], text[declared.end() :].lstrip("\r\n")
    if not text.strip():
        raise DataError(f"{path} is empty: a table has a header, and a row at least")
    delimiter = delimiter or find_delimiter(text)
    text = _without_comments(text, delimiter, path.name, notes)
    try:
        header = next((cells for _, _, cells in _records(text, delimiter)), [])
    except csv.Error as error:
        raise DataError(f"{path}: its header cannot be read ({error})") from None
    check_columns(path, len(header))
    names = [name.strip() or f"column_{i}" for i, name in enumerate(header)]
    check_once(names, str(path))
    # A row that ends before its columns do is filled up.
    rows = max(text.count("\n"), text.count("\r")) + 1
    check_cells(path, rows * len(names), 2 * len(text))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text, newline=""), sep=delimiter, header=0, names=names, dtype=object,
                keep_default_na=False, na_filter=False, index_col=False, skip_blank_lines=True,
            )  # fmt: skip
    except (ValueError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).replace("Error tokenizing data. C error: ", "").split())
        raise DataError(
            f"{path} cannot be read as a table with {len(names)} columns ({reason}): put cells "
            f"that hold {delimiter!r} or a line break in double quotes"
        ) from None


def check_once(names: list[str], where: str) -> None:
    """Make sure that no column's name is there twice.

    Raises:
        DataError: one is; some of them are named.
    """
    seen: set[str] = set()
    twice = sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
    if twice:
        shown = " or ".join(map(repr, twice[:5]))
        raise DataError(f"{where}: more than one column is called {shown}: rename them")


def find_delimiter(text: str) -> str:
    r"""What separates cells: by it, all of the first rows have the same number of cells.

    Where that is true of none, the header has the most cells by it. A quoted cell is one cell,
    whatever it holds.

    >>> find_delimiter('"price, EUR";"weight, kg"\n1,5;2,3\n')
    ';'
    """
    even, header = dict[str, int](), dict[str, int]()
    for delimiter in DELIMITERS:
        widths = _widths(text[:LOOKED_AT], delimiter, strict=True)
        if len(set(widths)) == 1 and widths[0] > 1:
            even[delimiter] = widths[0]
        header[delimiter] = max(_widths(text[:LOOKED_AT], delimiter)[:1], default=0)
    found = even or header
    return max(found, key=lambda one: found[one])


def _widths(text: str, delimiter: str, *, strict: bool = False) -> list[int]:
    """Cells of each of the first rows, none where they cannot be read; comments do not count.

    Args:
        text: of the table.
        delimiter: what separates cells.
        strict: whether something behind a quoted cell, but for that, is an error.
    """
    found: list[int] = []
    try:
        for _, _, cells in _records(text, delimiter, strict=strict):
            if not cells[0].startswith("#"):
                found.append(len(cells))
            if len(found) == RECORDS:
                return found
    except csv.Error:
        return []
    # The last row may have been cut in two.
    return found[:-1] if len(text) == LOOKED_AT and len(found) > 1 else found


def _records(text: str, delimiter: str, *, strict: bool = False) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    begin = 0
    for cells in reader:
        if cells:
            yield begin, reader.line_num, cells
        begin = reader.line_num


def _without_comments(text: str, delimiter: str, name: str, notes: list[str]) -> str:
    """The text without lines that begin with `#` and are no row of the table."""
    if not text.startswith("#") and "\n#" not in text and "\r#" not in text:
        return text
    try:
        comments = _comments(text, delimiter)
    except csv.Error:
        return text  # what is wrong with it is told where it is read
    if not comments:
        return text
    gone = {line for begin, end, _ in comments for line in range(begin, end)}
    many = "1 line" if len(comments) == 1 else f"{len(comments)} lines"
    notes.append(f"{many} of {name} that begin with '#' were taken for comments and left out")
    lines = io.StringIO(text, newline="")
    return "".join(line for number, line in enumerate(lines) if number not in gone)


def _comments(text: str, delimiter: str) -> list[Record]:
    """The rows that are comments.

    `#id,name` may well be a header: what has as many cells as the table is a comment only above
    its header, and only where a space follows.
    """
    marked: list[Record] = []
    above, width = 0, 0
    for record in _records(text, delimiter):
        if record[2][0].startswith("#"):
            marked.append(record)
        elif not width:
            above, width = len(marked), len(record[2])
    found = []
    for place, record in enumerate(marked):
        cells, spaced = record[2], record[2][0].startswith("# ")
        if len(cells) == width:
            comment = place < above and (spaced or place < above - 1)
        else:
            comment = place < above or len(cells) == 1 or spaced
        if comment:
            found.append(record)
    return found
