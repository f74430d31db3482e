"""From a trained model's outputs to what is said: a temperature, and a threshold a label.

Both are fitted on the validation rows alone, after the choice: the temperature by the likelihood
(Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2), the thresholds by each
label's F1. They are kept in the served schema's target, where whatever predicts finds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize, special

from polymix.data.schema import Decision, Target, Task
from polymix.errors import UsageError
from polymix.scoring.metrics import Metric

BINS = 15
MIN_POSITIVE_ROWS = 10
"""Positive rows below which a label has the threshold of all labels together."""

COOLEST, HOTTEST = 0.1, 10.0
HALF = 0.5


def fit_decision(target: Target, targets: np.ndarray, predictions: np.ndarray) -> Decision | None:
    """The decision of a model, from what it says of the validation rows; none for a regression.

    Args:
        target: what is predicted.
        targets: of the rows, `(N,)` or `(N, L)`.
        predictions: probabilities at a temperature of one, `(N, K)`.
    """
    if target.task is Task.REGRESSION:
        return None
    temperature = fit_temperature(targets, predictions)
    if target.task is not Task.MULTILABEL:
        return Decision(temperature=temperature)
    cooled = at_temperature(targets, predictions, temperature)
    return Decision(temperature=temperature, thresholds=fit_thresholds(targets, cooled))


def _logits(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    p = np.clip(predictions.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(special.logit(p) if targets.ndim == 2 else np.log(p))


def at_temperature(targets: np.ndarray, predictions: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities `(N, K)` as they are at another temperature than one."""
    logits = _logits(targets, predictions) / temperature
    return np.asarray(special.expit(logits) if targets.ndim == 2 else special.softmax(logits, 1))


def negative_log_likelihood(targets: np.ndarray, logits: np.ndarray) -> float:
    """Summed over rows, averaged over labels."""
    if targets.ndim == 2:
        signed = np.where(targets > 0, -logits, logits)
        return float(np.logaddexp(0.0, signed).mean(1).sum())
    picked = logits[np.arange(len(logits)), targets]
    return float((special.logsumexp(logits, 1) - picked).sum())


def mean_loss(target: Target, targets: np.ndarray, predictions: np.ndarray) -> float:
    """The loss of predictions `(N, K)` that the objective has for a row, averaged over rows.

    Cross-entropy, or the squared error in the target's standard deviations.
    """
    if target.task is Task.REGRESSION:
        scale = target.statistics.std[0] if target.statistics else 1.0
        return float((((predictions[:, 0] - targets) / scale) ** 2).mean())
    return negative_log_likelihood(targets, _logits(targets, predictions)) / len(targets)


def fit_temperature(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The temperature under which the rows are likeliest.

    A prior of log T ~ N(0, 1), which counts like half a row, keeps a model that is right on all
    of a few rows from being called certain.
    """
    logits = _logits(targets, predictions)

    def badness(log_t: float) -> float:
        return negative_log_likelihood(targets, logits / np.exp(log_t)) + log_t**2 / 2

    bounds = (float(np.log(COOLEST)), float(np.log(HOTTEST)))
    found = optimize.minimize_scalar(badness, bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def fit_thresholds(targets: np.ndarray, predictions: np.ndarray) -> tuple[float, ...]:
    """For each label, above which probability it is said: where its F1 is best.

    A label of few positive rows has the threshold that is best for all labels together.
    """
    together = _best_threshold(targets.ravel() > 0, predictions.ravel())
    return tuple(
        _best_threshold(true, p) if true.sum() >= MIN_POSITIVE_ROWS else together
        for true, p in zip(targets.T > 0, predictions.T.astype(np.float64), strict=True)
    )


def _best_threshold(true: np.ndarray, p: np.ndarray) -> float:
    if not true.any():
        return HALF
    order = np.argsort(-p, kind="stable")
    sorted_p = p[order].astype(np.float64)
    cuts = np.flatnonzero(np.diff(sorted_p, append=-1.0))  # the last row of each level
    hits = np.cumsum(true[order])[cuts]
    f1 = 2 * hits / (cuts + 1 + true.sum())
    best = int(f1.argmax())
    below = sorted_p[cuts[best] + 1] if best + 1 < len(cuts) else 0.0
    return float((sorted_p[cuts[best]] + below) / 2)


def calibration_error(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Expected calibration error over `BINS` bins of equal width.

    Of the likeliest class's probability against how often it is right; for label sets, of every
    label's probability against how often it is there.
    """
    if targets.ndim == 2:
        sure, right = predictions.ravel(), targets.ravel() > 0
    else:
        sure, right = predictions.max(1), predictions.argmax(1) == targets
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right - sure.astype(np.float64), BINS)
    return float(np.abs(gaps).sum() / len(sure))


def calibration(
    decision: Decision | None, targets: np.ndarray, predictions: np.ndarray
) -> dict[str, Any] | None:
    """What a decision changes, as plain data: the calibration error and the loss of both.

    Args:
        decision: of the model.
        targets: of the rows that it was fitted on.
        predictions: of those, at a temperature of one.
    """
    if decision is None:
        return None
    after = at_temperature(targets, predictions, decision.temperature)

    def loss(p: np.ndarray) -> float:
        return negative_log_likelihood(targets, _logits(targets, p)) / len(targets)

    return {
        "temperature": decision.temperature,
        "thresholds": list(decision.thresholds),
        "ece_before": calibration_error(targets, predictions),
        "ece_after": calibration_error(targets, after),
        "log_loss_before": loss(predictions),
        "log_loss_after": loss(after),
    }


def for_metric(metric: Metric, target: Target, predictions: np.ndarray) -> np.ndarray:
    """What a metric is to score: the labels said, where it scores those, else the predictions."""
    if metric.hard and target.task is Task.MULTILABEL:
        return np.asarray(decode_predictions(target, predictions), np.float64)
    return predictions


def decode_predictions(target: Target, predictions: np.ndarray) -> np.ndarray:
    """Class names `(N,)`, label sets `(N, L)` bool, or values `(N,)`."""
    if target.task is Task.REGRESSION:
        return predictions[:, 0]
    if target.task is Task.MULTILABEL:
        known = target.decision.thresholds if target.decision else ()
        return np.asarray(predictions > np.array(known or HALF, predictions.dtype))
    return np.asarray(np.array(target.classes)[predictions.argmax(1)])


def encode_targets(target: Target, y: np.ndarray) -> np.ndarray:
    """What `decode_predictions` says, back as a dataset's targets: codes, label sets or values.

    Raises:
        UsageError: classes that the target does not have.
    """
    y = np.asarray(y)
    if target.task is Task.REGRESSION:
        return y.astype(np.float64)
    if target.task is Task.MULTILABEL:
        return y.astype(np.float32)
    codes = {name: code for code, name in enumerate(target.classes)}
    unknown = sorted({str(name) for name in y.tolist()} - codes.keys())
    if unknown:
        known = ", ".join(target.classes[:10])
        raise UsageError(f"no class {', '.join(unknown[:5])} was trained: there are {known}")
    return np.array([codes[str(name)] for name in y.tolist()], np.int64)
