"""Evaluation on the test rows: the only place that opens them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from polymix.data.dataset import Dataset
from polymix.data.schema import Schema, Task
from polymix.datasets import Progress
from polymix.errors import DataError, RunFolderError
from polymix.nn.model import Model
from polymix.records import Interval, Role, Trial
from polymix.runs.config import RunConfig
from polymix.runs.inference import Served, load_model, on_schema, predict_dataset
from polymix.runs.rows import GIVEN, GivenRows, labelled, open_rows
from polymix.runs.run_data import Data, is_own, open_own, own_table
from polymix.runs.session import served_schema
from polymix.scoring.calibration import calibration_error, for_metric
from polymix.scoring.intervals import Predictions, Referee, interval_json
from polymix.scoring.metrics import METRICS, Metric, metric_for
from polymix.store.ledger import Ledger
from polymix.store.run_folder import RunFolder
from polymix.train.evaluate import Evaluator

SCHEMA_VERSION = 1


def evaluate(
    folder: RunFolder,
    data: Data | None,
    device: torch.device,
    progress: Progress | None = None,
    *,
    kept: Dataset | None = None,
) -> dict[str, Any]:
    """Score a finished run as `evaluate_run` does, or on rows of a user's own as `evaluate_rows`.

    Args:
        folder: open for writing.
        data: the run's own, where they were an object, or other rows; its own where not given.
        device: where models run.
        progress: called as `progress(done, total, what)` while rows are read.
        kept: the run's own data, where they are still open.

    Raises:
        RunFolderError: the run is not finished, or was made on other data.
        DataError: there is no row to score.
    """
    if folder.status != "finished":
        raise RunFolderError(
            f"{folder.path}: the run is not finished, and the test rows stay sealed until "
            f"it is: `polymix resume {folder.path}` goes on with it"
        )
    if isinstance(data, str | Path | pd.DataFrame):
        data = own_table(folder, data, progress) or open_rows(folder, data, progress)
        if not is_own(folder, data):
            served = Served.of(folder, device)
            given = on_schema(data, served.schema)
            rows = labelled(given, np.arange(len(given)), GIVEN)
            return evaluate_rows(folder, served, rows)
    return evaluate_run(folder, open_own(folder, data or kept, progress), device)


def evaluate_run(folder: RunFolder, dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """Score a run's model, and every finalist over its seeds, on the test rows.

    Each model says what the temperature and the thresholds fitted to it on validation rows make
    it say.

    Returns:
        `{schema_version, split, n, metrics: {name: {value, ci}}, ece, finalists: […]}`, `ece` the
        expected calibration error, none for a regression; it is also written to
        `evaluation.json`.

    Raises:
        DataError: the dataset has no test rows.
    """
    rows = dataset.split.test.open()
    if not len(rows):
        raise DataError(f"'{dataset.name}' has no test rows to evaluate on")
    config = RunConfig.of(folder)
    targets = dataset.targets[rows]
    task = dataset.schema.target.task
    model, schema = _unsealed_model(folder, config, dataset, device)
    predictions = predict_dataset(model, on_schema(dataset, schema), rows, device)
    asked = metric_for(task, config.metric)
    fitting = [m for m in METRICS.values() if task in m.tasks and m.fits(targets)]
    others = [m for m in fitting if m is not asked]
    metrics = {
        metric.name: interval_json(
            _score(metric, targets, for_metric(metric, schema.target, predictions))
        )
        for metric in (asked, *others)
    }
    result = {
        "schema_version": SCHEMA_VERSION,
        "split": "test",
        "n": len(rows),
        "metric": asked.name,
        "metrics": metrics,
        "ece": calibration_error(targets, predictions) if task is not Task.REGRESSION else None,
        **_finalists(folder, config, dataset, device, Referee(asked, targets)),
    }
    folder.write_evaluation(result)
    return result


def evaluate_rows(folder: RunFolder, served: Served, rows: GivenRows) -> dict[str, Any]:
    """Score a run's model on other rows than its own.

    Returns:
        As `evaluate_run`, `finalists` and `winner_minus` empty, and `of` the number of rows with
        and without a label; nothing is written.
    """
    config = RunConfig.of(folder)
    targets, task = rows.targets, rows.dataset.schema.target.task
    predictions = served.predict(rows.dataset, rows.index)
    asked = metric_for(task, config.metric)
    others = [m for m in METRICS.values() if task in m.tasks and m.fits(targets) and m is not asked]
    metrics = {}
    for metric in (asked, *others):
        with contextlib.suppress(ValueError):  # a class of which there is no row
            shown = for_metric(metric, served.schema.target, predictions)
            metrics[metric.name] = interval_json(_score(metric, targets, shown))
    return {
        "schema_version": SCHEMA_VERSION,
        "split": rows.split,
        "n": len(rows.index),
        "of": rows.of,
        "metric": asked.name,
        "metrics": metrics,
        "finalists": [],
        "winner_minus": [],
    }


def _score(metric: Metric, targets: np.ndarray, predictions: np.ndarray) -> Interval:
    """One model's score; its interval is that of the rows alone, for there is but one model."""
    return Referee(metric, targets).combined([(1.0, Predictions("model", predictions))])


def _evaluator(
    folder: RunFolder, dataset: Dataset, ledger: Ledger, metric: Metric, device: torch.device
) -> Evaluator:
    """What builds a run's models again; it writes nothing."""
    return Evaluator(
        dataset=dataset, metric=metric, memory=ledger, bank=folder.path / "bank", device=device,
        checkpoint_after=float("inf"),
    )  # fmt: skip


def _unsealed_model(
    folder: RunFolder, config: RunConfig, dataset: Dataset, device: torch.device
) -> tuple[Model, Schema]:
    """The model that the test rows may be asked of: what ships may have been fitted on them."""
    assert folder.metrics is not None
    model, schema = load_model(folder)
    key = folder.metrics.get("development")
    if key is None or key == folder.metrics.get("refit"):
        return model, schema
    metric = metric_for(dataset.schema.target.task, config.metric)
    with Ledger.open(config.ledger or folder.ledger_path, read_only=True) as ledger:
        trial = next((t for t in ledger.trials() if t.key == key), None)
        if trial is None or trial.weights is None:
            raise RunFolderError(
                f"{folder.path}: the ledger has no model that was fitted without the test rows: "
                "restore it, or run again"
            )
        fitted = _evaluator(folder, dataset, ledger, metric, device).trained(trial)
    return fitted, schema


def _finalists(
    folder: RunFolder, config: RunConfig, dataset: Dataset, device: torch.device, referee: Referee
) -> dict[str, Any]:
    """Every ranked finalist on the test rows, over its seeds, and what its own winner gained."""
    assert folder.metrics is not None
    rows = dataset.split.test.open()
    listed = [f for f in folder.metrics["finalists"] if f["rank"] is not None]
    scored: dict[int, Sequence[Predictions]] = {}
    with Ledger.open(config.ledger or folder.ledger_path, read_only=True) as ledger:
        evaluator = _evaluator(folder, dataset, ledger, referee.metric, device)
        known = {t.key: t for t in ledger.trials()}
        for finalist in listed:
            trials = [known[t["key"]] for t in finalist["trials"] if t["key"] in known]
            kept = [t for t in trials if t.weights is not None][: max(1, finalist["seeds"])]
            if folder.metrics.get("folds") and finalist["rank"] == folder.metrics["chosen"]["rank"]:
                kept = [known[key] for key in [folder.metrics.get("development")] if key in known]
            whole = [ledger.get(t.key, t.proposal) or t for t in kept]
            scored[finalist["rank"]] = [_predicted(t, evaluator, dataset, rows) for t in whole]
    board = [
        {
            "rank_val": f["rank"],
            "label": f["label"],
            "role": f["role"],
            "roles": f["roles"],
            "architecture": f["architecture"],
            "seeds": len(scored[f["rank"]]),
            "score_val": f["score_val"],
            "test": interval_json(referee.score(scored[f["rank"]])),
        }
        for f in listed
        if scored[f["rank"]]
    ]
    own = next((f["rank"] for f in listed if Role.WINNER.value in f["roles"]), None)
    versus = [
        {
            "label": f["label"],
            "difference": interval_json(referee.difference(scored[own], scored[f["rank"]])),
        }
        for f in listed
        if own is not None and f["rank"] != own and scored[f["rank"]] and scored[own]
    ]
    return {"finalists": board, "winner_minus": versus}


def _predicted(
    trial: Trial, evaluator: Evaluator, dataset: Dataset, rows: np.ndarray
) -> Predictions:
    model, target = evaluator.trained(trial), dataset.schema.target
    if trial.predictions is not None:  # what is fitted without scored rows has no decision
        target = served_schema(evaluator, trial).target
    schema = dataset.schema.model_copy(update={"target": target})
    found = predict_dataset(model, replace(dataset, schema=schema), rows, evaluator.device)
    return Predictions(trial.key, for_metric(evaluator.metric, target, found))


def headline(evaluation: Mapping[str, Any]) -> str:
    """One line: the metric on the test rows, with its interval."""
    name = evaluation["metric"]
    value = evaluation["metrics"][name]
    low, high = value["ci"]
    return f"{name} {value['value']:.4f} [{low:.4f}, {high:.4f}] on {evaluation['n']} test rows"
