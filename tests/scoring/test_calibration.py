"""Temperatures, thresholds, class weights: what is fitted after the choice, and what it does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sk
from sklearn.utils import class_weight
from torch.nn import functional

from polymix.data.schema import Decision, Target, Task
from polymix.data.statistics import MAX_CLASS_WEIGHT, balanced_weights
from polymix.errors import UsageError
from polymix.predictor import Predictor
from polymix.scoring import calibration as d
from polymix.scoring.metrics import METRICS
from polymix.testing import toy_dataset
from polymix.train.objective import Objective, class_weights

QUICK = {"encoders": ["mlp"], "networks": ["none"], "fusions": ["concat"], "epochs": 1,
         "full_epochs": 3}  # fmt: skip
LABELS = Target(name="y", task=Task.MULTILABEL, classes=("a", "b", "c"))
CLASSES = Target(name="y", task=Task.MULTICLASS, classes=("a", "b", "c"))


def overconfident(rows=4000, factor=3.0, labels=False):
    """Rows drawn from probabilities, and predictions that are `factor` times too sure."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((rows, 3))
    if labels:
        targets = (rng.random((rows, 3)) < special.expit(logits)).astype(np.float32)
        return targets, special.expit(factor * logits).astype(np.float32)
    p = special.softmax(logits, 1)
    targets = np.array([rng.choice(3, p=row) for row in p])
    return targets, special.softmax(factor * logits, 1).astype(np.float32)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_undoes_what_was_too_sure(labels, factor):
    targets, predictions = overconfident(factor=factor, labels=labels)
    temperature = d.fit_temperature(targets, predictions)
    assert temperature == pytest.approx(factor, rel=0.1)
    after = d.at_temperature(targets, predictions, temperature)
    assert d.calibration_error(targets, after) < 0.02
    assert d.calibration_error(targets, predictions) > 0.05
    same = d.at_temperature(targets, predictions, 1.0)
    np.testing.assert_allclose(same, predictions, atol=1e-6)


def test_right_on_a_few_rows_is_not_certain():
    predictions = np.tile([0.9, 0.1], (8, 1))
    temperature = d.fit_temperature(np.zeros(8, np.int64), predictions)
    assert 0.4 < temperature < 1


def test_the_calibration_error_by_hand():
    predictions = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.45, 0.55]])
    error = d.calibration_error(np.array([0, 1, 1, 1]), predictions)
    # 0.9 twice and right once; 0.6 and 0.55 (bins 9 and 8) both right.
    assert error == pytest.approx((abs(1 - 1.8) + 0.4 + 0.45) / 4)


@settings(max_examples=50)
@given(rows=st.integers(10, 60), seed=st.integers(0, 999))
def test_no_threshold_has_a_better_f1(rows, seed):
    rng = np.random.default_rng(seed)
    true = rng.random(rows) < 0.5
    p = rng.integers(1, 9, rows) / 8
    found = d._best_threshold(true, p)
    best = max(sk.f1_score(true, p > t, zero_division=0) for t in [-0.1, *np.unique(p)])
    assert sk.f1_score(true, p > found, zero_division=0) == pytest.approx(best)


def test_rare_labels_share_a_threshold():
    rng = np.random.default_rng(0)
    targets = np.zeros((200, 3), np.float32)
    targets[:, 0] = rng.random(200) < 0.5
    targets[:3, 1] = targets[:4, 2] = 1
    predictions = np.clip(0.3 * targets + 0.5 * rng.random((200, 3)), 0, 1)
    own, one, other = d.fit_thresholds(targets, predictions)
    assert one == other != own
    assert d.fit_thresholds(targets * 0, predictions) == (0.5, 0.5, 0.5)


def test_thresholds_help_the_labels_and_leave_curves_alone():
    targets, predictions = overconfident(labels=True)
    predictions = predictions**3  # every label is said too rarely
    decision = d.fit_decision(LABELS, targets, predictions)
    target = LABELS.model_copy(update={"decision": decision})
    cooled = d.at_temperature(targets, predictions, decision.temperature)
    f1, auc = METRICS["f1_weighted"], METRICS["roc_auc"]
    assert f1(targets, d.for_metric(f1, target, cooled)) > f1(targets, predictions) + 0.1
    np.testing.assert_array_equal(d.for_metric(auc, target, cooled), cooled)
    assert d.decode_predictions(target, cooled).dtype == bool


def test_what_is_said():
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    assert d.decode_predictions(CLASSES, p).tolist() == ["b", "a"]
    assert d.decode_predictions(LABELS, p).tolist() == [[False, False, False], [True, False, False]]
    decided = LABELS.model_copy(update={"decision": Decision(thresholds=(0.1, 0.9, 0.2))})
    assert d.decode_predictions(decided, p).tolist() == [[True, False, True], [True, False, False]]
    assert d.decode_predictions(Target(name="y", task=Task.REGRESSION), p[:, :1]).tolist() == [
        0.2,
        0.6,
    ]


def test_a_regression_has_nothing_to_decide():
    data = toy_dataset(task=Task.REGRESSION, classes=1)
    target = data.schema.target
    assert d.fit_decision(target, data.targets, data.targets[:, None]) is None
    assert d.calibration(None, data.targets, data.targets[:, None]) is None


# In a run.


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.MULTILABEL, Task.BINARY, Task.REGRESSION])
def test_a_run_keeps_its_decision_and_uses_it(tmp_path, task):
    classes = {Task.BINARY: 2, Task.REGRESSION: 1}.get(task, 3)
    data = toy_dataset(260, ("series", "table"), task=task, classes=classes)
    predictor = Predictor(path=tmp_path / "run", device="cpu").fit(data, options=QUICK, trials=10)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    kept = metrics["calibration"]
    found = predictor.evaluate(data)
    predictions = predictor.predict_proba(data)
    said = predictor.predict(data)
    rows = data.split.test.open()
    if task is Task.REGRESSION:
        assert kept is None
        assert found["ece"] is None
        assert "decision" not in metrics["schema"]["target"]
        np.testing.assert_array_equal(said, predictions[:, 0])
        return
    decision = metrics["schema"]["target"]["decision"]
    assert decision["temperature"] == kept["temperature"] != 1.0
    assert kept["log_loss_after"] < kept["log_loss_before"]
    assert {"ece_before", "ece_after"} <= kept.keys()
    assert found["ece"] == pytest.approx(d.calibration_error(data.targets[rows], predictions[rows]))
    if task is Task.MULTILABEL:
        np.testing.assert_array_equal(said, predictions > np.array(decision["thresholds"], "f4"))
        f1 = sk.f1_score(data.targets[rows], said[rows], average="weighted", zero_division=0)
        assert found["metrics"]["f1_weighted"]["value"] == pytest.approx(f1)
        own = data.split.val
        assert sk.f1_score(data.targets[own], said[own], average="macro") >= sk.f1_score(
            data.targets[own], predictions[own] > 0.5, average="macro"
        )
    else:
        assert decision["thresholds"] == []
    # The finalist that is shipped is told of as what it says, not as what its outputs are.
    shown = [f["test"]["value"] for f in found["finalists"]]
    assert all(0 <= value <= 1 for value in shown)


# Class weights.


def test_balanced_weights_are_scikit_learns():
    rng = np.random.default_rng(0)
    targets = rng.choice(3, 500, p=[0.7, 0.25, 0.05])
    expected = class_weight.compute_class_weight("balanced", classes=np.arange(3), y=targets)
    np.testing.assert_allclose(balanced_weights(CLASSES, targets), expected)
    labels = (rng.random((500, 3)) < [0.5, 0.1, 0.0]).astype(np.float32)
    expected = (500 - labels.sum(0)) / np.maximum(labels.sum(0), 1)
    found = balanced_weights(LABELS, labels)
    np.testing.assert_allclose(found, np.minimum(expected, MAX_CLASS_WEIGHT))
    with pytest.raises(UsageError, match="regression target has no classes"):
        balanced_weights(Target(name="y", task=Task.REGRESSION), rng.random(5))


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.MULTILABEL])
def test_the_loss_weighs_rows(task):
    data = toy_dataset(90, task=task, classes=2 if task is Task.BINARY else 3)
    weighed = data.with_balanced_classes()
    weights = class_weights(weighed.schema.target)
    assert class_weights(data.schema.target) is None
    logits = torch.randn((9, len(weights)), generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(data.targets[:9])
    plain = Objective(data.schema).row_losses(logits, target)
    found = Objective(weighed.schema).row_losses(logits, target)
    if task is Task.MULTILABEL:
        each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        expected = torch.where(target > 0, each * weights, each).mean(1)
    else:
        expected = plain * weights[target]
    torch.testing.assert_close(found, expected)
    assert weighed.fingerprint == data.fingerprint


def test_class_weights_are_asked_for(tmp_path):
    data = toy_dataset(200, ("table",), classes=3)
    predictor = Predictor(path=tmp_path / "run", device="cpu")
    predictor.fit(data, options=QUICK, trials=6, class_weights="balanced")
    schema = json.loads((tmp_path / "run" / "schema.json").read_text())
    assert len(schema["target"]["weights"]) == 3
    assert predictor.evaluate(data)["n"] == len(data.split.test)
    assert Predictor.resume(tmp_path / "run", data).leaderboard_json()["status"] == "finished"
    with pytest.raises(UsageError, match=r"^class_weights rare: Known: balanced\.$"):
        Predictor(path=tmp_path / "no").fit(data, class_weights="rare")
    numbers = toy_dataset(100, ("table",), task=Task.REGRESSION, classes=1)
    with pytest.raises(UsageError, match="regression target has no classes"):
        Predictor(path=tmp_path / "no", device="cpu").fit(numbers, class_weights="balanced")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": (1.0,)}, "1 weights for 3 classes"),
        ({"weights": (1.0, -1.0, 1.0)}, "greater than 0"),
        ({"decision": {"thresholds": (0.5,)}}, "1 thresholds for 3 labels"),
        ({"decision": {"temperature": 0.0}}, "greater than 0"),
        ({"decision": {"thresholds": (0.5, 1.5, 0.5)}}, "less than or equal to 1"),
    ],
)
def test_targets_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        Target.model_validate({**LABELS.model_dump(), **changes})


def test_a_target_without_them_is_written_as_before():
    assert LABELS.model_dump(mode="json").keys() == {"name", "task", "classes", "statistics"}
