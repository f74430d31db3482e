"""Predictions as a table: one row for each row given, in its order."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from polymix.data.schema import Target, Task
from polymix.errors import UsageError
from polymix.runs.table_options import is_table
from polymix.tables.files import open_table
from polymix.tables.recipe import TargetRecipe

SCHEMA_VERSION = 1
SEPARATOR = ";"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with, in full width too."""


def predictions_frame(
    target: Target,
    said: np.ndarray,
    probabilities: np.ndarray,
    recipe: TargetRecipe | None = None,
    kept: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """A column with the prediction, called as the target is, then a probability for each class.

    Args:
        target: what is predicted.
        said: classes `(N,)`, label sets `(N, L)` bool, or values `(N,)`.
        probabilities: `(N, K)`; not used for a regression.
        recipe: the target's in the person's own table, whose spelling is kept.
        kept: columns of that table that stand before the prediction.
    """
    column = target.name if recipe is None else recipe.column
    names, columns = [column], [said]
    if target.task is Task.MULTILABEL:
        separator = (recipe.separator if recipe is not None else None) or SEPARATOR
        sets = [separator.join(np.array(target.classes)[row]) for row in said]
        columns = [np.array(sets, object)]
    if target.task is not Task.REGRESSION:
        names += [f"p({name})" for name in target.classes]
        columns += list(probabilities.T)
    if kept is not None:
        names = [*kept.columns, *names]
        columns = [*(kept.iloc[:, i].to_numpy() for i in range(kept.shape[1])), *columns]
    return pd.DataFrame(dict(enumerate(columns))).set_axis(names, axis=1)


def own_classes(recipe: TargetRecipe | None, names: np.ndarray) -> np.ndarray:
    """Class names `(N,)` as the person's table has them: text, whole numbers, floats or truths."""
    if recipe is None or recipe.dtype == "str":
        return names
    kinds = {"int": np.int64, "float": np.float64, "bool": np.bool_}
    return np.array([recipe.own(name) for name in names.tolist()], kinds[recipe.dtype])


def kept_columns(table: Any, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a person's table as they are, to stand beside the predictions.

    Raises:
        UsageError: it is no table, or has no such columns; all problems at once.
        DataError: it cannot be read.
    """
    if not is_table(table):
        raise UsageError(f"--id {', '.join(columns)}: only a table has columns to keep")
    opened = open_table(table)
    lost = opened.missing_columns(dict.fromkeys(columns, "--id"))
    if lost:
        raise UsageError(lost)
    return pd.DataFrame({column: opened[column] for column in columns})


def csv_text(frame: pd.DataFrame) -> str:
    """The table as CSV; numbers read back as they are.

    Text that a spreadsheet would run as a formula has an apostrophe before it, as OWASP advises
    (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    plain = pd.DataFrame(
        {i: c.map(_inert) if c.dtype.kind == "O" else c for i, c in enumerate(columns)}
    )
    header = [_inert(name) for name in frame.columns]
    texts = [*header, *(cell for _, c in plain.items() if c.dtype.kind == "O" for cell in c)]
    # Python quotes a cell with the end of a row in it, but not with the other end, which would
    # cut the row for whoever reads both.
    odd = any(isinstance(cell, str) and "\r" in cell for cell in texts)
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL
    text = io.StringIO()
    plain.to_csv(text, index=False, lineterminator="\n", header=header, quoting=quoting)
    return text.getvalue()


def _inert(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; a number is none."""
    if not isinstance(cell, str) or not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell


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
