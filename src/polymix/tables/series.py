"""Time series: arrays in cells, `.npy` files, groups of columns; `(length, channels)` float32."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polymix.data.gaps import carry_forward
from polymix.tables.cells import array_of, number_of
from polymix.tables.recipe import SeriesRecipe
from polymix.tables.unreadable import Unreadable, file_of

SUFFIXES = (".npy",)
LARGEST = float(np.finfo(np.float32).max)
LONGEST = 256
WIDEST = 4096
FEW_GAPS = 0.05
"""Of a group's numbers: where no more are missing, they are filled from their neighbours."""

_MEMBER = re.compile(r"(.+)_(\d+)", re.ASCII)


def read_array(cell: Any, folder: Path) -> np.ndarray:
    """A cell's array, `(T, C)` float64; NaN where a value is missing.

    Raises:
        Unreadable: it holds none, or one without a number or with an infinite one.
    """
    if isinstance(cell, str | Path) and str(cell).strip().lower().endswith(SUFFIXES):
        path = file_of(cell, folder)
        try:
            # Mapped, a header that promises more than the file holds is refused, not allocated.
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception:  # a broken header raises nearly anything, syntax errors among it
            raise Unreadable("not an array's file") from None
        if not isinstance(mapped, np.ndarray) or mapped.dtype.kind not in "buif":
            raise Unreadable("not an array of numbers")
        if mapped.ndim not in (1, 2) or not mapped.size:
            raise Unreadable("not an array of one or two axes")
        if mapped.size > 50_000_000:
            raise Unreadable("an array too large")
        array: np.ndarray | None = np.array(mapped, np.float64)
    else:
        array = array_of(cell)
    if array is None:
        raise Unreadable("not an array of numbers")
    known = array[~np.isnan(array)]
    if not (np.abs(known) <= LARGEST).all():
        raise Unreadable("values that are not finite")
    if not len(known):
        raise Unreadable("no number in it")
    return array[:, None] if array.ndim == 1 else array


def read_series(recipe: SeriesRecipe, cell: Any, folder: Path) -> np.ndarray:
    """A row's series, cut or padded, in the modality's shape, float32.

    Args:
        recipe: how.
        cell: the column's, or a group's cells `(n,)`.
        folder: what paths are relative to.

    Raises:
        Unreadable: there is none, or it has another number of channels.
    """
    array = _grouped(recipe, cell) if recipe.grid is not None else read_array(cell, folder)
    if array.shape[1] != recipe.channels:
        raise Unreadable(f"{recipe.channels} channels expected")
    array = array[: recipe.length]
    if not recipe.padded and len(array) != recipe.length:
        # All training rows were of one length; what is missing is the last value again.
        last = np.full_like(array[-1:], np.nan) if recipe.gaps else array[-1:]
        array = np.concatenate([array, np.repeat(last, recipe.length - len(array), 0)])
    array = carry_forward(array) if recipe.gaps else _filled(array).astype(np.float32)
    if not recipe.padded:
        return array.reshape(recipe.modality.shape)
    found = np.zeros(recipe.modality.shape, np.float32)
    found[: len(array), 0] = 1.0
    found[: len(array), 1:] = array
    return found


def _grouped(recipe: SeriesRecipe, cells: np.ndarray) -> np.ndarray:
    """A group's cells as `grid`, NaN where there is no number."""
    assert recipe.grid is not None
    values = _numbers(cells)
    if np.isnan(values).all():
        raise Unreadable("no number in the group")
    return values.reshape(recipe.grid)


def _numbers(cells: np.ndarray) -> np.ndarray:
    values = np.array([np.nan if c is None else number_of(c) for c in cells], np.float64)
    values[~(np.abs(values) <= LARGEST)] = np.nan
    return values


def _filled(array: np.ndarray) -> np.ndarray:
    """A series `(T, C)` whose gaps are filled from their neighbours in time."""
    if not np.isnan(array).any():
        return array
    array = array.copy()
    for channel in array.T:
        there = np.flatnonzero(~np.isnan(channel))
        if len(there):
            channel[:] = np.interp(np.arange(len(channel)), there, channel[there])
    return np.asarray(np.nan_to_num(array))


def fit_series(
    name: str, columns: Sequence[str], grid: tuple[int, int] | None,
    cells: Sequence[Any] | np.ndarray, folder: Path, *, features: bool = False,
) -> SeriesRecipe:  # fmt: skip
    """A recipe for series like these: as long as nineteen of twenty are, `LONGEST` at most.

    Args:
        name: the modality's.
        columns: one, or a group's.
        grid: steps and channels of a group; none for one column.
        cells: of training rows, not empty; a group's `(n, members)`.
        folder: what paths are relative to.
        features: whether the order of the numbers means nothing.

    Raises:
        Unreadable: none of them is an array.
    """
    if grid is not None:
        rows = [row for row in map(_numbers, cells) if not np.isnan(row).all()]
        missing = float(np.isnan(rows).mean()) if rows else 0.0
        return SeriesRecipe(
            name=name, columns=tuple(columns), grid=grid, length=grid[0], channels=grid[1],
            features=features, gaps=not features and missing > FEW_GAPS,
        )  # fmt: skip
    shapes, gaps = [], False
    for cell in cells:
        try:
            array = read_array(cell, folder)
        except Unreadable:
            continue
        shapes.append(array.shape)
        gaps |= bool(np.isnan(array).any())
    if not shapes:
        raise Unreadable("no training row has an array that can be read")
    widths = [w for _, w in shapes]
    channels = max(set(widths), key=lambda w: (widths.count(w), -w))
    if channels > WIDEST:
        raise Unreadable(f"its arrays have {channels} channels, more than {WIDEST}")
    lengths = [n for n, w in shapes if w == channels]
    vectors = features and channels == 1
    padded = len(set(lengths)) > 1 and not vectors
    length = max(lengths) if vectors else int(np.ceil(np.quantile(lengths, 0.95)))
    length = max(1, min(length, 65_536 if vectors else LONGEST))
    return SeriesRecipe(
        name=name, columns=tuple(columns), length=length,
        channels=channels, padded=padded, features=features, gaps=gaps and not features,
    )  # fmt: skip


def column_groups(columns: Sequence[str], least: int = 4) -> dict[str, tuple[list[str], int]]:
    """Groups `x_0 … x_n` and `x_0_0 … x_n_m`: by name, the columns in order and channels a step.

    Indices start at 0 or 1 and leave none out; there are `least` columns in a group at least.
    """
    singles = {p: members for p, members in _runs(columns).items() if len(members) >= 2}
    found: dict[str, tuple[list[str], int]] = {}
    used: set[str] = set()
    for outer, parts in _runs(list(singles)).items():
        widths = {len(singles[p]) for p in parts}
        if len(parts) >= 2 and len(widths) == 1 and len(parts) * max(widths) >= least:
            found[outer] = ([c for p in parts for c in singles[p]], max(widths))
            used |= set(parts)
    for prefix, members in singles.items():
        if prefix not in used and len(members) >= least:
            found[prefix] = (members, 1)
    return found


def likeness(values: np.ndarray) -> float:
    """How like its neighbours a step is, in [0, 1]: what tells a series from unordered features.

    The largest mean correlation, over rows, of steps one, two or three apart.

    Args:
        values: `(N, T, C)`, NaN where there is none.
    """
    known = np.isfinite(values)
    centred = np.where(known, values, 0.0)
    mean = centred.sum(0) / np.maximum(known.sum(0), 1)
    centred = np.where(known, values - mean, 0.0)
    scale = np.sqrt((centred**2).sum(0))
    varies = scale > 1e-12 * (1 + np.abs(mean))
    centred /= np.where(varies, scale, 1.0)
    found = [0.0]
    for lag in range(1, min(4, values.shape[1])):
        both = varies[lag:] & varies[:-lag]
        if both.any():
            found.append(abs(float((centred[:, lag:] * centred[:, :-lag]).sum(0)[both].mean())))
    return max(found)


def _runs(names: Sequence[str]) -> dict[str, list[str]]:
    byprefix: dict[str, dict[int, str]] = {}
    for name in names:
        match = _MEMBER.fullmatch(name)
        if match and len(match[2]) < 8:
            byprefix.setdefault(match[1], {}).setdefault(int(match[2]), name)
    return {
        prefix: [members[i] for i in sorted(members)]
        for prefix, members in byprefix.items()
        if min(members) in (0, 1) and max(members) - min(members) + 1 == len(members)
    }
