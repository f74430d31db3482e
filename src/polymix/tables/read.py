"""A table's rows as arrays, by a recipe that was fitted on training rows; decoded in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix.data.folder import target_layout
from polymix.data.schema import Task
from polymix.errors import DataError
from polymix.tables.cells import labels_of, level_of, number_of, text_of
from polymix.tables.files import Table, open_table
from polymix.tables.images import read_image
from polymix.tables.parts import TextNumbersPart
from polymix.tables.recipe import (
    AudioRecipe,
    ImageRecipe,
    SeriesRecipe,
    TableRecipe,
    TabularRecipe,
    TargetRecipe,
    TextRecipe,
    columns_of,
)
from polymix.tables.report import Fault, TableReport, shortened
from polymix.tables.series import SUFFIXES, read_series
from polymix.tables.sounds import audio_libraries, read_audio
from polymix.tables.texts import TextTokenizer
from polymix.tables.unreadable import EMPTY, Unreadable

Told = Callable[[int, int, str], None]
FileRecipe = ImageRecipe | AudioRecipe | SeriesRecipe
LARGEST = float(np.finfo(np.float32).max)
CHUNK = 32
ALONE = 200
"""Fewer files than this are read in this process: others would take longer to start."""


@dataclass(frozen=True)
class ReadRows:
    """A table's rows, as a model's schema wants them.

    Attributes:
        arrays: one `(N, *shape)` array per modality, a row for each of the table's.
        present: `(N, k)` bool, columns in the schema's order.
        targets: `(N,)` or `(N, L)`; none where the table has no such column.
        labelled: `(N,)` bool, whether the row has a target that the run knows.
        report: what was found.
    """

    arrays: dict[str, np.ndarray]
    present: np.ndarray
    targets: np.ndarray | None
    labelled: np.ndarray
    report: TableReport

    def __len__(self) -> int:
        return len(self.present)


def read_rows(
    source: str | Path | pd.DataFrame | Table,
    recipe: TableRecipe,
    progress: Told | None = None,
    *,
    strict: bool = False,
    jobs: int | None = None,
) -> ReadRows:
    """Read a table, one row in, one row out, the way the recipe's table was read.

    Args:
        source: a file, a frame, or an open table; it may lack the target's column.
        recipe: fitted on a run's training rows.
        progress: called as `progress(done, total, what)`.
        strict: whether a cell that gives nothing is an error.
        jobs: processes that decode; one per processor where not given.

    Raises:
        DataError: it is no table, lacks columns, or, if strict, has cells that give nothing.
        MissingExtraError: a package that reading it needs is not installed.
    """
    table = source if isinstance(source, Table) else open_table(source)
    schema = recipe.row_schema
    wanted = {column: f"modality '{name}' needs" for column, name in recipe.inputs.items()}
    problems = table.missing_columns(wanted)
    if problems:
        raise DataError(problems)
    count = len(table)
    arrays = {m.name: np.zeros((count, *m.shape), m.dtype) for m in schema.modalities}
    present = np.ones((count, len(schema.names)), bool)
    report = TableReport(table.name, notes=list(table.notes))
    report.columns = [note.model_dump(mode="json") for note in recipe.notes]
    read_into(table, np.arange(count), recipe, arrays, present, report, progress, jobs)
    targets, labelled = None, np.zeros(count, bool)
    if recipe.target.column in table.cells:
        shape, dtype = target_layout(schema.target, count)
        targets = np.zeros(shape, dtype)
        values, labelled = read_target(recipe.target, table[recipe.target.column])
        targets[:] = values
    report.rows = {"read": count, "used": count, "without a label": int((~labelled).sum())}
    if strict:
        refuse(report)
    return ReadRows(arrays, present, targets, labelled, report)


def refuse(report: TableReport) -> None:
    """Make cells that give nothing, and columns none of whose cells gives anything, an error.

    Raises:
        DataError: there are some; each is listed.
    """
    problems = [f"column '{column}': {why}" for column, why in report.lost.items()]
    problems += map(str, report.faults)
    if problems:
        raise DataError([f"{report.table}: {problem}" for problem in problems])


def read_into(
    table: Table,
    rows: np.ndarray,
    recipe: TableRecipe,
    arrays: Mapping[str, np.ndarray],
    present: np.ndarray,
    report: TableReport,
    progress: Told | None = None,
    jobs: int | None = None,
) -> None:
    """Read rows of a table into arrays that are there, and tell the report what gave nothing.

    Args:
        table: with the recipe's columns.
        rows: its rows to read, `(N,)`.
        recipe: how.
        arrays: `(N, *shape)` by modality, zeros; written.
        present: `(N, k)` bool; written.
        report: added to.
        progress: called as `progress(done, total, what)`.
        jobs: processes that decode.
    """
    for place, part in enumerate(recipe.modalities):
        cells = [table[column][rows] for column in columns_of(part)]
        into = arrays[part.name]
        if isinstance(part, TabularRecipe):
            there = _tabular(part, cells, into, rows, report)
        elif isinstance(part, TextRecipe):
            there = _texts(part, cells[0], into, rows, report)
        else:
            there = _files(part, cells, into, rows, table.folder, report, progress, jobs)
        present[:, place] = there
        report.absent[part.name] = int((~there).sum())


def _tabular(
    part: TabularRecipe, cells: Sequence[np.ndarray], into: np.ndarray, rows: np.ndarray,
    report: TableReport,
) -> np.ndarray:  # fmt: skip
    from polymix.tables.tabular import read_tabular

    values, there, faults = read_tabular(part, cells)
    into[:] = values
    for own, cells_of_it, wrong in zip(part.parts, cells, faults, strict=True):
        if not isinstance(own, TextNumbersPart):  # its column is told of where it is read as text
            _tell(report, own.column, cells_of_it, rows, wrong)
    return there


def _texts(
    part: TextRecipe, cells: np.ndarray, into: np.ndarray, rows: np.ndarray, report: TableReport
) -> np.ndarray:
    tokenizer = TextTokenizer.from_json(part.tokenizer)
    wrong: dict[int, str] = {}
    for start in range(0, len(cells), 1024):
        texts = ["" if c is None else clean(c) for c in cells[start : start + 1024]]
        ids = tokenizer(texts, part.length)
        ids[ids >= part.vocabulary] = 1
        into[start : start + len(texts)] = ids
    there = into.any(1)
    for row in np.flatnonzero(~there):
        if cells[row] is not None:
            wrong[int(row)] = "no word"
    _tell(report, part.column, cells, rows, wrong)
    return np.asarray(there)


def clean(cell: Any) -> str:
    """A cell as text that a tokenizer takes: lone surrogates, which are no characters, go."""
    return text_of(cell)[:100_000].encode("utf-8", "ignore").decode()


def _tell(
    report: TableReport, column: str, cells: np.ndarray, rows: np.ndarray, wrong: Mapping[int, str]
) -> None:
    for row, cell in enumerate(cells):
        cause = EMPTY if cell is None else wrong.get(row)
        if cause is not None:
            report.faults.append(Fault(int(rows[row]), column, cause, shortened(cell)))


def _files(
    part: FileRecipe, cells: Sequence[np.ndarray], into: np.ndarray, rows: np.ndarray,
    folder: Path, report: TableReport, progress: Told | None, jobs: int | None,
) -> np.ndarray:  # fmt: skip
    group = isinstance(part, SeriesRecipe) and part.grid is not None
    what = np.stack(cells, 1) if group else cells[0]
    there = np.ones(len(rows), bool)
    wrong: dict[int, str] = {}
    done = 0
    for start, chunk in decoded(part, what, folder, jobs):
        for row, found in enumerate(chunk, start):
            if isinstance(found, str):
                there[row], wrong[row] = False, found
            else:
                into[row] = found
        done += len(chunk)
        if progress is not None:
            progress(done, len(rows), f"reading {part.name}")
    if group:
        for column, own in zip(columns_of(part), cells, strict=True):
            bad = {r: "not a number" for r, c in enumerate(own)
                   if c is not None and not abs(number_of(c)) <= LARGEST}  # fmt: skip
            _tell(report, column, own, rows, bad)
    else:
        _tell(report, columns_of(part)[0], cells[0], rows, wrong)
    return there


def decoded(
    part: FileRecipe, cells: np.ndarray, folder: Path, jobs: int | None
) -> Iterator[tuple[int, list[np.ndarray | str]]]:
    """Chunks of rows: where each starts, and an array or a cause for each of its rows."""
    from joblib import Parallel, cpu_count, delayed

    starts = range(0, len(cells), CHUNK)
    files = sum(
        not isinstance(part, SeriesRecipe) or str(c).lower().endswith(SUFFIXES)
        for c in (cells if cells.ndim == 1 else ())
        if c is not None
    )
    if isinstance(part, AudioRecipe):
        audio_libraries()
    jobs = jobs or cpu_count()
    if files < ALONE or jobs == 1:
        for start in starts:
            yield start, decode(part, cells[start : start + CHUNK], folder)
        return
    made = Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs")(
        delayed(decode)(part, cells[start : start + CHUNK], folder) for start in starts
    )
    yield from zip(starts, made, strict=True)


def decode(part: FileRecipe, cells: np.ndarray, folder: Path) -> list[np.ndarray | str]:
    """Each cell's array, or the cause why there is none."""
    found: list[np.ndarray | str] = []
    for cell in cells:
        try:
            if cell is None:
                raise Unreadable(EMPTY)
            if isinstance(part, ImageRecipe):
                found.append(read_image(part, cell, folder))
            elif isinstance(part, AudioRecipe):
                found.append(read_audio(part, cell, folder))
            else:
                found.append(read_series(part, cell, folder))
        except Unreadable as error:
            found.append(error.cause)
    return found


def read_target(recipe: TargetRecipe, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The target's values, and whether each row has one `(N,)` bool.

    Returns:
        `(N,)` int64 classes, `(N, L)` float32 label sets or `(N,)` float64 numbers; 0 where there
        is none, or one that is no class.
    """
    count = len(cells)
    several = recipe.task is Task.MULTILABEL
    places = {
        name if several else level_of(name): i for i, name in enumerate(recipe.classes)
    }  # fmt: skip
    labelled = np.zeros(count, bool)
    if recipe.task is Task.REGRESSION:
        values = np.array([np.nan if c is None else number_of(c) for c in cells], np.float64)
        labelled = np.abs(values) <= LARGEST
        return np.where(labelled, values, 0.0), labelled
    if recipe.task is Task.MULTILABEL:
        sets = np.zeros((count, len(places)), np.float32)
        for row, cell in enumerate(cells):
            if cell is None:
                continue
            known = [places[n] for n in labels_of(cell, recipe.separator) if n in places]
            sets[row, known] = 1.0
            labelled[row] = True
        return sets, labelled
    classes = np.zeros(count, np.int64)
    for row, cell in enumerate(cells):
        place = None if cell is None else places.get(level_of(cell))
        if place is not None:
            classes[row], labelled[row] = place, True
    return classes, labelled
