"""Dates in cells: the layout that most of a column's cells have, and the times that they tell."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from polymix.tables.cells import text_of

ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s?(Z|[+-]\d{2}:?\d{2})?)?"
)
COMPACT = "%Y%m%d"
DAYS = (
    "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
    "%b %d %Y", "%B %d %Y", "%d-%b-%Y", "%d-%B-%Y", "%d-%b-%y", "%a, %d %b %Y", "%a %b %d %Y",
    "%Y-%m-%d",
)  # fmt: skip
TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
ZONES = ("", " %z", "%z")
LAYOUTS = tuple(
    day + time + zone for day, time, zone in product(DAYS, TIMES, ZONES) if time or not zone
)
"""What `pandas.to_datetime` is asked to fit, each from a cell's first character to its last."""

SAMPLE = 64
_SHAPED = re.compile(r"(?=.*\d)[\w ,./:+-]{6,40}")
_EIGHT = re.compile(r"(19|20)\d{6}", re.ASCII)


def date_format(cells: Sequence[Any], share: float = 0.9) -> str | None:
    """The format in which at least `share` of cells, none empty, are dates; none if none is it.

    Of two that fit, such as the day first and the month first, the one that fits more cells.

    Args:
        cells: of a column; numbers are dates where all of them are such as 20240531.
        share: of them that must fit.

    Returns:
        `ISO8601`, or a format as `pandas.to_datetime` takes it.
    """
    if not len(cells):
        return None
    stamps = sum(isinstance(c, pd.Timestamp | np.datetime64) or _is_date(c) for c in cells)
    texts = [c.strip() for c in cells if isinstance(c, str)]
    if stamps + sum(ISO.fullmatch(t) is not None for t in texts) >= share * len(cells):
        return "ISO8601"
    if all(_EIGHT.fullmatch(text_of(c)) for c in cells):
        return COMPACT if _fitting([text_of(c) for c in cells], COMPACT) == len(cells) else None
    shaped = [t for t in texts if _SHAPED.fullmatch(t)]
    if len(shaped) < share * len(cells):
        return None
    some = shaped[:: max(1, len(shaped) // SAMPLE)]
    likely = [layout for layout in LAYOUTS if _fitting(some, layout) >= share / 2 * len(some)]
    found = max(likely, key=lambda layout: _fitting(shaped, layout), default=None)
    return found if found and _fitting(shaped, found) >= share * len(cells) else None


def _fitting(texts: Sequence[str], layout: str) -> int:
    return int(_times(texts, layout).notna().sum())


def _is_date(value: Any) -> bool:
    return hasattr(value, "year") and hasattr(value, "month") and not isinstance(value, str)


def dates_of(cells: np.ndarray, layout: str) -> pd.Series:
    """Cells `(N,)` as times in UTC; NaT where a cell is empty or no such date."""
    texts = [
        None
        if c is None
        else c.strip()
        if isinstance(c, str)
        else pd.Timestamp(c).isoformat()
        if isinstance(c, pd.Timestamp | np.datetime64) or _is_date(c)
        else text_of(c)
        if layout == COMPACT
        else "no date"
        for c in cells
    ]
    return _times(texts, layout)


def _times(texts: Sequence[Any], layout: str) -> pd.Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on formats that it must guess
        return pd.Series(
            pd.to_datetime(pd.Series(texts, dtype=object), format=layout, errors="coerce", utc=True)
        )
