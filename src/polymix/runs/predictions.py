"""Predictions as a table: one row for each row given, in its order."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix.data.schema import Target, Task
from polymix.errors import UsageError
from polymix.store.files import write_atomic

SCHEMA_VERSION = 1
SEPARATOR = ";"


def predictions_frame(
    target: Target, said: np.ndarray, probabilities: np.ndarray, separator: str = SEPARATOR
) -> pd.DataFrame:
    """A column with the prediction, called as the target is, then a probability for each class.

    Args:
        target: what is predicted.
        said: class names `(N,)`, label sets `(N, L)` bool, or values `(N,)`.
        probabilities: `(N, K)`; not used for a regression.
        separator: between a row's labels, where it may have several.
    """
    if target.task is Task.REGRESSION:
        return pd.DataFrame({target.name: said})
    if target.task is Task.MULTILABEL:
        said = np.array([separator.join(np.array(target.classes)[row]) for row in said], object)
    names = [target.name, *(f"p({name})" for name in target.classes)]
    columns = [said, *probabilities.T]
    return pd.DataFrame(dict(enumerate(columns))).set_axis(names, axis=1)


def check_path(path: Path) -> None:
    """Make sure, before anything is predicted, that there is a place for the file.

    Raises:
        UsageError: there is none.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--out {path}: name a file in a folder that exists")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a CSV file, whole or not at all; one that is there is replaced.

    Raises:
        UsageError: it cannot be written.
    """
    check_path(path)
    try:
        write_atomic(path, csv_text(frame).encode())
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror or error}") from None


def csv_text(frame: pd.DataFrame) -> str:
    """The table as CSV; numbers read back as they are."""
    text = io.StringIO()
    frame.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def predictions_json(frame: pd.DataFrame, path: Path | None) -> dict[str, Any]:
    """`{schema_version, n, out, columns, rows}`; `rows` only where no file was written."""
    told: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "n": len(frame),
        "out": None if path is None else str(path),
        "columns": list(frame.columns),
    }
    if path is None:
        columns = [frame.iloc[:, i].tolist() for i in range(frame.shape[1])]
        told["rows"] = [list(row) for row in zip(*columns, strict=True)]
    return told
