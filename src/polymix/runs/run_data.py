"""The data that a run was made on, opened again, or known again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from polymix.data.dataset import Dataset
from polymix.datasets import Progress, open_dataset
from polymix.datasets.own_table import open_table_dataset
from polymix.errors import RunFolderError, UsageError
from polymix.runs.config import RunConfig
from polymix.runs.table_options import table_options
from polymix.store.run_folder import RunFolder
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
    if source.rows is not None and len(given.split.train) != source.rows:
        given = given.with_train_rows(source.rows, seed=0)
    check_data(folder, given)
    return given if config.class_weights is None else given.with_balanced_classes()


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
            "Bring back the data it was made on, or start a new run with --run-dir"
        )
