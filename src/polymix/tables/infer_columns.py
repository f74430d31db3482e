"""What a table's columns are, each with the reason for it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polymix.errors import UsageError, did_you_mean
from polymix.tables import images, series, sounds
from polymix.tables.cells import array_of, number_of, text_of, unit_of, words_of
from polymix.tables.dates import date_format
from polymix.tables.files import Table
from polymix.tables.recipe import ColumnNote, ColumnType
from polymix.tables.tabular import MAX_LEVELS

SHARE = 0.9
"""Of a column's cells that must fit a type; the others are then counted as broken."""

FILES = {
    ColumnType.IMAGE: images.SUFFIXES,
    ColumnType.AUDIO: sounds.SUFFIXES,
    ColumnType.TIMESERIES: series.SUFFIXES,
}
ID_NAMES = ("id", "uid", "uuid", "guid", "index", "row", "rowid", "key", "isbn", "ean", "sku")
_ID_NAME = re.compile(r".*[_ .-](id|uid|uuid|guid)|.*[a-z0-9](Id|ID)")
_COUNTER = re.compile(
    r"|s(r|l|erial)?(no|num|nr|number)?|no|nr|num|number|index|idx|id|unnamed\d+|column0"
    r"|row(no|nr|num|number|id|index)?|level0"
)
"""What counts the rows is called so, once all but letters and digits is taken away."""

_CODE = re.compile(r"(?=\S*\d)[\w./:#+=-]+|[0-9a-fA-F]{8,}|[0-9a-fA-F]{4,}(-[0-9a-fA-F]{4,})+")
ORDERED, ORDERED_ROWS, MOST_LOOKED_AT = 0.4, 50, 2000
"""Steps of a series correlate with those next to them by so much at least, if so many rows tell."""

GROUP_TYPES = (ColumnType.TIMESERIES, ColumnType.FEATURES, ColumnType.IGNORE, ColumnType.NUMERICAL)
LONG = 4
"""Words that a text has at least, on average."""

FEW_CELLS, CODES = 20, 0.8
"""Of fewer cells none is a name; ids look like codes in so many of their cells at least."""


@dataclass(frozen=True)
class Columns:
    """What a table's columns are.

    Attributes:
        notes: of each column, in the table's order.
        groups: series that several columns make: by name, the columns and channels a step.
    """

    notes: tuple[ColumnNote, ...]
    groups: Mapping[str, tuple[list[str], int]]

    def of(self, *types: ColumnType) -> list[str]:
        """The columns of given types that belong to no group, in order."""
        grouped = {c for columns, _ in self.groups.values() for c in columns}
        return [n.column for n in self.notes if n.type in types and n.column not in grouped]

    def type_of(self, column: str) -> ColumnType:
        """A column's type."""
        return next(note.type for note in self.notes if note.column == column)


def infer_columns(
    table: Table, reserved: Mapping[str, str], given: Mapping[str, str] | None = None
) -> Columns:
    """What each column is.

    Args:
        table: to look at.
        reserved: columns that are no inputs, with what they are.
        given: types by column or group, in place of what would be found.

    Raises:
        UsageError: a given column or type is unknown, or is reserved; all problems at once.
    """
    free = [c for c in table.columns if c not in reserved]
    types = _given(table, reserved, given or {})
    groups = _groups(table, [c for c in free if c not in types], types)
    notes, kinds = [], dict[str, tuple[ColumnType, str]]()
    for column in table.columns:
        cells = [cell for cell in table[column] if cell is not None]
        group = next((g for g, (members, _) in groups.items() if column in members), None)
        if column in reserved:
            kind, reason = ColumnType.IGNORE, reserved[column]
        elif group is not None:
            if group not in kinds:
                kinds[group] = infer_group(table, *groups[group], types.get(group))
            kind, why = kinds[group]
            reason = f"one of the {len(groups[group][0])} columns of group '{group}'{why}"
        elif column in types:
            kind, reason = types[column], "you said so"
        else:
            kind, reason = infer_column(column, cells, len(table))
        notes.append(ColumnNote(column=column, type=kind, reason=reason))
    return Columns(tuple(notes), groups)


def type_problems(
    table: Table, given: Mapping[str, str], left_out: Collection[str] = ()
) -> list[str]:
    """What is wrong with types that were given, by column or group: a sentence for each.

    Args:
        table: whose columns they are.
        given: the types.
        left_out: columns that are no inputs, and make no groups.
    """
    groups = series.column_groups([c for c in table.columns if c not in left_out])
    names = [*table.columns, *(g for g in groups if g not in table.columns)]
    problems = []
    for column, wanted in given.items():
        if column not in names:
            problems.append(f"column types: no column '{column}': {did_you_mean(column, names)}")
        if wanted not in list(ColumnType):
            hint = did_you_mean(str(wanted), list(ColumnType))
            problems.append(f"column types: '{column}': no type {str(wanted)!r}: {hint}")
        elif column in groups and column not in table.columns and wanted not in GROUP_TYPES:
            problems.append(
                f"column types: '{column}' is a group of columns: it can be timeseries, features, "
                f"numerical or ignore, but got {wanted}"
            )
    return problems


def _given(
    table: Table, reserved: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, ColumnType]:
    problems = type_problems(table, given, reserved)
    problems += [f"column types: '{c}' is {reserved[c]}" for c in given if c in reserved]
    if problems:
        raise UsageError(problems)
    return {column: ColumnType(wanted) for column, wanted in given.items()}


def _groups(
    table: Table, free: Sequence[str], types: dict[str, ColumnType]
) -> dict[str, tuple[list[str], int]]:
    """The groups among columns whose cells are numbers; those given another type are none."""
    found = {}
    for name, (members, channels) in series.column_groups(free).items():
        wanted = None if name in table.columns else types.get(name)
        if wanted in (ColumnType.NUMERICAL, ColumnType.IGNORE):
            types |= dict.fromkeys(members, wanted)
            del types[name]
        elif all(_share(table[c], _numeric) >= SHARE for c in members):
            found[name] = (members, channels)
    return found


def _numeric(cell: Any) -> bool:
    return not np.isnan(number_of(cell))


def _share(cells: Sequence[Any] | np.ndarray, fits: Any) -> float:
    """Of the cells that are not empty, how many fit."""
    there = [c for c in cells if c is not None]
    return sum(map(fits, there)) / len(there) if there else 0.0


def infer_group(
    table: Table, members: Sequence[str], channels: int, given: ColumnType | None = None
) -> tuple[ColumnType, str]:
    """What a group of columns is, and why.

    Args:
        table: to look at.
        members: the columns, in order.
        channels: a step.
        given: what it is said to be.
    """
    if given is not None:
        return given, ", as you said"
    if len(table) < ORDERED_ROWS:
        return ColumnType.TIMESERIES, ""
    some = slice(0, MOST_LOOKED_AT)
    values = np.array([[number_of(c) for c in table[member][some]] for member in members])
    values = np.where(np.abs(values) < series.LARGEST, values, np.nan)
    like = series.likeness(values.T.reshape(values.shape[1], -1, channels))
    if like >= ORDERED:
        return ColumnType.TIMESERIES, ""
    return ColumnType.FEATURES, f", which have no order: neighbours correlate by {like:.2f}"


def infer_column(column: str, cells: Sequence[Any], rows: int) -> tuple[ColumnType, str]:
    """What a column is, and why.

    Args:
        column: its name.
        cells: those that are not empty.
        rows: of the table.
    """
    if not cells:
        return ColumnType.IGNORE, "every cell is empty"
    count = len(cells)
    for kind, suffixes in FILES.items():
        named = sum(str(c).strip().lower().endswith(suffixes) for c in cells)
        if named > count / 2 and all(isinstance(c, str) or hasattr(c, "__fspath__") for c in cells):
            ends = {s for s in suffixes if any(str(c).strip().lower().endswith(s) for c in cells)}
            return kind, f"{named} of {count} cells end in {', '.join(sorted(ends))}"
    if all(isinstance(c, dict) for c in cells):
        return ColumnType.IGNORE, "its cells are objects"
    texts = [text_of(c) for c in cells]
    distinct = len(set(texts))
    arrays = _share(cells, lambda c: array_of(c) is not None)
    if arrays >= SHARE:
        return ColumnType.TIMESERIES, f"{arrays:.0%} of {count} cells are arrays of numbers"
    if distinct == 1:
        return ColumnType.IGNORE, f"constant: every cell is {texts[0][:40]!r}"
    if all(isinstance(c, bool | np.bool_) for c in cells):
        return ColumnType.CATEGORICAL, "true or false"
    numbers = _share(cells, _numeric)
    layout = date_format(cells, SHARE)
    if numbers >= SHARE and (layout is None or count < FEW_CELLS):
        return _number_column(column, cells, texts, rows, numbers)
    if layout is not None:
        return ColumnType.DATE, f"{SHARE:.0%} of its cells or more are dates ({layout})"
    unit = unit_of(cells, SHARE)
    if unit is not None:
        return ColumnType.NUMERICAL, f"{SHARE:.0%} of its cells or more are numbers with {unit!r}"
    return _text_column(column, cells, distinct)


def _number_column(
    column: str, cells: Sequence[Any], texts: Sequence[str], rows: int, share: float
) -> tuple[ColumnType, str]:
    values = np.array([number_of(c) for c in cells])
    whole = bool((values == np.floor(values)).all() and np.isfinite(values).all())
    if whole and len(set(texts)) == len(cells) == rows and rows > 1:
        steps = np.unique(np.diff(values))
        if len(steps) == 1 and abs(steps[0]) == 1 and rows > 4:
            return ColumnType.IGNORE, "an id: it counts the rows"
        # Of a table that was split or shuffled, some counts are gone or stand elsewhere.
        if _named_counter(column) and values.max() - values.min() < 2 * rows:
            return ColumnType.IGNORE, "an id: by its name and its values it counts the rows"
        if _named_id(column):
            return ColumnType.IGNORE, "an id, by its name: another whole number in each row"
    return ColumnType.NUMERICAL, f"{share:.0%} of its cells are numbers, {len(set(texts))} distinct"


def _text_column(column: str, cells: Sequence[Any], distinct: int) -> tuple[ColumnType, str]:
    count = len(cells)
    words = float(np.mean([words_of(c) for c in cells]))
    said = f"{distinct} distinct values in {count} cells, {words:.1f} words on average"
    repeated = distinct <= count / 2
    if (words >= LONG and not (repeated and distinct <= 20)) or (words >= 2 and not repeated):
        return ColumnType.TEXT, said
    code = _share(cells, lambda c: _CODE.fullmatch(text_of(c)) is not None) >= CODES
    if distinct >= 0.95 * count and count > 1 and _named_id(column):
        return ColumnType.IGNORE, f"an id, by its name: {said}"
    if count >= FEW_CELLS and not repeated:
        if not code:
            return ColumnType.TEXT, f"names or titles: {said}"
        if distinct >= 0.95 * count:
            return ColumnType.IGNORE, f"an id: {said}, which look like codes"
    if distinct > MAX_LEVELS and words >= 1.5:
        return ColumnType.TEXT, f"more names or titles than levels can be: {said}"
    return ColumnType.CATEGORICAL, said


def _named_counter(column: str) -> bool:
    return _COUNTER.fullmatch(re.sub(r"[\W_]", "", column.lower())) is not None


def _named_id(column: str) -> bool:
    name = column.strip()
    return name.lower() in ID_NAMES or any(
        _ID_NAME.fullmatch(form) is not None for form in (name, name.lower())
    )
