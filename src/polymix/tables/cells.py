"""What a table's cells say: missing, a number, a text, an array."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "?"})
"""Texts that stand for an empty cell, in lower case."""

_THOUSANDS = re.compile(r"[+-]?\d{1,3}((,\d{3})+|(,\d{2})+,\d{3})(\.\d*)?", re.ASCII)
_CURRENCY = re.compile(r"^([+-]?)\s*(?:[$€£¥₹]|USD|EUR|GBP|INR|Rs\.?)\s*(?=[\d.+-])")
_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE
)
_MEASURED = re.compile(
    r"([^\w\s]?\s*[+-]?[0-9,]*\.?[0-9]+)\s*"
    r"([^\W\d_]\D{0,15}|(?:out of|of|/)\s*[0-9]+\D{0,15})"
)
_HIDDEN = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?", re.ASCII)
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,30})(\.0+|(\.\d{1,30})?[eE]\+?\d{1,2})", re.ASCII)
_DIGITS = 22
"""Digits of a whole number that is told by its float."""

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
    return isinstance(value, Decimal) and value.is_nan()


def text_of(value: Any) -> str:
    """A cell as text; whole numbers without a point, so that 1, 1.0 and "1" are one category."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float | np.floating) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < _DIGITS:
        return format(value.normalize(), "f")
    return well_formed(str(value)).strip()


def level_of(value: Any) -> str:
    """What a cell is as a category or a class: the same however a whole number is spelled.

    A column of whole numbers with a gap is written as one of floats by many a program.

    >>> [level_of(cell) for cell in (1, 1.0, "1", "1.0", "1e+16", "v1.0")]
    ['1', '1', '1', '1', '10000000000000000', 'v1.0']
    """
    text = text_of(value)
    if not _WHOLE.fullmatch(text):
        return text
    number = float(text)
    plain = text.partition(".")[0] if "e" not in text.lower() else ""
    if not math.isfinite(number) or number != math.floor(number) or abs(number) >= 10**_DIGITS:
        return text
    return plain if plain not in ("", "-0") else str(int(number))


def number_of(value: Any) -> float:
    """A cell as a number; NaN where it is none, infinite where it is too large."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) < 400 and _NUMBER.fullmatch(text):  # most are plain, and there may be millions
            return float(text)
        text = _CURRENCY.sub(r"\1", text, count=1).rstrip("%$€£¥₹").strip()
        if _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")
        return float(text) if len(text) < 400 and _NUMBER.fullmatch(text) else math.nan
    if isinstance(value, bool | int | float | Decimal | np.number | np.bool_) and not isinstance(
        value, complex | np.complexfloating
    ):
        try:
            return float(value)
        except OverflowError:
            return math.inf
        except ValueError:  # a decimal that signals
            return math.nan
    return math.nan


def numbers_of(cells: np.ndarray, unit: str = "") -> np.ndarray:
    """Cells `(N,)` as float64; NaN where a cell is empty or no number.

    Args:
        cells: of a column.
        unit: that may stand behind a number.
    """
    return np.array(
        [math.nan if c is None else number_of(without_unit(c, unit)) for c in cells], np.float64
    )


def without_unit(value: Any, unit: str) -> Any:
    """A cell without the unit behind its number."""
    if not unit or not isinstance(value, str):
        return value
    text = value.strip()
    return text[: -len(unit)].strip() if text.lower().endswith(unit.lower()) else text


def unit_of(cells: Sequence[Any], share: float) -> str | None:
    """The unit that stands behind a number in at least `share` of cells; none if none does."""
    found = [_MEASURED.fullmatch(c.strip()) if isinstance(c, str) else None for c in cells]
    units = Counter(match[2].strip().lower() for match in found if match)
    if not units:
        return None
    unit, _ = units.most_common(1)[0]
    fits = sum(not math.isnan(number_of(without_unit(c, unit))) for c in cells)
    return unit if fits >= share * len(cells) else None


def hidden_numbers(text: str) -> list[float]:
    """The numbers in a text, in order, thousands' commas taken away.

    >>> hidden_numbers("Paperback, - 7 Sep 2010, 1,299 pages")
    [7.0, 2010.0, 1299.0]
    """
    found = (float(m[0].replace(",", "")) for m in _HIDDEN.finditer(text[:10_000]))
    return [number for number in found if number <= 1e15]


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
