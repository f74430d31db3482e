"""Evaluation on the test rows: the only place that opens them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix.data.dataset import Dataset
from polymix.data.schema import Task
from polymix.datasets import Progress
from polymix.errors import DataError
from polymix.records import Interval, Trial
from polymix.runs.asked import check_finished, unsealed
from polymix.runs.inference import on_schema, predict_dataset
from polymix.runs.open_run import OpenRun
from polymix.runs.overlap import fitted_among
from polymix.runs.rows import GIVEN, GivenRows, labelled, open_rows, own_table
from polymix.runs.run_data import Data
from polymix.runs.session import served_schema
from polymix.scoring.calibration import calibration_error, for_metric
from polymix.scoring.intervals import Predictions, Referee, interval_json
from polymix.scoring.metrics import METRICS, Metric
from polymix.tables.join import MoreTables
from polymix.train.evaluate import Evaluator

SCHEMA_VERSION = 1


def evaluate(
    run: OpenRun,
    data: Data | None = None,
    progress: Progress | None = None,
    named: MoreTables | None = None,
) -> dict[str, Any]:
    """Score a finished run as `evaluate_run` does, or on rows of a user's own as `evaluate_rows`.

    Args:
        run: is held while its own rows are evaluated, of which the folder keeps what is found.
        data: the run's own, where they were an object, or other rows; its own where not given.
        progress: called as `progress(done, total, what)` while rows are read.
        named: the run's own tables of validation and of test rows, if they were frames.

    Raises:
        RunFolderError: the run is not finished, or was made on other data.
        DataError: there is no row to score.
    """
    check_finished(run)
    if isinstance(data, str | Path | pd.DataFrame):
        data = own_table(run, data, progress, named) or open_rows(run, data, progress)
        if not run.owns(data):
            given = on_schema(data, run.served.schema)
            return evaluate_rows(run, labelled(given, np.arange(len(given)), GIVEN))
    with run.folder.hold():
        return evaluate_run(run, run.data(data, progress, named))


def evaluate_run(run: OpenRun, dataset: Dataset) -> dict[str, Any]:
    """Score a run's model, and every finalist over its seeds, on the test rows.

    Each model says what the temperature and the thresholds fitted to it on validation rows make
    it say.

    Returns:
        `{schema_version, split, n, metrics: {name: {value, ci}}, ece, shipped, finalists: […],
        shipped_minus: […], unscored: […], fusion_gain, fusion_missing}`, `ece` the expected
        calibration error, none for a regression; it is also written to `evaluation.json`. What
        fusion gained is what the run found when it chose: see `fusion_json`.

    Raises:
        DataError: the dataset has no test rows.
    """
    rows = dataset.split.test.open()
    if not len(rows):
        raise DataError(f"'{dataset.name}' has no test rows to evaluate on")
    targets = dataset.targets[rows]
    task = dataset.schema.target.task
    served = unsealed(run, dataset)
    predictions = served.predict(on_schema(dataset, served.schema), rows)
    asked = run.metric
    fitting = [m for m in METRICS.values() if task in m.tasks and m.fits(targets)]
    others = [m for m in fitting if m is not asked]
    metrics = {
        metric.name: interval_json(
            _score(metric, targets, for_metric(metric, served.schema.target, predictions))
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
        "shipped": run.metrics.get("chosen"),
        **_finalists(run, dataset, Referee(asked, targets)),
        "fusion_gain": run.metrics.get("fusion_gain"),
        "fusion_missing": run.metrics.get("fusion_missing"),
    }
    run.folder.write_evaluation(result)
    return result


def evaluate_rows(run: OpenRun, rows: GivenRows) -> dict[str, Any]:
    """Score a run's model on other rows than its own.

    Returns:
        As `evaluate_run`, without any finalist, `of` the number of rows with and without a label,
        and `fitted_rows` how many of them are rows that the model was fitted on, none where that
        is not known; nothing is written.
    """
    served, asked = run.served, run.metric
    targets, task = rows.targets, rows.dataset.schema.target.task
    predictions = served.predict(rows.dataset, rows.index)
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
        "fitted_rows": fitted_among(run, rows),
        "metric": asked.name,
        "metrics": metrics,
        "shipped": run.metrics.get("chosen"),
        "finalists": [],
        "shipped_minus": [],
        "unscored": [],
        "fusion_gain": run.metrics.get("fusion_gain"),
        "fusion_missing": run.metrics.get("fusion_missing"),
    }


def _score(metric: Metric, targets: np.ndarray, predictions: np.ndarray) -> Interval:
    """One model's score; its interval is that of the rows alone, for there is but one model."""
    return Referee(metric, targets).combined([(1.0, Predictions("model", predictions))])


def _finalists(run: OpenRun, dataset: Dataset, referee: Referee) -> dict[str, Any]:
    """Every finalist that has weights on the test rows, over its seeds, and what ships minus it.

    Those that were compared out of fold have none, but for what ships.
    """
    rows, shipped = dataset.split.test.open(), (run.metrics.get("chosen") or {}).get("rank")
    listed = [f for f in run.metrics["finalists"] if f["rank"] is not None]
    scored: dict[int, Sequence[Predictions]] = {}
    with run.ledger() as ledger:
        evaluator = run.evaluator(dataset, ledger)
        known = {t.key: t for t in ledger.trials()}
        for finalist in listed:
            trials = [known[t["key"]] for t in finalist["trials"] if t["key"] in known]
            kept = [t for t in trials if t.weights is not None][: max(1, finalist["seeds"])]
            if run.metrics.get("folds") and finalist["rank"] == shipped:
                kept = [known[key] for key in [run.metrics.get("development")] if key in known]
            whole = [ledger.get(t.key, t.proposal) or t for t in kept]
            scored[finalist["rank"]] = [_predicted(t, evaluator, dataset, rows) for t in whole]
    board = [
        {
            "rank_val": f["rank"],
            "shipped": f["rank"] == shipped,
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
    ours = () if shipped is None else scored.get(shipped, ())
    minus = [
        {
            "label": f["label"],
            "difference": interval_json(referee.difference(ours, scored[f["rank"]])),
        }
        for f in listed
        if f["rank"] != shipped and scored[f["rank"]] and ours
    ]
    unscored = [f["label"] for f in listed if not scored[f["rank"]]]
    return {"finalists": board, "shipped_minus": minus, "unscored": unscored}


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
