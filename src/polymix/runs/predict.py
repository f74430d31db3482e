"""What a run's model says of rows: probabilities, predictions, and how right they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from polymix.data.dataset import Dataset
from polymix.data.schema import Task
from polymix.datasets import Progress
from polymix.errors import UsageError
from polymix.runs.inference import on_schema
from polymix.runs.open_run import OpenRun
from polymix.runs.predictions import kept_columns, own_classes, predictions_frame
from polymix.runs.rows import open_rows, rows_of_arrays
from polymix.runs.run_data import Data
from polymix.scoring.calibration import decode_predictions, encode_targets, for_metric
from polymix.tables.cells import level_of, text_of

Rows = Data | Mapping[str, np.ndarray | None]
"""What is named, or raw arrays by modality."""


def predict_proba(
    run: OpenRun,
    data: Rows,
    present: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Probabilities of classes or labels, `(N, K)`, or values `(N, 1)`, a row for each row.

    Args:
        run: whose model predicts.
        data: a table, or a dataset or its folder or name; or raw arrays by modality,
            `(N, *shape)`, one that is left out is absent.
        present: `(N,)` bool by modality, where only some rows of raw arrays lack one.
        progress: called as `progress(done, total, what)` while rows are read.

    Raises:
        RunFolderError: there is no model yet, or its files disagree.
        UsageError: there is no such thing to read.
        DataError: the rows cannot be read, or are none of the model's.
    """
    served = run.served
    if isinstance(data, Mapping):
        rows = rows_of_arrays(served.schema, data, present)
    else:
        rows = on_schema(open_rows(run, data, progress), served.schema)
    return served.predict(rows, np.arange(len(rows)))


def predict(
    run: OpenRun,
    data: Rows,
    present: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Classes `(N,)`, label sets `(N, L)` bool, or values `(N,)`; see `predict_proba`.

    Classes are of the type that they have in the table that was fitted: text, int, float, bool.
    """
    return _said(run, predict_proba(run, data, present, progress))


def predictions(
    run: OpenRun, data: Data, *, keep: Sequence[str] = (), progress: Progress | None = None
) -> pd.DataFrame:
    """What both say of every row; see `predictions_frame`.

    Args:
        run: whose model predicts.
        data: a table, or a dataset or its folder or name.
        keep: columns of the table that stand before the predictions, such as an id.
        progress: called as `progress(done, total, what)` while rows are read.
    """
    kept = kept_columns(data, keep) if keep else None
    probabilities = predict_proba(run, data, progress=progress)
    target, said = run.folder.schema.target, _said(run, probabilities)
    return predictions_frame(target, said, probabilities, run.target_recipe, kept)


def classes(run: OpenRun) -> np.ndarray:
    """The classes or labels, in the order of the probabilities' columns; none for a regression."""
    target = run.folder.schema.target
    names = np.array(target.classes)
    return names if target.task is Task.MULTILABEL else own_classes(run.target_recipe, names)


def _said(run: OpenRun, probabilities: np.ndarray) -> np.ndarray:
    said = decode_predictions(run.target, probabilities)
    return own_classes(run.target_recipe, said) if said.dtype.kind == "U" else said


def score(run: OpenRun, data: Rows, y: np.ndarray | None = None) -> float:
    """The run's metric on rows, higher is better.

    Args:
        run: whose model predicts.
        data: as `predict_proba` takes them.
        y: what is right: class names `(N,)`, label sets `(N, L)`, or values `(N,)`; a dataset
            has its own.

    Raises:
        UsageError: `y` is missing, or names classes that were not trained.
    """
    probabilities = predict_proba(run, data)
    if y is not None:
        if run.target_recipe is not None and run.target.task in (Task.BINARY, Task.MULTICLASS):
            known = {level_of(name): name for name in run.target.classes}
            said = [known.get(level_of(one), text_of(one)) for one in np.asarray(y).tolist()]
            y = np.array(said, object)
        right = encode_targets(run.target, y)
    elif isinstance(data, Dataset):
        right = np.asarray(data.targets)
    else:
        raise UsageError("score needs y, what is right, where the data do not have it")
    return run.metric(right, for_metric(run.metric, run.target, probabilities))
