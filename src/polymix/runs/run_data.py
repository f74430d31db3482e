"""The data that a run was made on, opened again, or known again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from polymix.data.dataset import Dataset
from polymix.datasets import Progress, open_dataset
from polymix.datasets.cache import find_kept
from polymix.datasets.own_table import TableBuilder, open_table_dataset
from polymix.errors import RunFolderError, UsageError
from polymix.runs.config import RunConfig
from polymix.runs.table_options import table_options
from polymix.store.run_folder import RunFolder
from polymix.tables.files import open_table
from polymix.tables.join import MoreTables

Data = str | Path | pd.DataFrame | Dataset
"""A table, a dataset's folder or its name; or a frame, or a dataset."""


def open_own(
    folder: RunFolder,
    config: RunConfig,
    given: Dataset | pd.DataFrame | None,
    progress: Progress | None,
    named: MoreTables | None = None,
) -> Dataset:
    """A run's data, cut to its rows and weighed as it had them.

    Args:
        folder: the run's.
        config: the run's.
        given: the data, if they were an object.
        progress: told how far a build is.
        named: the tables of validation and of test rows, if they were frames.

    Raises:
        UsageError: they were an object, and are not given.
        RunFolderError: the folder belongs to other data.
        DataError: they cannot be read.
    """
    source = config.source
    if source.table is not None and given is None and _is_lost(source.table):
        given = kept_dataset(folder, config)
        if given is None:
            raise UsageError(
                f"{folder.path} was made on {source.table['path']}, which is not there any more: "
                "name its new place with --data PATH"
            )
    if source.table is not None and (given is None or isinstance(given, pd.DataFrame)):
        given = reopen_table(source.table, given, str(folder.path), progress, named)
    if isinstance(given, pd.DataFrame):
        raise UsageError(f"the data of {folder.path} were no table")
    if given is None:
        if not source.reopen:
            raise UsageError(f"the data of {folder.path} were an object: give them again")
        raw = None if source.raw is None else Path(source.raw)
        given = open_dataset(
            source.name,
            raw=raw,
            options=source.options,
            progress=progress,
            fingerprint=dict(folder.description["data"]).get("fingerprint"),
        )
    given = _cut(given, config)
    check_data(folder, given)
    return given if config.class_weights is None else given.with_balanced_classes()


def kept_dataset(folder: RunFolder, config: RunConfig) -> Dataset | None:
    """A run's data as the cache keeps them, cut to its rows; none where it does not.

    What they were made of is not looked at: it may have been moved.
    """
    there = folder.description.get("data")
    if not isinstance(there, Mapping) or not isinstance(there.get("fingerprint"), str):
        return None
    name = TableBuilder.NAME if config.source.table is not None else config.source.name
    found = find_kept(name, there["fingerprint"])
    if found is None or found.name != there.get("name"):
        return None
    return _cut(found, config)


def _cut(dataset: Dataset, config: RunConfig) -> Dataset:
    """A dataset with as many training rows as a run had."""
    rows = config.source.rows
    if rows is None or len(dataset.split.train) == rows:
        return dataset
    return dataset.with_train_rows(rows, seed=0)


def _is_lost(table: Mapping[str, Any]) -> bool:
    """Whether a run's table was a file that is not there any more."""
    path = table.get("path")
    return isinstance(path, str) and not Path(path).exists()


def moved(config: RunConfig, place: Path) -> RunConfig:
    """A configuration whose data lie elsewhere now.

    Args:
        config: a run's.
        place: its table's file, or the folder of its raw files.

    Raises:
        UsageError: there is nothing there, or the data were an object.
    """
    source = config.source
    if not place.exists():
        raise UsageError(f"--data {place}: there is no such file or folder")
    if source.table is None and not source.reopen:
        raise UsageError(f"--data {place}: the run's data were an object, not a file")
    at = str(place.resolve())
    change: dict[str, Any] = {"raw": at}
    if source.table is not None:
        # Whatever the file is called now, the table has the name that it was read under.
        change = {"table": {**source.table, "path": at, "name": source.name}}
    return config.model_copy(update={"source": source.model_copy(update=change)})


def reopen_table(
    source: Mapping[str, Any],
    frame: pd.DataFrame | None,
    where: str,
    progress: Progress | None,
    named: MoreTables | None = None,
) -> Dataset:
    """A run's table, opened again.

    Args:
        source: `SourceConfig.table`.
        frame: the table, if it was a frame.
        where: the run's folder, for messages.
        progress: told how far a build is.
        named: the tables of validation and of test rows, if they were frames.

    Raises:
        UsageError: it was a frame, and is not given.
        DataError: it cannot be read.
    """
    given = source.get("path") if frame is None else frame
    if given is None:
        raise UsageError(f"the data of {where} were an object: give them again")
    named = named or MoreTables()
    valid = source.get("tuning") if named.valid is None else named.valid
    test = source.get("test") if named.test is None else named.test
    lost = [
        f"the {what} data of {where} were a frame: give them again"
        for key, what, table in (("tuning", "tuning", valid), ("test", "test", test))
        if key in source and table is None
    ]
    if lost:
        raise UsageError(lost)
    if "name" in source and frame is None:
        given = replace(open_table(given), name=str(source["name"]))
    fields = dict(source.get("options") or {})
    options = table_options(str(fields.pop("target", "")), fields)
    return open_table_dataset(given, options, progress, MoreTables(valid, test))


def data_key(dataset: Dataset) -> dict[str, Any]:
    """What stands for a run's rows."""
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "split": dataset.split.fingerprint,
        "train": len(dataset.split.train),
        "val": len(dataset.split.val),
        "test": len(dataset.split.test),
    }


def check_data(folder: RunFolder, dataset: Dataset) -> None:
    """Make sure that a run folder's data are these.

    Raises:
        RunFolderError: they are not.
    """
    there = folder.description.get("data")
    here = data_key(dataset)
    if not isinstance(there, Mapping) or dict(there) != here:
        shown = dict(there) if isinstance(there, Mapping) else there
        raise RunFolderError(
            f"{folder.path} belongs to other data: it was made on {shown}, these are {here}. "
            "Bring back the data it was made on, name their place with --data, or start a new run "
            "with --run-dir"
        )
