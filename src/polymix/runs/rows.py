"""The rows that a command is to score or to predict, brought to the model's schema."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.folder import target_layout
from polymix.data.schema import Schema, Task
from polymix.data.split import SealedRows, Split
from polymix.datasets import DATASETS, Progress, open_dataset
from polymix.errors import DataError, PolymixError, PolymixWarning, UsageError, did_you_mean
from polymix.runs.open_run import OpenRun
from polymix.runs.run_data import Data
from polymix.tables.files import open_table
from polymix.tables.join import MoreTables
from polymix.tables.read import read_rows
from polymix.tables.recipe import TableRecipe
from polymix.tables.report import unread_lines

GIVEN = "given"
"""The split of rows that are none of the run's."""

MAX_EXPLAINED_ROWS = 2000
"""Rows that are scored again and again where nothing else is asked for."""


@dataclass(frozen=True)
class GivenRows:
    """Some rows of a dataset.

    Attributes:
        dataset: on the model's schema.
        index: which of its rows `(N,)`; where they are to be scored, all of them are labelled.
        split: `validation`, `test`, `out-of-fold`, or `given`.
        of: how many rows there were to take them from.
    """

    dataset: Dataset
    index: np.ndarray
    split: str
    of: int

    @classmethod
    def every(cls, dataset: Dataset) -> GivenRows:
        """All of a dataset's, labelled or not."""
        return cls(dataset, np.arange(len(dataset)), GIVEN, len(dataset))

    @property
    def targets(self) -> np.ndarray:
        """Of the rows, `(N,)` or `(N, L)`."""
        return np.asarray(self.dataset.targets[self.index])

    def drawn(self, most: int, seed: int = 0) -> GivenRows:
        """At most so many of them, drawn at random, in their order."""
        if len(self.index) <= most:
            return self
        chosen = seeds.stream(seed, "rows").choice(len(self.index), most, replace=False)
        return GivenRows(self.dataset, self.index[np.sort(chosen)], self.split, self.of)


def labelled(dataset: Dataset, index: np.ndarray, split: str) -> GivenRows:
    """The rows that have a label.

    Raises:
        DataError: none has.
    """
    targets = np.asarray(dataset.targets[index])
    known = targets >= 0 if targets.dtype.kind == "i" else np.isfinite(targets)
    known = known.all(1) if dataset.schema.target.task is Task.MULTILABEL else known
    if not known.any():
        raise DataError(
            f"'{dataset.name}': no row has a label in '{dataset.schema.target.name}', "
            "and without labels nothing can be scored"
        )
    return GivenRows(dataset, index[known], split, len(index))


def opened_rows(run: OpenRun, data: Data | None, progress: Progress | None) -> tuple[Dataset, bool]:
    """The rows that a user names, and whether they are the run's own, with its splits.

    Args:
        run: its own are meant where nothing is named.
        data: what a user names, if anything.
        progress: called as `progress(done, total, what)` while rows are read.

    Raises:
        UsageError: there is no such thing.
        DataError: it cannot be read.
        RunFolderError: the folder belongs to other data.
    """
    opened = None
    if data is not None:
        opened = own_table(run, data, progress) or open_rows(run, data, progress)
    if opened is None or run.owns(opened):
        return run.data(opened, progress), True
    return opened, False


def own_table(
    run: OpenRun, given: Data, progress: Progress | None, named: MoreTables | None = None
) -> Dataset | None:
    """The run's own table, with its splits, where that is what is given.

    The table of its sealed rows stands for it: what ships may have been fitted on them, so that
    `evaluate` alone scores them.

    Args:
        run: the run.
        given: what a user names.
        progress: called as `progress(done, total, what)` while rows are read.
        named: the run's own tables of validation and of test rows, if they were frames.
    """
    table = run.config.source.table
    if table is None or isinstance(given, Dataset):
        return None
    if _is_sealed(run, given):
        return run.data(None, progress)
    path = table.get("path")
    if isinstance(given, pd.DataFrame):
        with contextlib.suppress(PolymixError):  # another frame is none of the run's
            return run.data(given, progress, named) if path is None else None
        return None
    if path is None or not Path(path).exists() or not Path(given).exists():
        return None
    return run.data(None, progress) if Path(given).samefile(path) else None


def _is_sealed(run: OpenRun, given: str | Path | pd.DataFrame) -> bool:
    """Whether a table's cells are those of the run's own test table."""
    known = (run.folder.data_report or {}).get("sealed")
    if known is None or (not isinstance(given, pd.DataFrame) and not Path(given).is_file()):
        return False
    return open_table(given).digest == str(known)


def open_rows(run: OpenRun, source: Data, progress: Progress | None) -> Dataset:
    """Open rows that a user names, which need not be the run's own.

    Args:
        run: the one whose model is to see them: a table is read as that run's was, and a
            dataset of the same name is opened with the same settings.
        source: the name, the path, or the rows; a dataset is returned as it is.
        progress: called as `progress(done, total, what)` while they are read.

    Raises:
        UsageError: there is no such thing, or the run was not made on a table.
        DataError: it cannot be read.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, pd.DataFrame):
        return read_table(run, source, progress)
    path = Path(source)
    if path.is_dir():
        return Dataset.open(path)
    if path.exists():
        return read_table(run, path, progress)
    name = str(source)
    if name not in DATASETS:
        raise UsageError(f"{source}: no such file, and no dataset '{name}': "
                         f"{did_you_mean(name, DATASETS)}")  # fmt: skip
    own = run.config.source
    same = own.name == name
    raw = Path(own.raw) if same and own.raw else None
    options = own.options if same else {}
    return open_dataset(name, raw=raw, options=options, progress=progress)


def read_table(
    run: OpenRun, table: str | Path | pd.DataFrame, progress: Progress | None
) -> Dataset:
    """Read a table as the run's own was read, one row in, one row out.

    A row without a known label has class -1, or NaN.

    Raises:
        UsageError: the run was not made on a table.
        DataError: it cannot be read.
    """
    folder = run.folder
    if folder.table_json is None:
        given = "the frame" if isinstance(table, pd.DataFrame) else str(table)
        raise UsageError(
            f"{given}: {folder.path} was not made on a table; name a dataset or its folder "
            f"('{folder.schema.target.name}' from {', '.join(folder.schema.names)})"
        )
    recipe = TableRecipe.from_json(folder.table_json, str(folder.path / "table.json"))
    rows = read_rows(table, recipe, progress)
    for line in unread_lines(rows.report, len(rows)):
        warnings.warn(f"{rows.report.table}: {line}", PolymixWarning, stacklevel=2)
    shape, dtype = target_layout(recipe.row_schema.target, len(rows))
    targets = np.zeros(shape, dtype) if rows.targets is None else rows.targets
    targets[~rows.labelled] = -1 if targets.dtype.kind == "i" else np.nan
    return _unsplit(rows.report.table, recipe.row_schema, rows.arrays, rows.present, targets)


def rows_of_arrays(
    schema: Schema,
    arrays: Mapping[str, np.ndarray | None],
    present: Mapping[str, np.ndarray] | None = None,
) -> Dataset:
    """Raw arrays as rows; a modality that is left out is absent.

    Args:
        schema: the model's.
        arrays: by modality, `(N, *shape)`.
        present: `(N,)` bool by modality, where only some rows lack one.

    Raises:
        DataError: unknown modalities, or arrays that do not fit the schema; all at once.
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    problems = [
        f"no modality '{name}': {did_you_mean(name, schema.names)}"
        for name in [*given, *(present or {})]
        if name not in schema.names
    ]
    sizes = {len(a) for a in given.values()} | {len(m) for m in (present or {}).values()}
    if len(sizes) != 1:
        problems.append(f"every modality must have as many rows, but got {sorted(sizes)}")
    for modality in schema.modalities:
        array = given.get(modality.name)
        if array is not None and (
            array.shape[1:] != modality.shape or array.dtype != np.dtype(modality.dtype)
        ):
            problems.append(
                f"modality '{modality.name}': rows of {modality.shape} {modality.dtype} expected, "
                f"but got {array.shape[1:]} {array.dtype}"
            )
    if problems:
        raise DataError(problems)
    count = sizes.pop()
    mask = np.zeros((count, len(schema.names)), bool)
    filled: dict[str, np.ndarray] = {}
    for column, modality in enumerate(schema.modalities):
        array = given.get(modality.name)
        if array is None:
            array = np.zeros((count, *modality.shape), modality.dtype)
        else:
            mask[:, column] = True if present is None else present.get(modality.name, True)
        filled[modality.name] = np.ascontiguousarray(array)
    shape, dtype = target_layout(schema.target, count)
    return _unsplit("arrays", schema, filled, mask, np.zeros(shape, dtype))


def _unsplit(
    name: str,
    schema: Schema,
    arrays: Mapping[str, np.ndarray],
    present: np.ndarray,
    targets: np.ndarray,
) -> Dataset:
    """Rows that nothing was or will be fitted to."""
    nobody = np.zeros(0, np.int64)
    split = Split(nobody, nobody, SealedRows(np.arange(len(targets))))
    return Dataset(name, schema, arrays, present, targets, split, fingerprint="")
