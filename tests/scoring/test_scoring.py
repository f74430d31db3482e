"""Losses, metrics, and what a score can be trusted to."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch.nn import functional

from polymix import seeds
from polymix.data.schema import Task
from polymix.errors import UsageError
from polymix.nn.tokens import Output
from polymix.records import Recipe
from polymix.runs.checks import check_names
from polymix.scoring.intervals import Referee
from polymix.scoring.metric_names import ALIASES
from polymix.scoring.metrics import METRICS, known_as, metric_for
from polymix.testing import toy_dataset
from polymix.train.evaluate import Evaluator
from polymix.train.objective import Objective


def sample(task, rows=200, classes=4):
    rng = seeds.stream(0, "scores", task)
    if task is Task.REGRESSION:
        targets = rng.standard_normal(rows).astype(np.float32)
        return targets, (targets + rng.standard_normal(rows))[:, None].astype(np.float32)
    if task is Task.MULTILABEL:
        targets = (rng.random((rows, classes)) < 0.4).astype(np.float32)
        return targets, (0.6 * rng.random((rows, classes)) + 0.4 * targets * rng.random()).astype(
            "f4"
        )
    count = 2 if task is Task.BINARY else classes
    targets = rng.integers(0, count, rows)
    logits = rng.standard_normal((rows, count)) + np.eye(count)[targets]
    p = np.exp(logits)
    return targets, (p / p.sum(1, keepdims=True)).astype(np.float32)


def log_loss(y, p):
    if y.ndim == 2:
        return np.mean([sk.log_loss(y[:, i], p[:, i]) for i in range(y.shape[1])])
    return sk.log_loss(y, p / p.sum(1, keepdims=True), labels=range(p.shape[1]))


def hard(function, **options):
    def score(y, p):
        return function(y, (p > 0.5).astype(int) if y.ndim == 2 else p.argmax(1), **options)

    return score


def auc(y, p):
    if y.ndim == 2:
        return sk.roc_auc_score(y, p)
    return sk.roc_auc_score(y, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr")


def precision(y, p):
    if y.ndim == 1 and p.shape[1] == 2:
        return sk.average_precision_score(y, p[:, 1])
    return sk.average_precision_score(y if y.ndim == 2 else y[:, None] == range(p.shape[1]), p)


def kappa(y, p):
    """Cohen's kappa by scikit-learn, over all whole numbers there are."""
    said = p[:, 0].round() if y.dtype.kind == "f" else p.argmax(1)
    y = y.round().astype(int)
    every = range(int(min(y.min(), said.min())), int(max(y.max(), said.max())) + 1)
    return sk.cohen_kappa_score(y, said.astype(int), labels=list(every), weights="quadratic")


EXPECTED = {
    "accuracy": hard(sk.accuracy_score),
    "balanced_accuracy": hard(sk.balanced_accuracy_score),
    "f1": hard(sk.f1_score),
    "f1_macro": hard(sk.f1_score, average="macro"),
    "f1_micro": hard(sk.f1_score, average="micro"),
    "f1_weighted": hard(sk.f1_score, average="weighted"),
    "matthews_corrcoef": hard(sk.matthews_corrcoef),
    "roc_auc": auc,
    "average_precision": precision,
    "neg_log_loss": lambda y, p: -log_loss(y, p),
    "r2": lambda y, p: sk.r2_score(y, p[:, 0]),
    "neg_mean_absolute_error": lambda y, p: -sk.mean_absolute_error(y, p[:, 0]),
    "neg_mean_squared_error": lambda y, p: -sk.mean_squared_error(y, p[:, 0]),
    "neg_root_mean_squared_error": lambda y, p: -sk.root_mean_squared_error(y, p[:, 0]),
}
OWN = {
    "pearson_r": lambda y, p: np.corrcoef(y, p[:, 0])[0, 1],
    "accuracy_7": lambda y, p: np.mean(np.round(np.clip(p[:, 0], -3, 3)) == np.round(y)),
    "accuracy_2": lambda y, p: np.mean((p[:, 0] >= 0) == (y >= 0)),
    "accuracy_2_nonzero": lambda y, p: np.mean((p[:, 0] > 0)[y != 0] == (y > 0)[y != 0]),
    "f1_weighted_2": lambda y, p: sk.f1_score(y >= 0, p[:, 0] >= 0, average="weighted"),
    "f1_weighted_2_nonzero": lambda y, p: sk.f1_score(
        (y > 0)[y != 0], (p[:, 0] > 0)[y != 0], average="weighted"
    ),
    "quadratic_kappa": kappa,
}
"""Those for which scikit-learn's scorers have no name."""
OF_SENTIMENT = OWN.keys() - {"pearson_r", "quadratic_kappa"}
EXPECTED |= OWN
CASES = [(name, task) for name, metric in METRICS.items() for task in sorted(metric.tasks)]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_metrics_are_scikit_learns(name, task):
    targets, predictions = sample(task)
    assert METRICS[name](targets, predictions) == pytest.approx(
        EXPECTED[name](targets, predictions), abs=1e-5
    )
    assert (name in sk.get_scorer_names()) == (name not in OWN)


def test_every_metric_is_checked():
    assert EXPECTED.keys() == METRICS.keys()


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metrics_are_sent_to_other_processes(metric):
    assert pickle.loads(pickle.dumps(metric)) is metric


@pytest.mark.parametrize(("name", "task"), CASES)
def test_better_is_higher(name, task):
    targets, predictions = sample(task)
    if task is Task.REGRESSION:
        right = targets[:, None]
    elif task is Task.MULTILABEL:
        right = targets
    else:
        right = np.eye(predictions.shape[1])[targets]
    assert METRICS[name](targets, right) > METRICS[name](targets, predictions)


def test_metrics_by_name():
    assert metric_for(Task.MULTILABEL).name == "f1_weighted"
    with pytest.raises(UsageError, match="no metric 'acuracy': did you mean 'accuracy'"):
        metric_for(Task.BINARY, "acuracy")
    with pytest.raises(UsageError, match="not for a regression target: use one of accuracy_2"):
        metric_for(Task.REGRESSION, "accuracy")


@pytest.mark.parametrize(("task", "said", "name"), [
    (Task.REGRESSION, "rmse", "neg_root_mean_squared_error"),
    (Task.REGRESSION, "MSE", "neg_mean_squared_error"),
    (Task.REGRESSION, "mae", "neg_mean_absolute_error"),
    (Task.REGRESSION, "r2", "r2"),
    (Task.REGRESSION, "qwk", "quadratic_kappa"),
    (Task.MULTICLASS, "quadratic_kappa", "quadratic_kappa"),
    (Task.BINARY, "AUC", "roc_auc"),
    (Task.BINARY, "f1", "f1"),
    (Task.MULTICLASS, "f1-macro", "f1_macro"),
    (Task.MULTICLASS, "log_loss", "neg_log_loss"),
    (Task.BINARY, "balanced_accuracy", "balanced_accuracy"),
    (Task.BINARY, "mcc", "matthews_corrcoef"),
    (Task.MULTILABEL, "average_precision", "average_precision"),
])  # fmt: skip
def test_metrics_by_the_names_that_people_use(task, said, name):
    assert metric_for(task, said) is METRICS[name]


def test_other_names_are_of_metrics_and_are_suggested():
    assert set(ALIASES.values()) <= METRICS.keys()
    assert not ALIASES.keys() & METRICS.keys()
    with pytest.raises(UsageError, match="no metric 'rsme': did you mean 'rmse'"):
        metric_for(Task.REGRESSION, "rsme")
    with pytest.raises(UsageError, match="'rmse' is not for a binary target"):
        metric_for(Task.BINARY, "rmse")
    with pytest.raises(UsageError, match="did you mean 'qwk'"):
        check_names(metric="qwq", problem=None)


@given(st.text(max_size=30))
def test_a_metrics_name_is_found_or_refused_whatever_it_is(text):
    found = known_as(text)
    assert found in METRICS or found == text
    assert known_as(found) == found


# Sentiment.


def test_sentiment_as_it_is_read():
    targets = np.array([-3.0, -0.4, 0.0, 0.4, 2.6], np.float32)
    values = np.array([[-9.0], [0.1], [-0.2], [-0.4], [3.4]], np.float32)
    found = {name: METRICS[name](targets, values) for name in OF_SENTIMENT}
    assert found["accuracy_7"] == 1.0  # rounded: -3, 0, 0, 0, 3
    assert found["accuracy_2"] == pytest.approx(2 / 5)
    assert found["accuracy_2_nonzero"] == pytest.approx(2 / 4)
    assert METRICS["accuracy_7"](targets, np.zeros((5, 1))) == pytest.approx(3 / 5)
    assert METRICS["pearson_r"](targets, targets[:, None]) == pytest.approx(1)
    assert METRICS["pearson_r"](targets, -targets[:, None]) == pytest.approx(-1)


def test_a_correlation_with_what_is_all_alike_is_none():
    targets = np.array([-1.0, 2.0])
    assert METRICS["pearson_r"](targets, np.ones((2, 1))) == 0
    assert METRICS["pearson_r"](np.ones(2), targets[:, None]) == 0


def test_without_a_target_that_is_not_zero_there_is_nothing_to_measure():
    for name in ("accuracy_2_nonzero", "f1_weighted_2_nonzero"):
        assert np.isnan(METRICS[name](np.zeros(3), np.ones((3, 1))))


def test_metrics_of_sentiment_are_for_values_that_may_be_it():
    for name, metric in METRICS.items():
        assert metric.fits(np.array([-3.0, 1.0, 3.0]))
        assert metric.fits(np.array([-3.0, 1.0, 12.0])) == (name not in OF_SENTIMENT)
        assert metric.fits(np.array([-3.0, 0.5, 3.0])) == (name != "quadratic_kappa")
        assert metric.fits(np.zeros(0)) == (name not in OF_SENTIMENT | {"quadratic_kappa"})


# The loss.


@pytest.mark.parametrize("task", Task)
def test_losses_by_hand(task):
    classes = {Task.BINARY: 2, Task.REGRESSION: 1}.get(task, 3)
    data = toy_dataset(60, classes=classes, task=task)
    objective = Objective(data.schema)
    target = torch.from_numpy(data.targets[:10])
    logits = torch.randn(
        (10, data.schema.target.outputs), generator=torch.Generator().manual_seed(0)
    )
    losses = objective.row_losses(logits, target)
    if task is Task.REGRESSION:
        fitted = data.schema.target.statistics
        expected = (logits[:, 0] - (target - fitted.mean[0]) / fitted.std[0]) ** 2
        shown = logits * fitted.std[0] + fitted.mean[0]
    elif task is Task.MULTILABEL:
        expected = functional.binary_cross_entropy_with_logits(
            logits, target, reduction="none").mean(1)  # fmt: skip
        shown = torch.sigmoid(logits)
    else:
        expected = functional.cross_entropy(logits, target, reduction="none")
        shown = torch.softmax(logits, 1)
    # A regression's values may lie far from zero: they are told in double precision.
    wide = torch.float64 if task is Task.REGRESSION else torch.float32
    torch.testing.assert_close(losses, expected.float())
    torch.testing.assert_close(objective.predict(logits), shown.to(wide))


def test_an_absent_modalitys_own_loss_is_masked():
    data = toy_dataset(60)
    objective = Objective(data.schema)
    generator = torch.Generator().manual_seed(0)
    fused, series, table = (torch.randn((6, 3), generator=generator) for _ in range(3))
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    present = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]]) > 0
    output = Output(fused, {"series": series, "table": table})
    weights = (0.5, {"series": 0.3, "table": 0.2})
    there = present[:, 1]
    expected = 0.5 * functional.cross_entropy(fused, target)
    expected = expected + 0.3 * functional.cross_entropy(series[there], target[there])
    torch.testing.assert_close(objective(output, target, present, weights), expected)
    everyone = 0.2 * functional.cross_entropy(table, target)
    everyone = everyone + 0.5 * functional.cross_entropy(fused, target)
    everyone = everyone + 0.3 * functional.cross_entropy(series, target)
    torch.testing.assert_close(objective(output, target, None, weights), everyone)


# Intervals.


@dataclass(frozen=True)
class Model:
    key: str
    predictions: np.ndarray


def correct(rng, p, rows, *, targets=None):
    """A model that is right on each row with probability p."""
    right = rng.random(rows) < p
    chosen = np.where(right, targets, 1 - targets)
    return np.eye(2)[chosen].astype(np.float32)


def models(seed, chances, rows=400, runs=3):
    rng = seeds.stream(seed, "simulated")
    targets = rng.integers(0, 2, rows)
    return targets, [
        [Model(f"{i}/{r}", correct(rng, p, rows, targets=targets)) for r in range(runs)]
        for i, p in enumerate(chances)
    ]


def test_differences_are_symmetric_and_zero_with_oneself():
    targets, (a, b) = models(0, (0.8, 0.7))
    referee = Referee(METRICS["accuracy"], targets)
    one, other = referee.difference(a, b), referee.difference(b, a)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.low < one.value < one.high
    assert one.value == pytest.approx(referee.score(a).value - referee.score(b).value)
    assert referee.difference(a, a).value == 0
    assert referee.difference(a, a).noise
    assert not referee.difference(a, b).noise
    fewer = referee.difference(a[:1], b)
    assert fewer.value == pytest.approx(referee.value(a[0]) - referee.value(b[0]))


@pytest.mark.parametrize("runs", [1, 3])
def test_intervals_cover_the_truth(runs):
    hits = trials = 0
    for seed in range(150):
        targets, (a, b) = models(seed, (0.8, 0.75), runs=runs)
        interval = Referee(METRICS["accuracy"], targets).difference(a, b)
        hits += interval.low <= 0.05 <= interval.high
        trials += 1
    # 95% and a little more: two sources of noise are added up.
    assert hits / trials > 0.92


def test_equal_models_tie_and_clearly_different_ones_do_not():
    ties = losses = 0
    for seed in range(100):
        targets, (a, b, c) = models(seed, (0.8, 0.8, 0.6))
        referee = Referee(METRICS["accuracy"], targets)
        ties += referee.difference(a, b).noise
        losses += not referee.difference(a, c).noise
    assert ties >= 93
    assert losses == 100


@pytest.mark.parametrize("name", ["f1_macro", "roc_auc", "balanced_accuracy"])
def test_metrics_that_are_no_means_are_bootstrapped(name):
    targets, (a, b) = models(1, (0.85, 0.6), runs=2)
    referee = Referee(METRICS[name], targets)
    interval = referee.score(a)
    assert interval.low < METRICS[name](targets, a[0].predictions) < interval.high
    assert 0.01 < interval.high - interval.low < 1
    assert not referee.difference(a, b).noise
    assert referee.difference(a, a).noise


def test_the_bootstrap_agrees_with_the_closed_form():
    from dataclasses import replace

    targets, (a, b) = models(2, (0.8, 0.7), runs=1)
    closed = Referee(METRICS["accuracy"], targets).difference(a, b)
    drawn = Referee(replace(METRICS["accuracy"], per_row=None), targets).difference(a, b)
    assert drawn.value == pytest.approx(closed.value)
    assert drawn.high - drawn.low == pytest.approx(closed.high - closed.low, rel=0.15)


def test_two_unsteady_seeds_are_no_tie_with_what_is_far_better():
    targets = np.zeros(750, np.int64)

    def scored(key: str, right: float) -> SimpleNamespace:
        hits = np.arange(750) < right * 750
        return SimpleNamespace(key=key, predictions=np.stack([hits, ~hits], 1).astype(float))

    referee = Referee(METRICS["accuracy"], targets)
    good = [scored("a", 0.83), scored("b", 0.82)]
    unsteady = [scored("c", 0.46), scored("d", 0.30)]
    assert not referee.difference(good, unsteady).noise
    low, high = referee.score(unsteady).low, referee.score(unsteady).high
    assert 0 < low < 0.38 < high < 1


def test_a_balanced_loss_weighs_a_labels_positives_as_its_negatives(tmp_path):
    """MFAS, section 4.2: of training rows alone, a label of all rows or none among them."""
    data = toy_dataset(60, ("table",), task=Task.MULTILABEL)
    rows = data.split.train
    data.targets[:] = 0
    data.targets[rows, 0] = 1
    data.targets[rows[: len(rows) // 4], 1] = 1
    evaluator = Evaluator(data, METRICS["f1_weighted"], None, tmp_path)
    objective = evaluator._objective(Recipe(balanced=True))
    weights = objective.weights
    count, some = len(rows), len(rows) // 4
    # No weight is below a hundredth, nor above a hundred: a label of all rows still counts.
    expected = [0.01, (count - some) / some] + [min(count, 100)] * (data.targets.shape[1] - 2)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    logits = torch.zeros(count, data.targets.shape[1])
    target = torch.from_numpy(data.targets[rows])
    losses = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weights)
    torch.testing.assert_close(objective.row_losses(logits, target).mean(), losses)
    assert evaluator._objective(Recipe()).weights is None
    asked = Evaluator(data.with_balanced_classes(), METRICS["f1_weighted"], None, tmp_path)
    assert torch.equal(asked._objective(Recipe(balanced=True)).weights, weights)
    plain = Evaluator(toy_dataset(60, ("table",)), METRICS["accuracy"], None, tmp_path)
    assert plain._objective(Recipe(balanced=True)).weights is None


@pytest.mark.parametrize("name", METRICS)
def test_no_interval_passes_what_a_score_can_be(name):
    metric = METRICS[name]
    task = next(t for t in Task if t in metric.tasks)
    targets, _ = sample(task, rows=12)
    best = targets[:, None] if task is Task.REGRESSION else targets
    if task not in (Task.REGRESSION, Task.MULTILABEL):
        best = np.eye(2 if task is Task.BINARY else 4)[targets]
    least, most = metric.bounds
    assert metric(targets, best) == pytest.approx(most, abs=1e-5)
    rng = seeds.stream(0, "bounds")
    nearly = best + rng.normal(0, 0.4, best.shape)
    one, two = (SimpleNamespace(key=str(i), predictions=p) for i, p in enumerate([best, nearly]))
    referee = Referee(metric, targets)
    for found in (referee.score([one, two]), referee.combined([(1.0, two)])):
        assert least <= found.low <= found.value <= found.high <= most + 1e-12
    apart = referee.combined([(1.0, two), (-1.0, one)])
    assert abs(apart.low) <= most - least
    assert apart.value == pytest.approx(referee.value(two) - referee.value(one))
