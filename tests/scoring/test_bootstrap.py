"""Bootstrap draws scored at once are scikit-learn's scores of the drawn rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymix import seeds
from polymix.data.schema import Task
from polymix.scoring.bootstrap import draw_weights
from polymix.scoring.intervals import Predictions, Referee
from polymix.scoring.metrics import METRICS

CASES = [
    (name, task)
    for name, metric in METRICS.items()
    for task in sorted(metric.tasks)
    if metric.per_row is None
]


def sample(task, rows, width, seed):
    rng = np.random.default_rng(seed)
    if task is Task.REGRESSION:
        # Exact: rows all alike have no deviation. Far from zero, or with either sign.
        targets = (1000 if seed % 2 else 0) + rng.integers(-8, 8, rows) / 8
        return targets, (targets + rng.integers(-8, 8, rows) / 8)[:, None]
    # Few levels, so that scores tie; rare labels, so that draws lack some.
    if task is Task.MULTILABEL:
        predictions = rng.integers(0, 5, (rows, width)) / 4
        return (rng.random((rows, width)) < 0.2).astype(np.float32), predictions.astype("f4")
    count = 2 if task is Task.BINARY else max(width, 3)
    predictions = rng.integers(1, 5, (rows, count)).astype(np.float64)
    predictions /= predictions.sum(1, keepdims=True)
    return np.minimum(rng.geometric(0.5, rows) - 1, count - 1), predictions


def one_by_one(metric, targets, predictions, weights):
    found = []
    for draw in weights:
        rows = np.repeat(np.arange(len(targets)), draw.astype(int))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found.append(metric.score(targets[rows], predictions[rows]))
            except ValueError:  # one class alone has no curve
                found.append(np.nan)
    return np.array(found)


@pytest.mark.parametrize(("name", "task"), CASES)
@settings(max_examples=20)
@given(rows=st.integers(2, 40), width=st.integers(1, 4), seed=st.integers(0, 99))
def test_draws_are_scikit_learns(name, task, rows, width, seed):
    targets, predictions = sample(task, rows, width, seed)
    weights = draw_weights(rows, 5)
    metric = METRICS[name]
    np.testing.assert_allclose(
        metric.resampled(targets, predictions, weights),
        one_by_one(metric, targets, predictions, weights),
        rtol=1e-6,
        atol=1e-9,
    )


def test_draws_are_as_many_rows_as_there_are():
    weights = draw_weights(30, 8)
    assert weights.shape == (8, 30)
    assert (weights.sum(1) == 30).all()
    assert len({draw.tobytes() for draw in weights}) == 8
    rows = seeds.stream(0, "bootstrap").integers(30, size=30)
    assert (weights[0] == np.bincount(rows, minlength=30)).all()


@pytest.mark.parametrize("name", ["f1_weighted", "roc_auc"])
def test_the_interval_of_many_labels_is_that_of_the_drawn_rows(name):
    targets, predictions = sample(Task.MULTILABEL, 300, 20, 0)
    referee = Referee(METRICS[name], targets)
    one = type("One", (), {"key": "a", "predictions": predictions})()
    found = referee.score([one])
    slow = one_by_one(METRICS[name], targets, predictions, draw_weights(300, 200))
    half = 1.959963984540054 * slow.std() * np.sqrt(2)
    assert (found.high - found.low) / 2 == pytest.approx(half)


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if Task.REGRESSION in m.tasks])
def test_targets_that_are_all_zero_are_scored(name):
    referee = Referee(METRICS[name], np.zeros(5))
    found = referee.combined([(1.0, Predictions("model", np.arange(5.0)[:, None]))])
    assert name.endswith("_nonzero") == np.isnan(found.value)
