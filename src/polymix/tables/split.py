"""How a table's rows are split: at random, by group, by time, or as a column says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polymix import seeds
from polymix.data.split import TEST, TRAIN, VAL, strata, stratified_codes
from polymix.errors import DataError, UsageError
from polymix.tables.cells import numbers_of, text_of
from polymix.tables.dates import date_format, dates_of
from polymix.tables.files import Table
from polymix.tables.tabular import days_of

VAL_SHARE, TEST_SHARE = 0.15, 0.15
"""Of the rows; all others train."""

NAMES: Mapping[str, int] = {
    **dict.fromkeys(("train", "training", "tr", "fit"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", "tune", "tuning"), VAL),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out"), TEST),
}
"""What a split column's cells may say."""


def random_codes(targets: np.ndarray, seed: int, test: float = TEST_SHARE) -> np.ndarray:
    """Stratified codes `(N,)`; every class has a training row, and two splits a row at least.

    Args:
        targets: `(N,)` or `(N, L)`.
        seed: of the draw.
        test: share of test rows.

    Raises:
        DataError: there are fewer than two rows.
    """
    codes = stratified_codes(targets, VAL_SHARE, test, seed)
    if targets.ndim == 1 and not np.issubdtype(targets.dtype, np.floating):
        codes[np.isin(targets, np.setdiff1d(targets, targets[codes == TRAIN]))] = TRAIN
    return _usable(codes, seed)


def group_codes(
    targets: np.ndarray, groups: Sequence[str | None], seed: int, test: float = TEST_SHARE
) -> np.ndarray:
    """Codes `(N,)` with no group on two sides; a row without a group is one of its own.

    The largest groups first, each goes where its classes are wanted most.

    Args:
        targets: `(N,)` or `(N, L)`.
        groups: of each row.
        seed: of the draw.
        test: share of test rows.

    Raises:
        DataError: there are fewer than two groups.
    """
    codes = group_numbers(groups)
    count = int(codes.max()) + 1
    if count < 2:
        raise DataError("the group column has one group: two at least are needed to split by it")
    classes = strata(targets)
    table = np.zeros((count, int(classes.max()) + 1))
    np.add.at(table, (codes, classes), 1)
    rng = seeds.stream(seed, "split", "groups")
    order = np.lexsort((rng.random(count), -table.sum(1)))
    wanted = np.array([1 - VAL_SHARE - test, VAL_SHARE, test])[:, None] * table.sum(0)
    left = wanted.copy()
    places = np.zeros(count, np.uint8)
    for group in order:
        # How much of each side's share is still to be filled, in the classes that the group has.
        need = (left / np.maximum(wanted, 1e-9) * table[group]).sum(1)
        places[group] = need.argmax()
        left[places[group]] -= table[group]
    for side in (TRAIN, VAL):
        if not (places == side).any():
            smallest = min(
                (g for g in range(count) if (places == places[g]).sum() > 1 or places[g] == TEST),
                key=lambda g: table[g].sum(),
            )
            places[smallest] = side
    return np.asarray(places[codes])


def group_numbers(groups: Sequence[str | None]) -> np.ndarray:
    """A number for each row's group, `(N,)` int64 from 0; a row without one is one of its own."""
    names = [f"\0{row}" if group is None else group for row, group in enumerate(groups)]
    _, codes = np.unique(np.array(names, object).astype(str), return_inverse=True)
    return np.asarray(codes, np.int64).reshape(-1)


def time_codes(cells: np.ndarray, test: float = TEST_SHARE) -> np.ndarray:
    """Codes `(N,)` int64, the earliest rows train, the latest test; -1 where there is no time.

    Rows of one time are on one side.

    Args:
        cells: the time column's.
        test: share of test rows.

    Raises:
        DataError: there are fewer than two times.
    """
    there = [cell for cell in cells if cell is not None]
    times = times_of(cells)
    known = np.isfinite(times)
    if known.sum() < 0.5 * len(there) or len(np.unique(times[known])) < 2:
        raise DataError(
            "the time column needs two times at least, as numbers or as dates such as 2024-05-31"
        )
    order = np.sort(times[known])
    codes = np.full(len(times), -1, np.int64)
    late = order[min(int(len(order) * (1 - VAL_SHARE - test) + 1e-9), len(order) - 1)]
    if late == order[0]:
        late = order[order > order[0]][0]
    last = order[min(int(len(order) * (1 - test) + 1e-9), len(order) - 1)] if test else np.inf
    codes[known] = np.where(times[known] < late, TRAIN, np.where(times[known] < last, VAL, TEST))
    if not (codes == VAL).any():
        codes[codes == TEST] = VAL
    return codes


def times_of(cells: np.ndarray) -> np.ndarray:
    """When each row was, `(N,)` float64: days of dates, or numbers; NaN where there is none."""
    layout = date_format([cell for cell in cells if cell is not None])
    return numbers_of(cells) if layout is None else days_of(dates_of(cells, layout))


def column_codes(column: str, cells: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
    """Codes `(N,)` int64 as a column says; -1 where it says nothing.

    Where it names no validation row, a share of the training rows is drawn for that.

    Raises:
        UsageError: it says something else, or names no training row.
    """
    said = [None if cell is None else text_of(cell).lower() for cell in cells]
    unknown = sorted({s for s in said if s is not None and s not in NAMES})
    if unknown:
        shown = ", ".join(map(repr, unknown[:5]))
        raise UsageError(
            f"split column '{column}' holds {shown}: its cells must be one of {', '.join(NAMES)}"
        )
    codes = np.array([-1 if s is None else NAMES[s] for s in said], np.int64)
    train = np.flatnonzero(codes == TRAIN)
    if len(train) < 2:
        raise UsageError(
            f"split column '{column}' names {len(train)} training rows: two are needed"
        )
    if not (codes == VAL).any():
        drawn = _usable(stratified_codes(targets[train], 0.15, 0.0, seed), seed)
        codes[train] = drawn
    return codes


def _usable(codes: np.ndarray, seed: int) -> np.ndarray:
    """Codes with a training and a validation row at least, taken from where there are most."""
    if len(codes) < 2:
        raise DataError(f"{len(codes)} rows with a label: a table needs two at least, better fifty")
    rng = seeds.stream(seed, "split", "least")
    for side in (VAL, TRAIN):
        if not (codes == side).any():
            counts = np.bincount(codes, minlength=3)
            codes[rng.choice(np.flatnonzero(codes == counts.argmax()))] = side
    return codes


def duplicates(table: Table, inputs: Sequence[str], rows: np.ndarray, codes: np.ndarray) -> list[
    list[int]
]:  # fmt: skip
    """Rows of different splits whose inputs are the same, as lists of the table's row numbers."""
    seen: dict[tuple[str, ...], list[int]] = {}
    cells = [table[column][rows] for column in inputs]
    for place in range(len(rows)):
        key = tuple(repr(own[place]) for own in cells)
        if any(own[place] is not None for own in cells):
            seen.setdefault(key, []).append(place)
    return [
        [int(rows[p]) for p in places]
        for places in seen.values()
        if len({int(codes[p]) for p in places}) > 1
    ]
