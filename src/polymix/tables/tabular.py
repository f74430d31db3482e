"""Numbers, categories and dates side by side: `(D,)` float32, ready for a model.

Numbers are centred at the median, divided by the interquartile range and bent towards ±3, so that
an outlier is not louder than all else (RealMLP; Holzmüller et al. 2024, section 3.1). A category
is one number a level, of which a linear layer makes an embedding; a level that was not seen often
enough is the unseen one, and where no training row had such a level, an unseen one is the mean of
those that were seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from polymix.tables.cells import level_of, numbers_of, unit_of
from polymix.tables.dates import dates_of
from polymix.tables.parts import CategoryPart, DatePart, NumberPart, Part, TextNumbersPart
from polymix.tables.recipe import TabularRecipe
from polymix.tables.text_numbers import bent, read_text_numbers, spread

MAX_LEVELS, WIDEST = 1024, 4095
"""Levels of a category, and numbers of a tabular modality, at most."""

LARGEST = float(np.finfo(np.float32).max)


def read_part(part: Part, cells: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    """A column's numbers `(N, width)` float32, and the cause by row of what cannot be read."""
    if isinstance(part, NumberPart):
        return _numbers(part, cells)
    if isinstance(part, TextNumbersPart):
        return read_text_numbers(part, cells), {}
    return _categories(part, cells) if isinstance(part, CategoryPart) else _dates(part, cells)


def _numbers(part: NumberPart, cells: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    values = numbers_of(cells, part.unit)
    finite = np.abs(values) <= LARGEST
    faults = {
        int(row): "not finite" if np.isinf(values[row]) or not np.isnan(values[row]) else
        "not a number"
        for row in np.flatnonzero(~finite) if cells[row] is not None
    }  # fmt: skip
    found = np.zeros((len(cells), part.width), np.float32)
    found[:, 0] = np.where(
        finite, bent((np.where(finite, values, 0) - part.centre) / part.scale), 0
    )
    if part.indicator:
        found[:, 1] = ~finite
    return found, faults


def _categories(part: CategoryPart, cells: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    places = {level_of(level): i for i, level in enumerate(part.levels)}
    unseen = part.width - 1
    mean = np.array(part.shares, np.float32)
    learned = part.shares[unseen] > 0
    found = np.zeros((len(cells), part.width), np.float32)
    for row, cell in enumerate(cells):
        if cell is None:
            place = len(part.levels) if part.missing else unseen
        else:
            place = places.get(level_of(cell), unseen)
        if place == unseen and not learned:
            found[row] = mean
        else:
            found[row, place] = 1.0
    return found, {}


def _dates(part: DatePart, cells: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    times = dates_of(cells, part.layout)
    there = times.notna().to_numpy()
    faults = {int(row): "not a date" for row in np.flatnonzero(~there) if cells[row] is not None}
    found = np.zeros((len(cells), part.width), np.float32)
    days = days_of(times)
    month = (times.dt.month.to_numpy(np.float64, na_value=np.nan) - 1) / 12
    turns = (
        month,
        (np.floor(days) + 3) % 7 / 7,
        days % 1,
    )  # the first of January 1970 was a Thursday
    found[:, 0] = bent((np.where(there, days, part.centre) - part.centre) / part.scale)
    for i, turn in enumerate(turns):
        angle = 2 * np.pi * np.nan_to_num(turn)
        found[:, 1 + 2 * i] = np.where(there, np.sin(angle), 0)
        found[:, 2 + 2 * i] = np.where(there, np.cos(angle), 0)
    found[:, 7] = ~there
    return found, faults


def days_of(times: pd.Series) -> np.ndarray:
    """Times in UTC as days since 1970, `(N,)` float64, NaN where there is none."""
    seconds = times.dt.tz_localize(None).to_numpy().astype("datetime64[s]")  # no year overflows
    return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) / 86_400)


def read_tabular(
    recipe: TabularRecipe, columns: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[dict[int, str]]]:
    """All parts side by side.

    Args:
        recipe: how.
        columns: each part's cells, `(N,)` object.

    Returns:
        `(N, D)` float32; presence `(N,)` bool, false where no part has a value; and each part's
        causes by row.
    """
    values, faults = [], []
    present = np.zeros(len(columns[0]), bool)
    for part, cells in zip(recipe.parts, columns, strict=True):
        found, wrong = read_part(part, cells)
        values.append(found)
        faults.append(wrong)
        there = np.array([cell is not None for cell in cells])
        there[list(wrong)] = False
        present |= there
    return np.concatenate(values, 1), present, faults


def fit_number(column: str, cells: np.ndarray) -> NumberPart:
    """A recipe from training rows' cells."""
    unit = unit_of([cell for cell in cells if cell is not None], 0.5) or ""
    values = numbers_of(cells, unit)
    finite = values[np.abs(values) <= LARGEST]
    if not len(finite):
        return NumberPart(column=column, centre=0.0, scale=1.0, indicator=True)
    centre, scale = spread(finite)
    return NumberPart(
        column=column, centre=centre, scale=scale, indicator=len(finite) < len(values), unit=unit
    )


MAX_CODES, ROWS_A_CODE, APART = 200, 5, 20
"""Whole numbers may be codes where they are no more, each in so many rows on average, and where the
numbers that are used lie so far apart on average: a count uses most of its range."""


def is_code(cells: np.ndarray) -> bool:
    """Whether a column's numbers may be codes, such as zip codes: few, whole, and far apart.

    They are kept as numbers, too: only a model can tell whether their order means anything.
    """
    there = [cell for cell in cells if cell is not None]
    values = numbers_of(np.array(there, object)) if there else np.zeros(0)
    values = values[np.isfinite(values)]
    distinct = len(np.unique(values))
    if distinct < 3 or distinct > MAX_CODES or (values != np.floor(values)).any():
        return False
    spread_out = values.max() - values.min() >= APART * distinct
    return bool(spread_out) and distinct * ROWS_A_CODE <= len(values)


def fit_category(column: str, cells: np.ndarray, most: int = MAX_LEVELS) -> CategoryPart:
    """A recipe from training rows' cells: the commonest levels first, each in two rows at least.

    Args:
        column: its name.
        cells: `(n,)`.
        most: levels, at most.
    """
    texts = [None if cell is None else level_of(cell) for cell in cells]
    counts = Counter(t for t in texts if t is not None)
    common = sorted((t for t in counts if counts[t] > 1), key=lambda t: (-counts[t], t))
    levels = tuple(common[:most])
    gone = sum(t is None for t in texts)
    rows = max(len(texts), 1)
    shares = [counts[level] / rows for level in levels]
    shares += [gone / rows] if gone else []
    rest = len(texts) - gone - sum(counts[level] for level in levels)
    return CategoryPart(
        column=column, levels=levels, shares=(*shares, rest / rows), missing=gone > 0
    )


def fit_date(column: str, cells: np.ndarray, layout: str) -> DatePart:
    """A recipe from training rows' cells."""
    days = days_of(dates_of(cells, layout))
    days = days[np.isfinite(days)]
    if not len(days):
        return DatePart(column=column, layout=layout, centre=0.0, scale=365.25)
    low, centre, high = np.quantile(days, [0.25, 0.5, 0.75])
    return DatePart(
        column=column, layout=layout, centre=float(centre), scale=float(high - low) or 1.0
    )


def levels_within(parts: Sequence[Part], width: int = WIDEST) -> int:
    """How many levels each category may have for all parts to give `width` numbers at most."""
    levels = [len(part.levels) for part in parts if isinstance(part, CategoryPart)]
    left = width - sum(part.width for part in parts) + sum(levels)
    most = MAX_LEVELS
    while most > 1 and sum(min(most, count) for count in levels) > left:
        most -= 1
    return most
