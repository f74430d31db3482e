"""A person's own table as a dataset: read once, kept in the cache, opened at once from then on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from polymix.data.dataset import Dataset, DatasetWriter
from polymix.data.schema import Task
from polymix.data.split import TEST, TRAIN, VAL
from polymix.datasets.builder import Progress
from polymix.datasets.cache import open_built
from polymix.errors import DataError, UsageError, did_you_mean
from polymix.tables.cells import level_of
from polymix.tables.files import WRITTEN, Table, open_table
from polymix.tables.fit import fit_recipe
from polymix.tables.folds import fold_codes
from polymix.tables.infer_columns import Columns, infer_columns, type_problems
from polymix.tables.infer_target import infer_target
from polymix.tables.join import MoreTables, OpenTables, joined, unknown_labels
from polymix.tables.read import read_into, read_target, refuse
from polymix.tables.recipe import ColumnType, TableRecipe, TargetRecipe
from polymix.tables.report import Fault, TableReport
from polymix.tables.split import (
    TEST_SHARE,
    column_codes,
    duplicates,
    group_codes,
    random_codes,
    time_codes,
)
from polymix.tables.texts import has_pretrained

TableSource = str | Path | pd.DataFrame | Table
PATHS = (ColumnType.IMAGE, ColumnType.AUDIO, ColumnType.TIMESERIES, ColumnType.FEATURES)
"""What cells that name files can be."""

MAX_FOLDED_ROWS = 10_000
"""Rows are compared out of fold where fewer than so many are not sealed."""

RECIPE, REPORT = "table.json", "data_report.json"
"""Files that stand in a table's dataset folder, and in the folders of runs on it."""


class TableOptions(BaseModel):
    """How a table is read.

    Attributes:
        target: the column that is predicted.
        task: what kind of prediction it is; found in the column where not given.
        group: a column whose rows with the same value stay in one split.
        time: a column by which the earliest rows train and the latest test.
        split: a column that names each row's split.
        types: types by column, or by a group's name, in place of what would be found.
        image_size: side of images, in place of what the files call for.
        strict: whether a cell that gives nothing is an error.
        seed: of a split at random.
        folds: into how many folds the rows that are not sealed are cut, where they are few; 0 for
            none, so that validation rows compare.
        test_share: of the rows, sealed for the test, where no column says which; 0 for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    task: Task | None = None
    group: str | None = None
    time: str | None = None
    split: str | None = None
    types: dict[str, str] = Field(default_factory=dict)
    image_size: int | None = Field(default=None, ge=8, le=512)
    strict: bool = False
    seed: int = Field(default=0, ge=0)
    folds: int = Field(default=5, ge=0, le=20)
    test_share: float = Field(default=TEST_SHARE, ge=0, le=0.5)


@dataclass(frozen=True)
class TableBuilder:
    """Builds a table's dataset; made by `plan_table`.

    Attributes:
        table: its cells.
        options: how it is read.
        columns: what they are.
        target: what is predicted.
        why: the reason for that.
        more: the tables whose rows follow the first one's: those that validate, then the sealed
            ones; where there are none, the options split the rows.
        notes: what is worth knowing of those.
    """

    NAME: ClassVar[str] = "tables"
    SUMMARY: ClassVar[str] = "a table of one's own"
    MODALITIES: ClassVar[tuple[str, ...]] = ()
    NEEDS_RAW: ClassVar[bool] = False
    VERSION: ClassVar[int] = 6

    table: Table
    options: TableOptions
    columns: Columns
    target: TargetRecipe
    why: str
    more: OpenTables = field(default_factory=OpenTables)
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the bytes, besides the table and its files."""
        how = self.options.model_dump(mode="json", exclude={"strict"})
        reads = {"pretrained": has_pretrained()} if self.columns.of(ColumnType.TEXT) else {}
        rows = {"tuning": self._valid, "test": self._test}
        more = {name: count for name, count in rows.items() if count}
        return {"table": self.table.name, **how, **reads, **more}

    @property
    def _valid(self) -> int:
        return 0 if self.more.valid is None else len(self.more.valid)

    @property
    def _test(self) -> int:
        return 0 if self.more.test is None else len(self.more.test)

    def fingerprint(self, raw: Path | None) -> str:  # noqa: ARG002
        """Sixteen hex digits for the cells, and for the size and date of each file they name."""
        digest = hashlib.sha256(self.table.digest.encode())
        for column in self.columns.of(*PATHS):
            for cell in self.table[column]:
                if isinstance(cell, str | Path):
                    digest.update(_stamp(self.table.folder, str(cell)))
        return digest.hexdigest()[:16]

    def build(self, path: Path, raw: Path | None, progress: Progress | None = None) -> None:  # noqa: ARG002
        """Write the dataset's folder.

        Raises:
            DataError: the table cannot be learned from.
            MissingExtraError: a package that reading it needs is not installed.
        """
        table = self.table
        sealed = None if self.more.test is None else self.more.test.digest
        report = TableReport(table.name, notes=[*table.notes, *self.notes], sealed=sealed)
        values, labelled = read_target(self.target, table[self.target.column])
        _unlabelled(report, table[self.target.column], labelled, self.target.column)
        rows = np.flatnonzero(labelled)
        codes = self._codes(values[rows], rows)
        aside = int((codes < 0).sum())
        rows, codes = rows[codes >= 0], codes[codes >= 0]
        counts = [int((codes == side).sum()) for side in (TRAIN, VAL, TEST)]
        if not counts[0] or not counts[1]:
            raise DataError(
                f"'{table.name}': {counts[0]} rows to train on and {counts[1]} to validate on: "
                "at least one of each is needed"
            )
        recipe = fit_recipe(
            table, self.columns, self.target, rows[codes == TRAIN], self.options.image_size
        )
        report.rows = {
            "read": len(table),
            "used": len(rows),
            "without a label": int((~labelled).sum()),
            **({f"without a {self._splitter}": aside} if self._splitter else {}),
        }
        report.split = dict(zip(("train", "val", "test"), counts, strict=True))
        report.columns = [note.model_dump(mode="json") for note in recipe.notes]
        twice = duplicates(table, list(recipe.inputs), rows, codes)
        report.duplicates = {"count": sum(map(len, twice)), "rows": twice}
        _unlearned(report, self.target, values[rows[codes == TRAIN]])
        settings = {"builder": self.NAME, "version": self.VERSION, **self.settings}
        name = table.name
        with DatasetWriter(path, name, recipe.row_schema, len(rows), settings) as writer:
            writer.codes[:] = codes
            writer.folds = self._folds(values[rows], rows, codes)
            writer.targets[:] = values[rows]
            read_into(table, rows, recipe, writer.arrays, writer.present, report, progress)
            writer.beside = {RECIPE: recipe.to_json(), REPORT: report.to_json()}

    def _folds(self, targets: np.ndarray, rows: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
        """Folds of the rows that are not sealed, stratified or by group, where those are few.

        Rows whose validation rows were named, by a column, a time or a table of their own, are
        compared on those.
        """
        options, inside = self.options, codes != TEST
        count = int(inside.sum())
        named = options.split is not None or options.time is not None or self._valid
        if named or options.folds < 2 or not options.folds <= count < MAX_FOLDED_ROWS:
            return None
        groups = None
        if options.group is not None:
            cells = [None if c is None else level_of(c) for c in self.table[options.group][rows]]
            names = [f"\0{row}" if c is None else c for row, c in enumerate(cells)]
            groups = np.array(names, object).astype(str)[inside]
            if len(np.unique(groups)) < options.folds:
                return None
        folds = np.zeros(len(rows), np.int64)
        folds[inside] = fold_codes(targets[inside], options.folds, options.seed, groups=groups)
        return folds

    @property
    def _splitter(self) -> str | None:
        return "time" if self.options.time else "split" if self.options.split else None

    def _codes(self, targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The split of rows, by their numbers in the table; -1 where one is in none."""
        codes = np.full(len(rows), TEST, np.int64)
        inside = rows < len(self.table) - self._test
        if self._valid:
            first = len(self.table) - self._test - self._valid
            codes[inside] = np.where(rows[inside] < first, TRAIN, VAL)
        else:
            codes[inside] = self._drawn(targets[inside], rows[inside])
        return codes

    def _drawn(self, targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The split of rows of the first table, as the options have it."""
        options, table = self.options, self.table
        if options.group is not None:
            groups = [None if c is None else level_of(c) for c in table[options.group][rows]]
            return group_codes(targets, groups, options.seed, options.test_share).astype(np.int64)
        if options.time is not None:
            return time_codes(table[options.time][rows], options.test_share)
        if options.split is not None:
            return column_codes(options.split, table[options.split][rows], targets, options.seed)
        return random_codes(targets, options.seed, options.test_share).astype(np.int64)


def _stamp(folder: Path, cell: str) -> bytes:
    try:
        about = (folder / cell.strip()).stat()
    except (OSError, ValueError):
        return b"-"
    return f"{about.st_size},{about.st_mtime_ns};".encode()


def _unlabelled(report: TableReport, cells: np.ndarray, labelled: np.ndarray, column: str) -> None:
    for row in np.flatnonzero(~labelled):
        cause = "empty" if cells[row] is None else "not a number"
        value = "" if cells[row] is None else str(cells[row])[:80]
        report.faults.append(Fault(int(row), column, cause, value))


def _unlearned(report: TableReport, target: TargetRecipe, values: np.ndarray) -> None:
    if target.task is Task.REGRESSION:
        return
    if target.task is Task.MULTILABEL:
        seen = np.asarray(values.any(0))
    else:
        seen = np.isin(np.arange(len(target.classes)), values)
    lost = [name for name, there in zip(target.classes, seen, strict=True) if not there]
    if lost:
        shown = ", ".join(map(repr, lost[:10]))
        report.notes.append(f"no training row has {shown}: it cannot be learned")


def plan_table(
    source: TableSource, options: TableOptions, named: MoreTables | None = None
) -> TableBuilder:
    """Look at a table: what its columns and its target are. No file that it names is opened.

    Args:
        source: the table.
        options: how it is read.
        named: tables of the rows that validate, of which all of the first one's are then trained
            on, and of the sealed rows, which say nothing of how the others are read.

    Raises:
        DataError: it is no table, or its target cannot be learned, or another lacks columns.
        UsageError: an option names a column that is not there; all problems at once.
    """
    named = named or MoreTables()
    table = open_table(source)
    given = dict(options.types)
    said = given.pop(options.target, None)
    _check_roles(table, options, given, said, named)
    more = OpenTables.of(named, table)
    seen = table if more.valid is None else joined(table, more.valid, ())
    task = options.task or (Task(said) if said is not None else None)
    written = table.path is not None and table.path.suffix.lower() in WRITTEN
    target, why = infer_target(options.target, seen[options.target], task, written=written)
    reserved = {options.target: f"the target, {target.task}: {why}"}
    if options.group is not None:
        reserved[options.group] = "the groups: left out"
    if options.split is not None:
        reserved[options.split] = "names the split: left out"
    if options.time is not None and options.time not in given:
        reserved[options.time] = "the time of the split: left out"
    columns = infer_columns(seen, reserved, given)
    more.check_cells(table, columns.notes, target)
    notes = more.notes(table)
    lost = [] if more.test is None else unknown_labels(target, more.test)
    if lost:
        shown = ", ".join(map(repr, lost[:10]))
        notes.append(f"test rows have labels that no other row has, and are not scored by: {shown}")
    whole = table
    for each in more.each:
        whole = joined(whole, each, columns.of(*PATHS))
    return TableBuilder(whole, options, columns, target, why, more, tuple(notes))


def _check_roles(
    table: Table, options: TableOptions, types: Mapping[str, str], task: str | None,
    named: MoreTables,
) -> None:  # fmt: skip
    """Make sure that the columns that options name are there, and go together.

    Args:
        table: the first.
        options: how it is read.
        types: of its columns, as they were said, without the target's.
        task: the target's type, as it was said.
        named: other tables.

    Raises:
        UsageError: they do not; all problems at once.
    """
    roles = {"group": options.group, "time": options.time, "split-column": options.split}
    used = {role: column for role, column in roles.items() if column is not None}
    problems = [
        f"--{flag} {column}: '{table.name}' has no such column: "
        f"{did_you_mean(column, table.columns)}"
        for flag, column in [("target", options.target), *used.items()]
        if column not in table.cells
    ]
    flags = [f"--{role}" for role in used]
    if named.valid is not None and flags:
        problems.append(f"{' and '.join([*flags, '--valid'])} exclude each other: give one")
    elif named.test is not None and options.split is not None:
        problems.append("--split-column and --test exclude each other: give one")
    if len(flags) > 1:
        problems.append(f"{' and '.join(flags)} exclude each other: give one")
    if options.target in used.values():
        problems.append(f"'{options.target}' is the target: it cannot split the rows as well")
    if task is not None and task not in list(Task):
        problems.append(
            f"column types: the target '{options.target}' can be {', '.join(Task)}, not {task!r}"
        )
    problems += type_problems(table, types, {options.target, *used.values()} - set(types))
    if problems:
        raise UsageError(problems)


def open_table_dataset(
    source: TableSource,
    options: TableOptions,
    progress: Progress | None = None,
    named: MoreTables | None = None,
) -> Dataset:
    """A table as a dataset, built into the cache where it is not there.

    `read_recipe` and `read_report` give what its folder keeps besides the rows.

    Args:
        source: a file or a frame.
        options: how it is read.
        progress: told how far the build is.
        named: see `plan_table`.

    Raises:
        DataError: the table cannot be read, or, if strict, has cells that give nothing.
        UsageError: an option names what is not there.
        MissingExtraError: a package that reading it needs is not installed.
    """
    dataset = open_built(plan_table(source, options, named), None, progress)
    if options.strict:
        report = read_report(dataset)
        faults = [Fault(**cell) for cell in report["cells"]]
        refuse(TableReport(dataset.name, columns=report["columns"], faults=faults))
    return dataset


def read_recipe(dataset: Dataset) -> TableRecipe | None:
    """How a table's dataset was read; none for a dataset that was no table."""
    if dataset.path is None or not (dataset.path / RECIPE).is_file():
        return None
    return TableRecipe.load(dataset.path / RECIPE)


def files_of_table(dataset: Dataset) -> dict[str, bytes]:
    """The files that a run on a table keeps, by name; none for a dataset that was no table."""
    if dataset.path is None or not (dataset.path / RECIPE).is_file():
        return {}
    return {name: (dataset.path / name).read_bytes() for name in (RECIPE, REPORT)}


def report_of(dataset: Dataset) -> dict[str, Any]:
    """What was found in a table, as plain values; nothing for a dataset that was no table."""
    return read_report(dataset) if files_of_table(dataset) else {}


def read_report(dataset: Dataset) -> dict[str, Any]:
    """What was found in a table; see `TableReport.plain`.

    Raises:
        DataError: the dataset was no table.
    """
    if dataset.path is None:
        raise DataError(f"'{dataset.name}' was no table")
    try:
        found = json.loads((dataset.path / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{dataset.path / REPORT} cannot be read: {error}") from None
    return dict(found)
