"""Folds for cross-validation: stratified, with groups kept whole, or forward in time."""

from __future__ import annotations

import numpy as np

from polymix import seeds
from polymix.data.split import strata
from polymix.errors import DataError, UsageError


def fold_codes(
    targets: np.ndarray,
    count: int,
    seed: int,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """The fold in which each row is held out, the same for the same seed; none is empty.

    Without groups and times, a stratum's rows (a class's; of numbers, a decile's) are as many in
    every fold, give or take one, and so are all rows. A group's rows are in one fold. By time,
    fold 0 has the earliest rows and the last fold the latest, rows of one time being together:
    train on the folds before the one that is held out.

    Args:
        targets: `(N,)` classes or numbers, or `(N, L)` label sets.
        count: of folds.
        seed: of the draw; not used with times.
        groups: `(N,)` a number or a name a row, if rows that share one belong together.
        times: `(N,)` numbers, if the earlier is to predict the later.

    Returns:
        `(N,)` int64 in `0 … count - 1`.

    Raises:
        UsageError: fewer than two folds are asked for, or groups and times at once.
        DataError: there are fewer rows, groups or times than folds, or a time is missing.
    """
    if count < 2:
        raise UsageError(f"folds must be at least 2, but got {count}")
    if groups is not None and times is not None:
        raise UsageError("folds by group and folds by time exclude each other: give one")
    if times is not None:
        return _forward(np.asarray(times, np.float64), count)
    units = np.arange(len(targets)) if groups is None else np.asarray(groups)
    _, units = np.unique(units, return_inverse=True)
    units = units.reshape(-1)
    distinct = int(units.max(initial=-1)) + 1
    if distinct < count:
        what = "rows" if groups is None else "groups"
        raise DataError(f"{distinct} {what} cannot make {count} folds: ask for fewer")
    rng = seeds.stream(seed, "folds")
    return _stratified(targets, count, rng) if groups is None else _whole(
        targets, units, distinct, count, rng
    )  # fmt: skip


def _stratified(targets: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    # Rows in the order of their strata, shuffled within, are dealt like cards: each stratum goes
    # on where the last one stopped, so that the folds' sizes are within one as well.
    order = np.lexsort((rng.random(len(targets)), strata(targets)))
    codes = np.empty(len(targets), np.int64)
    codes[order] = rng.permutation(count)[np.arange(len(order)) % count]
    return codes


def _whole(
    targets: np.ndarray, units: np.ndarray, distinct: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """The largest groups first, each goes to the fold that lacks its strata most."""
    classes = strata(targets)
    table = np.zeros((distinct, int(classes.max()) + 1))
    np.add.at(table, (units, classes), 1)
    share = table / np.maximum(table.sum(0), 1)
    filled = np.zeros((count, table.shape[1]))
    members = np.zeros(count, np.int64)
    places = np.zeros(distinct, np.int64)
    order = np.lexsort((rng.random(distinct), -table.sum(1)))
    for rank, group in enumerate(order):
        load = (filled * share[group]).sum(1) + 1e-9 * filled.sum(1)
        if distinct - rank <= (members == 0).sum():
            load = np.where(members == 0, load, np.inf)  # no fold stays empty
        fold = int(load.argmin())
        places[group] = fold
        members[fold] += 1
        filled[fold] += share[group]
    return np.asarray(places[units])


def _forward(times: np.ndarray, count: int) -> np.ndarray:
    if not np.isfinite(times).all():
        raise DataError("folds by time need a time in every row")
    moments, units, sizes = np.unique(times, return_inverse=True, return_counts=True)
    if len(moments) < count:
        raise DataError(f"{len(moments)} times cannot make {count} folds: ask for fewer")
    # A moment's fold is where the middle of its rows falls; then none is skipped.
    middle = (np.cumsum(sizes) - sizes / 2) / len(times)
    wanted = np.minimum((middle * count).astype(np.int64), count - 1)
    folds = np.zeros(len(moments), np.int64)
    for place in range(1, len(moments)):
        folds[place] = min(max(wanted[place], folds[place - 1]), folds[place - 1] + 1)
    for back in range(count):  # what is left over at the end has a moment each at least
        place = len(moments) - 1 - back
        folds[place] = max(folds[place], count - 1 - back)
    return np.asarray(folds[units.reshape(-1)])
