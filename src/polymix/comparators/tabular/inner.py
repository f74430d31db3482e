"""Splits inside the training rows: what stops, what sets a strength, what crosses predictions.

Validation rows may be the rows that score a model, so that nothing of it may be fitted to them.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from polymix.data.schema import Task

FOLDS = 4
HELD = 0.2


def fold_of(y: np.ndarray, task: Task, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Which fold holds out each row, `(N,)`; classes are spread evenly over folds."""
    order = rng.permutation(len(y))
    if task in (Task.BINARY, Task.MULTICLASS):
        order = order[np.argsort(y[order], kind="stable")]
    found = np.empty(len(y), np.int64)
    found[order] = np.arange(len(y)) % folds
    return found


def holdout(y: np.ndarray, task: Task, rng: np.random.Generator, share: float = HELD) -> np.ndarray:
    """Which rows to hold out, `(N,)` bool: a share of them, and never all rows of a class."""
    held: np.ndarray = fold_of(y, task, round(1 / share), rng) == 0
    if task in (Task.BINARY, Task.MULTICLASS):
        for one in np.unique(y[held]):
            if held[y == one].all():
                held &= y != one
    return held


def left(deadline: float | None) -> float:
    """Seconds until a deadline; infinitely many where there is none."""
    return np.inf if deadline is None else deadline - time.monotonic()


def class_loss(logits: np.ndarray, y: np.ndarray, task: Task, weights: np.ndarray) -> float:
    """Log loss of logits `(N, S)`: one a class, one a label, or the second class's alone.

    Args:
        logits: of rows.
        y: classes `(N,)`, or labels `(N, S)`.
        task: what is predicted.
        weights: of classes or labels, `(K,)`.
    """
    if task is Task.MULTICLASS:
        own = log_softmax(logits, 1)[np.arange(len(y)), y.astype(np.int64)]
        each = weights[y.astype(np.int64)]
        return float(-(each * own).sum() / each.sum())
    labels = y[:, None] if y.ndim == 1 else y
    on, off = (weights[1], weights[0]) if task is Task.BINARY else (weights, 1.0)
    losses = on * labels * np.logaddexp(0, -logits) + off * (1 - labels) * np.logaddexp(0, logits)
    return float(losses.mean())


def fit_scale(
    decisions: np.ndarray, y: np.ndarray, task: Task, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """A scale and shifts `(S,)` that make logits of out-of-fold decisions (Platt 1999).

    Args:
        decisions: `(N, S)`, about 1 for what is so and -1 for what is not.
        y: classes or labels.
        task: what is predicted.
        weights: of classes or labels, `(K,)`.
    """
    count = decisions.shape[1]

    def loss(parameters: np.ndarray) -> float:
        scale, shifts = np.exp(parameters[0]), parameters[1:]
        penalty = 1e-2 * float((shifts**2).mean()) + 1e-3 * float(parameters[0] ** 2)
        return class_loss(scale * decisions + shifts, y, task, weights) + penalty

    start = np.zeros(1 + (count if count <= 20 else 0))
    start[0] = 1.0
    if count <= 20:
        found = minimize(loss, start, method="L-BFGS-B").x
        return float(np.exp(found[0])), found[1:]
    # Many classes have few rows each: one scale for all, and no shifts.
    scale = minimize(lambda p: loss(np.concatenate([p, np.zeros(count)])), start).x
    return float(np.exp(scale[0])), np.zeros(count)


def signs(y: np.ndarray, task: Task, classes: int) -> np.ndarray:
    """Classes or labels as `(N, S)` of 1 and -1."""
    if task is Task.MULTICLASS:
        return np.where(y.astype(np.int64)[:, None] == np.arange(classes), 1.0, -1.0)
    return np.where((y[:, None] if y.ndim == 1 else y) > 0, 1.0, -1.0)


def sums_of(task: Task, outputs: int) -> int:
    """S: a binary target is one sum, the second class's logit."""
    return 1 if task is Task.BINARY else outputs
