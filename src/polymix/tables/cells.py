"""What a table's cells say: missing, a number, a date, a text, an array."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "?"})
"""Texts that stand for an empty cell, in lower case."""

DATES: dict[str, re.Pattern[str]] = {
    "ISO8601": re.compile(
        r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s?(Z|[+-]\d{2}:?\d{2})?)?"
    ),
    "%Y/%m/%d": re.compile(r"\d{4}/\d{1,2}/\d{1,2}"),
    "%d.%m.%Y": re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}"),
    "%m/%d/%Y": re.compile(r"(0?[1-9]|1[0-2])/\d{1,2}/\d{4}"),
    "%d/%m/%Y": re.compile(r"\d{1,2}/(0?[1-9]|1[0-2])/\d{4}"),
}
"""Formats of dates, and what a cell of each looks like; the first that fits enough cells is it."""

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE
)
_LONGEST = 5_000_000


def cells_of(column: pd.Series) -> np.ndarray:
    """A column's cells, `(N,)` object, None where a cell is empty."""
    values = column.to_numpy(dtype=object)
    found = np.empty(len(values), object)
    for row, value in enumerate(values):
        value = well_formed(value) if isinstance(value, str) else value
        found[row] = None if is_missing(value) else value
    return found


def well_formed(text: str) -> str:
    """A text without lone surrogates, which no file and no screen takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: no value, a NaN, or a text that stands for one."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, str):
        return (len(value) < 8 and value.strip().lower() in MISSING) or not value.strip()
    if isinstance(value, float | np.floating):
        return bool(math.isnan(value))
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return False


def text_of(value: Any) -> str:
    """A cell as text; whole numbers without a point, so that 1, 1.0 and "1" are one category."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float | np.floating) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return well_formed(str(value)).strip()


def number_of(value: Any) -> float:
    """A cell as a number; NaN where it is none, infinite where it is too large."""
    if isinstance(value, str):
        text = value.strip().lstrip("$€£").rstrip("%").strip()
        if _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")
        return float(text) if len(text) < 400 and _NUMBER.fullmatch(text) else math.nan
    if isinstance(value, bool | int | float | np.number | np.bool_) and not isinstance(
        value, complex | np.complexfloating
    ):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return math.nan


def numbers_of(cells: np.ndarray) -> np.ndarray:
    """Cells `(N,)` as float64; NaN where a cell is empty or no number."""
    return np.array([math.nan if c is None else number_of(c) for c in cells], np.float64)


def date_format(cells: Sequence[Any], share: float = 0.9) -> str | None:
    """The format in which at least `share` of cells, none empty, are dates; none if none is it."""
    if not len(cells):
        return None
    stamps = sum(isinstance(c, pd.Timestamp | np.datetime64) or _is_date(c) for c in cells)
    if stamps >= share * len(cells):
        return "ISO8601"
    texts = [c.strip() for c in cells if isinstance(c, str)]
    for name, pattern in DATES.items():
        if sum(pattern.fullmatch(t) is not None for t in texts) >= share * len(cells):
            return name
    return None


def _is_date(value: Any) -> bool:
    return hasattr(value, "year") and hasattr(value, "month") and not isinstance(value, str)


def dates_of(cells: np.ndarray, layout: str) -> pd.Series:
    """Cells `(N,)` as times in UTC; NaT where a cell is empty or no such date."""
    texts = [
        None
        if c is None
        else (c.strip() if isinstance(c, str) else pd.Timestamp(c).isoformat())
        if isinstance(c, str | pd.Timestamp | np.datetime64) or _is_date(c)
        else "no date"
        for c in cells
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on formats that it must guess
        return pd.Series(
            pd.to_datetime(pd.Series(texts, dtype=object), format=layout, errors="coerce", utc=True)
        )


def array_of(value: Any) -> np.ndarray | None:
    """A cell that holds an array, `(T,)` or `(T, C)` float64; none where it is no array.

    Lists, arrays, and texts that are JSON lists of numbers.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("[") or len(text) > _LONGEST:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list | tuple | np.ndarray):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if isinstance(value, np.ndarray) and value.dtype == object:
                value = [np.asarray(part, np.float64) for part in value]
            if isinstance(value, np.ndarray) and value.dtype.kind not in "buif":
                return None
            array = np.asarray(value, np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError, Warning):
        return None
    return array if array.ndim in (1, 2) and array.size else None


def words_of(value: Any) -> int:
    """How many words a cell has."""
    return len(value.split()) if isinstance(value, str) else 1


def labels_of(value: Any, separator: str | None) -> list[str]:
    """The labels of a multilabel cell: a list's, or those between separators."""
    if isinstance(value, str):
        text = value.strip()
        if separator is None:
            try:
                parts = json.loads(text) if text.startswith("[") else [text]
            except (ValueError, RecursionError):
                parts = [text]
        else:
            parts = text.split(separator)
    elif isinstance(value, list | tuple | set | frozenset | np.ndarray):
        parts = list(value)
    else:
        parts = [value]
    return list(dict.fromkeys(text_of(p) for p in parts if not is_missing(p)))
