"""Metrics of many resamples of the same rows at once.

A bootstrap draw is a weight a row, how often it was drawn: `(D, N)` for D draws. Metrics that are
made of sums over rows (counts of hits and misses, squares) then cost one product for all draws.
Each of these functions takes targets, predictions and weights, and returns `(D,)` scores, equal
to scikit-learn's on the drawn rows; NaN where those say nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from polymix import seeds

Array = np.ndarray
Average = Literal["binary", "macro", "micro", "weighted"]


def draw_weights(rows: int, draws: int) -> Array:
    """How often each of `rows` is in each of `draws` bootstrap samples, `(D, N)`.

    The same for everyone, so that differences are paired.
    """
    rng = seeds.stream(0, "bootstrap")
    return np.stack(
        [np.bincount(rng.integers(rows, size=rows), minlength=rows) for _ in range(draws)]
    ).astype(np.float64)


def f1(targets: Array, hard: Array, weights: Array, average: Average) -> Array:
    """F1 from counts of true and false positives and negatives.

    Args:
        targets: `(N,)` classes, or `(N, L)` label sets.
        hard: predicted ones, alike.
        weights: `(D, N)`.
        average: scikit-learn's; a class that a draw neither holds nor predicts is no class of it.
    """
    if targets.ndim == 2 and targets.shape[1] == 1:  # to scikit-learn, two classes
        targets, hard = targets[:, 0].astype(np.int64), hard[:, 0]
    true, said = _sets(targets, hard)
    hits, positives, claims = (weights @ m for m in (true * said, true, said))
    if average == "binary":
        hits, positives, claims = hits[:, 1:2], positives[:, 1:2], claims[:, 1:2]
    if average == "micro":
        hits, positives, claims = (m.sum(1, keepdims=True) for m in (hits, positives, claims))
    each = _share(2 * hits, positives + claims)
    if average == "weighted":
        return _share((each * positives).sum(1), positives.sum(1))
    if average == "macro" and targets.ndim == 1:
        return _share(each.sum(1), (positives + claims > 0).sum(1))
    return np.asarray(each.mean(1))


def balanced_accuracy(targets: Array, hard: Array, weights: Array) -> Array:
    """Mean recall of the classes that a draw holds."""
    true, said = _sets(targets, hard)
    hits, positives = weights @ (true * said), weights @ true
    return _share(_share(hits, positives).sum(1), (positives > 0).sum(1))


def matthews(targets: Array, hard: Array, weights: Array) -> Array:
    """Matthews' correlation of classes (Gorodkin 2004); 0 where one side is all alike."""
    true, said = _sets(targets, hard)
    total = weights.sum(1)
    hits = (weights @ (true * said)).sum(1)
    positives, claims = weights @ true, weights @ said
    spread = (total**2 - (positives**2).sum(1)) * (total**2 - (claims**2).sum(1))
    return _share(hits * total - (positives * claims).sum(1), np.sqrt(spread))


def quadratic_kappa(targets: Array, said: Array, weights: Array) -> Array:
    """Cohen's kappa with quadratic weights; 0 where both sides are all alike.

    The squares that chance would give are both variances and the square of the means' difference,
    so that no table of counts is needed.
    """
    middle = float(targets.mean())
    y, p = targets - middle, said - middle
    total = weights.sum(1)
    mean_y, mean_p = weights @ y / total, weights @ p / total
    squares = weights @ (y - p) ** 2.0 / total
    variances = weights @ y**2 / total - mean_y**2 + weights @ p**2 / total - mean_p**2
    chance = variances + (mean_y - mean_p) ** 2
    return np.where(chance > 1e-12, 1 - _share(squares, chance), 0.0)


def average_precision(targets: Array, predictions: Array, weights: Array) -> Array:
    """Precision averaged over recall, of one label, or the mean over labels or classes."""
    if targets.ndim == 1 and predictions.shape[1] == 2:
        return _precision(targets == 1, predictions[:, 1], weights)
    count = predictions.shape[1]
    true = targets > 0 if targets.ndim == 2 else targets[:, None] == np.arange(count)
    each = [_precision(true[:, k], predictions[:, k], weights) for k in range(count)]
    return np.asarray(np.mean(each, 0))


def roc_auc(targets: Array, predictions: Array, weights: Array) -> Array:
    """Area under the curve, a label's, or the mean over labels, or over each class and the rest."""
    if targets.ndim == 1 and predictions.shape[1] == 2:
        return _area(targets == 1, predictions[:, 1], weights)
    count = predictions.shape[1]
    true = targets > 0 if targets.ndim == 2 else targets[:, None] == np.arange(count)
    areas = [_area(true[:, k], predictions[:, k], weights) for k in range(count)]
    return np.asarray(np.mean(areas, 0))


def r2(targets: Array, predictions: Array, weights: Array) -> Array:
    """One minus the squared errors' share of the squared deviations."""
    y = targets.astype(np.float64)
    y = y - y.mean()  # or the difference of two large numbers says little
    errors = weights @ (targets.astype(np.float64) - predictions[:, 0]) ** 2
    squares = weights @ y**2
    deviations = squares - (weights @ y) ** 2 / weights.sum(1)
    deviations[deviations <= 1e-12 * squares] = 0.0  # rows all alike, but for rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(deviations > 0, 1 - errors / deviations, np.where(errors > 0, 0.0, 1.0))


def minus_root_mean_square(targets: Array, predictions: Array, weights: Array) -> Array:
    """Minus the root of the mean squared error."""
    errors = (targets.astype(np.float64) - predictions[:, 0]) ** 2
    return np.asarray(-np.sqrt(weights @ errors / weights.sum(1)))


def pearson(targets: Array, predictions: Array, weights: Array) -> Array:
    """Pearson's correlation; 0 where a draw's targets or predictions are all alike."""
    y, p = (v - v.mean() for v in (targets.astype(np.float64), predictions[:, 0].astype(float)))
    total = weights.sum(1)
    yy, pp, yp = (
        weights @ (a * b) - (weights @ a) * (weights @ b) / total
        for a, b in ((y, y), (p, p), (y, p))
    )
    # Rows all alike have no deviation, but for rounding.
    known = (yy > 1e-12 * (weights @ y**2)) & (pp > 1e-12 * (weights @ p**2))
    return np.asarray(np.divide(yp, np.sqrt(np.abs(yy * pp)), out=np.zeros(len(yp)), where=known))


def accuracy(targets: Array, hard: Array, weights: Array) -> Array:
    """Share of the rows that are right; NaN where a draw has none."""
    total = weights.sum(1)
    hits = weights @ (targets == hard)
    return np.asarray(np.divide(hits, total, out=np.full(len(total), np.nan), where=total > 0))


def _sets(targets: Array, hard: Array) -> tuple[Array, Array]:
    """Targets and predictions as `(N, L)` of zeros and ones; a class is a label."""
    if targets.ndim == 2:
        return targets.astype(np.float64), hard.astype(np.float64)
    classes = np.arange(max(int(targets.max()), int(hard.max()), 1) + 1)
    return (targets[:, None] == classes) * 1.0, (hard[:, None] == classes) * 1.0


def _share(part: Array, whole: Array) -> Array:
    """Part over whole, 0 where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0))


def _area(true: Array, scores: Array, weights: Array) -> Array:
    """The chance that a positive row scores above a negative one; a tie is a half."""
    order = np.argsort(scores, kind="stable")
    begins = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) != 0)
    drawn, hit = weights[:, order], true[order]
    positive = np.add.reduceat(drawn * hit, begins, 1)
    negative = np.add.reduceat(drawn * ~hit, begins, 1)
    below = np.cumsum(negative, 1) - negative / 2
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs > 0, (positive * below).sum(1) / pairs, np.nan)


def _precision(true: Array, scores: Array, weights: Array) -> Array:
    """The precision at each level of the scores, weighted by the recall that it adds."""
    order = np.argsort(-scores, kind="stable")
    begins = np.flatnonzero(np.diff(-scores[order], prepend=-np.inf) != 0)
    drawn = weights[:, order]
    positive = np.add.reduceat(drawn * true[order], begins, 1)
    above = np.cumsum(np.add.reduceat(drawn, begins, 1), 1)
    precision = _share(np.cumsum(positive, 1), above)
    return _share((positive * precision).sum(1), positive.sum(1))
