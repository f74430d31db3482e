"""Tables beside the one that is trained on: a person's own validation rows, and own test rows.

They are read as the first one is. Its columns decide: what another table has more is not used, and
what it lacks, or holds in another form, is told in one message.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix.data.schema import Task
from polymix.errors import DataError
from polymix.tables.cells import array_of, labels_of, level_of, numbers_of, text_of, unit_of
from polymix.tables.files import Table, open_table
from polymix.tables.recipe import ColumnNote, ColumnType, TargetRecipe
from polymix.tables.report import shortened

Source = str | Path | pd.DataFrame

SHOWN = 10
"""Names that a message lists, at most."""

READABLE = 0.5
"""Of the cells of a column of numbers, those that are numbers in another table, at least."""


@dataclass(frozen=True)
class MoreTables:
    """Tables that a person names beside the first.

    Attributes:
        valid: of the rows that validate.
        test: of the rows that are sealed for the test.
    """

    valid: Source | None = None
    test: Source | None = None

    @property
    def flags(self) -> list[str]:
        """Those that are named, as the command line has them."""
        return [f"--{role}" for role in ("valid", "test") if getattr(self, role) is not None]


@dataclass(frozen=True)
class OpenTables:
    """`MoreTables`, read.

    Attributes:
        valid: of the rows that validate.
        test: of the sealed rows.
    """

    valid: Table | None = None
    test: Table | None = None

    @classmethod
    def of(cls, named: MoreTables, first: Table) -> OpenTables:
        """Read them, and make sure that they have the first one's columns.

        Raises:
            DataError: one cannot be read, or lacks columns; of each table all are told.
        """
        opened = {
            role: None if source is None else open_table(source)
            for role, source in (("valid", named.valid), ("test", named.test))
        }
        problems = [
            f"{_called(table, role)} does not have the columns of {_called(first, 'the table')}: "
            f"{'; '.join(said)}"
            for role, table in opened.items()
            if table is not None and (said := _lacking(first, table))
        ]
        if problems:
            raise DataError(problems)
        return cls(**opened)

    @property
    def each(self) -> list[Table]:
        """Those that there are: what validates, then what is sealed."""
        return [table for table in (self.valid, self.test) if table is not None]

    def check_cells(self, first: Table, notes: Sequence[ColumnNote], target: TargetRecipe) -> None:
        """Make sure that their cells are of the kinds that the first one's columns were taken for.

        Args:
            first: the table that is trained on.
            notes: what its columns are.
            target: its target; a class of a sealed row that it does not know would be left out of
                the score without a word.

        Raises:
            DataError: they are not; of each table every column is told.
        """
        problems = []
        for role, table in (("valid", self.valid), ("test", self.test)):
            if table is None:
                continue
            said = [line for note in notes if (line := _unlike(note, table)) is not None]
            if role == "test":
                said += _unknown(target, table)
            if said:
                name = _called(first, "the table")
                problems.append(
                    f"{_called(table, role)} is not like {name}: {'; '.join(said)}; correct these "
                    "cells, or leave the rows or columns out"
                )
        if problems:
            raise DataError(problems)

    def notes(self, first: Table) -> list[str]:
        """What a person should know of how they were read."""
        found, begin = [], len(first)
        for table in self.each:
            name = _called(table, "the other table")
            end = begin + len(table)
            found.append(f"rows {begin} to {end - 1} are those of {name}, from its row 0")
            more = [column for column in table.columns if column not in first.cells]
            if more:
                found.append(f"{name} has more columns, which are not used: {_listed(more)}")
            begin = end
        return found


def joined(first: Table, second: Table, paths: Sequence[str]) -> Table:
    """One table: the rows of the first, then those of the second; it is the first in all else.

    Args:
        first: names the table, and the folder that paths are relative to.
        second: has the first's columns at least.
        paths: columns whose cells may be paths: those of the second are made absolute.
    """
    cells = {}
    for column in first.columns:
        more = second[column]
        if column in paths and second.folder != first.folder:
            more = more.copy()
            for i, cell in enumerate(more):
                if isinstance(cell, str | Path) and array_of(cell) is None:
                    more[i] = str(second.folder / str(cell).strip())
        cells[column] = np.concatenate([first[column], more])
    digest = hashlib.sha256(f"{first.digest}+{second.digest}".encode()).hexdigest()[:16]
    return replace(first, cells=cells, digest=digest, notes=(*first.notes, *second.notes))


def _called(table: Table, otherwise: str) -> str:
    """What a message calls a table: its file, or what it is for."""
    if table.path is not None:
        return table.path.name
    return f"the {otherwise} table" if otherwise in ("valid", "test") else otherwise


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _lacking(first: Table, second: Table) -> list[str]:
    """What a table lacks of the first one's columns, and what it has in their place."""
    lost = [column for column in first.columns if column not in second.cells]
    more = [column for column in second.columns if column not in first.cells]
    if not lost:
        return []
    return [f"it lacks {_listed(lost)}"] + ([f"it has {_listed(more)} instead"] if more else [])


def _unlike(note: ColumnNote, table: Table) -> str | None:
    """What is wrong with a column of numbers that holds none here."""
    if note.type is not ColumnType.NUMERICAL or note.column not in table.cells:
        return None
    cells = table[note.column]
    there = cells[[cell is not None for cell in cells]]
    if not len(there) or unit_of(list(there), READABLE) is not None:
        return None
    known = np.isfinite(numbers_of(there))
    if known.mean() >= READABLE:
        return None
    wrong = shortened(there[int(np.flatnonzero(~known)[0])])
    return f"column '{note.column}' is numbers, but {int((~known).sum())} cells are {wrong!r} …"


def _unknown(target: TargetRecipe, table: Table) -> list[str]:
    """What is wrong with the sealed rows' labels."""
    there = [cell for cell in table[target.column] if cell is not None]
    if not there:
        return [f"no row has a label in '{target.column}'"]
    if target.task in (Task.REGRESSION, Task.MULTILABEL):
        return []
    known = {level_of(name) for name in target.classes}
    counts = Counter(text_of(cell) for cell in there if level_of(cell) not in known)
    return [f"{n} rows have the unknown class {name!r}" for name, n in counts.most_common(SHOWN)]


def unknown_labels(target: TargetRecipe, table: Table) -> list[str]:
    """Labels of a multilabel target that a table has more than were known: they are not scored."""
    if target.task is not Task.MULTILABEL:
        return []
    cells: list[Any] = [cell for cell in table[target.column] if cell is not None]
    names = {name for cell in cells for name in labels_of(cell, target.separator)}
    return sorted(names - set(target.classes))
