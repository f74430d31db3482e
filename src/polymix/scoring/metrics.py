"""Metrics under scikit-learn's names, where it has them; `score` is higher-is-better everywhere.

Sentiment from -3 to 3 is a regression whose values are also read as classes. Acc-7 rounds them.
Acc-2 has two readings, which differ by points, so that both are here: `accuracy_2` is negative
against non-negative, of all rows (Zadeh et al. 2018); `accuracy_2_nonzero` is negative against
positive, of the rows whose target is not 0 (Tsai et al. 2019). Likewise weighted F1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from polymix.data.schema import Task
from polymix.errors import UsageError, did_you_mean
from polymix.registry import Parts, register
from polymix.scoring import bootstrap as resampling
from polymix.scoring.metric_names import ALIASES, own_name, plainly

Array = np.ndarray
CLASSES = frozenset({Task.BINARY, Task.MULTICLASS})
THRESHOLD = 0.5
MAX_SENTIMENT = 3
MAX_RATING = 1000
"""Whole numbers up to this may be ratings, which agree by their quadratic kappa."""

CORRELATIONS = ("pearson_r", "matthews_corrcoef", "quadratic_kappa")
"""Metrics from -1 to 1."""


@dataclass(frozen=True)
class Metric:
    """A metric of predictions.

    Attributes:
        name: scikit-learn's scorer name.
        tasks: the tasks it is for.
        score: targets and predictions to a number, higher is better. Predictions are
            probabilities `(N, K)` of classes or labels, or values `(N, 1)`.
        per_row: the same as a number a row `(N,)` whose mean it is, where it is a mean.
        resampled: the same of bootstrap draws at once, where it is none: see `train.resampling`.
        hard: whether it scores the labels said, not how probable they are.
        fits: whether it means anything of targets; always, where not given.
    """

    name: str
    tasks: frozenset[Task]
    score: Callable[[Array, Array], float]
    per_row: Callable[[Array, Array], Array] | None = None
    resampled: Callable[[Array, Array, Array], Array] | None = None
    hard: bool = False
    fits: Callable[[Array], bool] = lambda _: True

    @property
    def bounds(self) -> tuple[float, float]:
        """What no score is below, and none above."""
        if self.name.startswith("neg_"):
            return -math.inf, 0.0
        least = {"r2": -math.inf, **dict.fromkeys(CORRELATIONS, -1.0)}
        return least.get(self.name, 0.0), 1.0

    def __reduce__(self) -> tuple[Callable[[str], Metric], tuple[str]]:
        # Sent to another process by name: its functions cannot be.
        return _named, (self.name,)

    def __call__(self, targets: Array, predictions: Array) -> float:
        """The score."""
        if self.per_row is not None:
            return float(self.per_row(targets, predictions).mean())
        with warnings.catch_warnings():
            # A class that is never predicted has an F1 of 0; that is what we mean.
            warnings.simplefilter("ignore")
            return float(self.score(targets, predictions))


def _lacks(metric: Metric) -> Iterator[str]:
    if not metric.tasks or not set(metric.tasks) <= set(Task):
        yield f"tasks={set(metric.tasks)!r}: one or more of {', '.join(Task)}"
    if not callable(metric.score):
        yield f"score={metric.score!r}: a function of targets and predictions"


def _named(name: str) -> Metric:
    return METRICS[name]


def labels(targets: Array, predictions: Array) -> Array:
    """Hard predictions: the likeliest class, or the labels above one half."""
    if targets.ndim == 2:
        return np.asarray(predictions > THRESHOLD, np.int64)
    return np.asarray(predictions.argmax(1))


def _hard(function: Callable[..., float], **options: object) -> Callable[[Array, Array], float]:
    def score(targets: Array, predictions: Array) -> float:
        return function(targets, labels(targets, predictions), **options)

    return score


def _hard_draws(function: Callable[..., Array], **options: object) -> Any:
    def score(targets: Array, predictions: Array, weights: Array) -> Array:
        return function(targets, labels(targets, predictions), weights, **options)

    return score


def _f1(name: str, tasks: frozenset[Task], average: str) -> Metric:
    score = _hard(sk.f1_score, average=average, zero_division=0)
    draws = _hard_draws(resampling.f1, average=average)
    return Metric(name, tasks, score, resampled=draws, hard=True)


def _right(targets: Array, predictions: Array) -> Array:
    hit = labels(targets, predictions) == targets
    return np.asarray(hit.all(1) if hit.ndim == 2 else hit, np.float64)


def _log_likelihood(targets: Array, predictions: Array) -> Array:
    p = np.clip(predictions.astype(np.float64), 1e-7, 1 - 1e-7)
    if targets.ndim == 2:
        return np.asarray((targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(1))
    return np.asarray(np.log(p[np.arange(len(p)), targets]))


def _auc(targets: Array, predictions: Array) -> float:
    if targets.ndim == 2:
        return float(sk.roc_auc_score(targets, predictions, average="macro"))
    if predictions.shape[1] == 2:
        return float(sk.roc_auc_score(targets, predictions[:, 1]))
    return float(
        sk.roc_auc_score(
            targets, predictions, multi_class="ovr", labels=np.arange(predictions.shape[1])
        )
    )


def _average_precision(targets: Array, predictions: Array) -> float:
    """Precision averaged over recall (of one label's, or the mean over classes or labels)."""
    if targets.ndim == 1 and predictions.shape[1] == 2:
        return float(sk.average_precision_score(targets, predictions[:, 1]))
    count = predictions.shape[1]
    true = targets > 0 if targets.ndim == 2 else targets[:, None] == np.arange(count)
    return float(sk.average_precision_score(true, predictions, average="macro"))


def _ratings(targets: Array, predictions: Array) -> tuple[Array, Array]:
    """Targets and predictions as whole numbers: the likeliest class's place, or what is nearest."""
    if not np.issubdtype(targets.dtype, np.floating):
        return targets, labels(targets, predictions)
    return targets.round(), predictions[:, 0].round()


def _quadratic_kappa(targets: Array, predictions: Array) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968); 0 where both sides are all alike."""
    return float(_kappa_draws(targets, predictions, np.ones((1, len(targets))))[0])


def _kappa_draws(targets: Array, predictions: Array, weights: Array) -> Array:
    return resampling.quadratic_kappa(*_ratings(targets, predictions), weights)


def _are_ratings(targets: Array) -> bool:
    """Whether a regression's targets are whole numbers; places of classes always are."""
    if not np.issubdtype(targets.dtype, np.floating):
        return True
    whole = bool(len(targets)) and bool((targets == targets.round()).all())
    return whole and float(np.abs(targets).max()) <= MAX_RATING


def _minus_absolute(targets: Array, predictions: Array) -> Array:
    return np.asarray(-np.abs(targets.astype(np.float64) - predictions[:, 0]))


def _minus_square(targets: Array, predictions: Array) -> Array:
    return np.asarray(-((targets.astype(np.float64) - predictions[:, 0]) ** 2))


def _sentiment(targets: Array) -> bool:
    return bool(len(targets)) and float(np.abs(targets).max()) <= MAX_SENTIMENT


def _seven(values: Array) -> Array:
    return np.asarray(np.clip(values, -MAX_SENTIMENT, MAX_SENTIMENT).round(), np.int64)


def _right_of_seven(targets: Array, predictions: Array) -> Array:
    return np.asarray(_seven(targets) == _seven(predictions[:, 0]), np.float64)


def _right_of_two(targets: Array, predictions: Array) -> Array:
    return np.asarray((targets >= 0) == (predictions[:, 0] >= 0), np.float64)


def _of_two(function: Callable[..., float], **options: object) -> Callable[[Array, Array], float]:
    def score(targets: Array, predictions: Array) -> float:
        return float(function(targets >= 0, predictions[:, 0] >= 0, **options))

    return score


def _of_nonzero(
    function: Callable[..., float], **options: object
) -> Callable[[Array, Array], float]:
    def score(targets: Array, predictions: Array) -> float:
        rows = targets != 0
        if not rows.any():
            return float("nan")
        return float(function(targets[rows] > 0, predictions[rows, 0] > 0, **options))

    return score


def _of_two_draws(function: Callable[..., Array], nonzero: bool, **options: object) -> Any:
    def score(targets: Array, predictions: Array, weights: Array) -> Array:
        rows = targets != 0 if nonzero else np.ones(len(targets), bool)
        if not rows.any():
            return np.full(len(weights), np.nan)
        true, said = targets[rows] >= 0, predictions[rows, 0] >= 0
        if nonzero:
            said = predictions[rows, 0] > 0
        found = function(true.astype(np.int64), said.astype(np.int64), weights[:, rows], **options)
        return np.where(weights[:, rows].sum(1) > 0, found, np.nan)

    return score


def _pearson(targets: Array, predictions: Array) -> float:
    """Pearson's correlation; 0 where one side is all alike."""
    if np.ptp(targets) == 0 or np.ptp(predictions[:, 0]) == 0:
        return 0.0
    return float(stats.pearsonr(targets, predictions[:, 0]).statistic)


LABELLED = CLASSES | {Task.MULTILABEL}
REGRESSION = frozenset({Task.REGRESSION})

METRICS: Parts[Metric] = Parts(
    "a metric",
    "an object of polymix.scoring.metrics.Metric",
    lambda part: isinstance(part, Metric),
    _lacks,
    of_classes=False,
)

for _metric in (
    Metric("accuracy", LABELLED, _hard(sk.accuracy_score), _right, hard=True),
    Metric(
        "balanced_accuracy",
        CLASSES,
        _hard(sk.balanced_accuracy_score),
        resampled=_hard_draws(resampling.balanced_accuracy),
        hard=True,
    ),
    _f1("f1", frozenset({Task.BINARY}), "binary"),
    _f1("f1_macro", LABELLED, "macro"),
    _f1("f1_micro", LABELLED, "micro"),
    _f1("f1_weighted", LABELLED, "weighted"),
    Metric(
        "matthews_corrcoef",
        CLASSES,
        _hard(sk.matthews_corrcoef),
        resampled=_hard_draws(resampling.matthews),
        hard=True,
    ),
    Metric(
        "quadratic_kappa",
        CLASSES | REGRESSION,
        _quadratic_kappa,
        resampled=_kappa_draws,
        hard=True,
        fits=_are_ratings,
    ),
    Metric("roc_auc", LABELLED, _auc, resampled=resampling.roc_auc),
    Metric(
        "average_precision",
        LABELLED,
        _average_precision,
        resampled=resampling.average_precision,
    ),
    Metric("neg_log_loss", LABELLED, lambda y, p: _log_likelihood(y, p).mean(), _log_likelihood),
    Metric("r2", REGRESSION, lambda y, p: float(sk.r2_score(y, p[:, 0])), resampled=resampling.r2),
    Metric(
        "neg_mean_absolute_error",
        REGRESSION,
        lambda y, p: _minus_absolute(y, p).mean(),
        _minus_absolute,
    ),
    Metric(
        "neg_mean_squared_error",
        REGRESSION,
        lambda y, p: _minus_square(y, p).mean(),
        _minus_square,
    ),
    Metric(
        "neg_root_mean_squared_error",
        REGRESSION,
        lambda y, p: -float(np.sqrt(-_minus_square(y, p).mean())),
        resampled=resampling.minus_root_mean_square,
    ),
    Metric("pearson_r", REGRESSION, _pearson, resampled=resampling.pearson),
    Metric(
        "accuracy_7",
        REGRESSION,
        lambda y, p: float(sk.accuracy_score(_seven(y), _seven(p[:, 0]))),
        _right_of_seven,
        fits=_sentiment,
    ),
    Metric("accuracy_2", REGRESSION, _of_two(sk.accuracy_score), _right_of_two, fits=_sentiment),
    Metric(
        "accuracy_2_nonzero",
        REGRESSION,
        _of_nonzero(sk.accuracy_score),
        resampled=_of_two_draws(resampling.accuracy, nonzero=True),
        fits=_sentiment,
    ),
    Metric(
        "f1_weighted_2",
        REGRESSION,
        _of_two(sk.f1_score, average="weighted", zero_division=0),
        resampled=_of_two_draws(resampling.f1, nonzero=False, average="weighted"),
        fits=_sentiment,
    ),
    Metric(
        "f1_weighted_2_nonzero",
        REGRESSION,
        _of_nonzero(sk.f1_score, average="weighted", zero_division=0),
        resampled=_of_two_draws(resampling.f1, nonzero=True, average="weighted"),
        fits=_sentiment,
    ),
):
    register(_metric)

DEFAULTS = {
    Task.BINARY: "accuracy",
    Task.MULTICLASS: "accuracy",
    Task.MULTILABEL: "f1_weighted",
    Task.REGRESSION: "r2",
}


def metric_for(task: Task, name: str | None = None) -> Metric:
    """A metric by its name, or another that people use (see `metric_names`), or the task's own.

    Raises:
        UsageError: there is no such metric, or it is not for this task.
    """
    if name is None:
        return METRICS[DEFAULTS[task]]
    fitting = [m.name for m in METRICS.values() if task in m.tasks]
    check_known(name, fitting)
    found = METRICS[known_as(name)]
    if task not in found.tasks:
        raise UsageError(
            f"metric '{name}' is not for a {task} target: use one of {', '.join(sorted(fitting))}"
        )
    return found


def steady(metric: Metric, task: Task) -> Metric:
    """What to choose weights by: a metric of the labels said moves in jumps, which are noise."""
    if not metric.hard:
        return metric
    return METRICS["neg_mean_squared_error" if task is Task.REGRESSION else "neg_log_loss"]


def known_as(name: str) -> str:
    """A metric's own name, by that or by another that people use; a stranger's as it is."""
    return name if name in METRICS or own_name(name) not in METRICS else own_name(name)


def check_known(name: str, among: Iterable[str] | None = None) -> None:
    """Make sure that there is a metric of a name.

    Args:
        name: its own, or another that people use.
        among: own names that may be suggested; all where not given.

    Raises:
        UsageError: there is none; the nearest name is told.
    """
    if known_as(name) in METRICS:
        return
    own = list(METRICS if among is None else among)
    more = [alias for alias, metric in ALIASES.items() if metric in own]
    raise UsageError(f"no metric '{name}': {did_you_mean(plainly(name), [*own, *more])}")
