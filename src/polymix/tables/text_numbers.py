"""The numbers that texts hide: `Paperback, - 7 Sep 2010` has a year, `4.1 out of 5` a score."""

from __future__ import annotations

from typing import get_args

import numpy as np

from polymix.tables.cells import hidden_numbers, text_of
from polymix.tables.parts import Measure, TextMeasure, TextNumbersPart

MEASURES: tuple[Measure, ...] = get_args(Measure)
IN_TEXT = MEASURES[:5]
"""Those that are numbers of the text itself, and may be missing."""

SELDOM, LEAST = 0.02, 3
"""A number is learned from where so many of the training texts, and no fewer, have it."""


def measured(cells: np.ndarray) -> np.ndarray:
    """What is measured of each cell.

    Args:
        cells: `(N,)`, None where one is empty.

    Returns:
        `(N, 8)` float64 in the order of `MEASURES`; NaN where a text has no such number, and
        throughout where a cell is empty.
    """
    found = np.full((len(cells), len(MEASURES)), np.nan)
    for row, cell in enumerate(cells):
        if cell is None:
            continue
        text = text_of(cell)
        numbers = hidden_numbers(text)
        found[row, : min(4, len(numbers))] = numbers[:4]
        if numbers:
            found[row, 4] = max(numbers)
        found[row, 5:] = len(numbers), len(text), len(text.split())
    return found


def fit_text_numbers(column: str, cells: np.ndarray) -> TextNumbersPart | None:
    """A recipe from training rows' cells; none where nothing tells the rows apart.

    Args:
        column: its name.
        cells: `(n,)`.
    """
    values = measured(cells)
    texts = int((~np.isnan(values[:, -1])).sum())
    measures: list[TextMeasure] = []
    told: list[np.ndarray] = []
    for what, own in zip(MEASURES, values.T, strict=True):
        known = own[~np.isnan(own)]
        seldom = len(known) < max(LEAST, SELDOM * texts)
        if seldom or (len(np.unique(known)) < 2 and len(known) == len(own)):
            continue
        if any(np.array_equal(own, other, equal_nan=True) for other in told):
            continue  # the largest is the first where there is but one
        told.append(own)
        centre, scale = spread(known)
        measures.append(
            TextMeasure(what=what, centre=centre, scale=scale, indicator=len(known) < len(own))
        )
    return TextNumbersPart(column=column, measures=tuple(measures)) if measures else None


def holds_numbers(part: TextNumbersPart, cells: np.ndarray, share: float = 0.5) -> bool:
    """Whether at least `share` of a column's texts have a number that tells them apart.

    Args:
        part: fitted on them.
        cells: `(n,)`.
        share: of the texts.
    """
    if not any(measure.what in IN_TEXT for measure in part.measures):
        return False
    texts = [text_of(cell) for cell in cells if cell is not None]
    return sum(bool(hidden_numbers(text)) for text in texts) >= share * len(texts)


def read_text_numbers(part: TextNumbersPart, cells: np.ndarray) -> np.ndarray:
    """A column's numbers `(N, width)` float32, scaled and bent as plain numbers are."""
    values = measured(cells)
    found = []
    for measure in part.measures:
        own = values[:, MEASURES.index(measure.what)]
        gone = np.isnan(own)
        found.append(np.where(gone, 0.0, bent((own - measure.centre) / measure.scale)))
        if measure.indicator:
            found.append(gone)
    return np.stack(found, axis=1).astype(np.float32)


def spread(values: np.ndarray) -> tuple[float, float]:
    """The median of finite numbers `(n,)`, and what they are divided by: the quartiles' distance.

    Half of the range where the quartiles are the same; one where all numbers are.
    """
    low, centre, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = high - low or (values.max() - values.min()) / 2
    return float(centre), float(scale) if np.isfinite(scale) and scale > 1e-30 else 1.0


def bent(x: np.ndarray) -> np.ndarray:
    """Numbers drawn smoothly into ±3."""
    return np.asarray(x / np.sqrt(1 + np.square(x / 3)))
