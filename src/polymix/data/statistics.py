"""Statistics of the training rows, and which modalities they may lack."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polymix.data.check import CHUNK
from polymix.data.schema import Kind, Modality, Schema, Statistics, Target, Task
from polymix.errors import UsageError


def with_statistics(
    schema: Schema,
    arrays: Mapping[str, np.ndarray],
    present: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
) -> Schema:
    """The schema with statistics of the training rows, and which modalities they may lack."""
    modalities = []
    for column, modality in enumerate(schema.modalities):
        rows = train[present[train, column]]
        statistics = (
            _statistics(modality, arrays[modality.name], rows)
            if modality.kind is not Kind.TEXT and not modality.scaled and len(rows)
            else None
        )
        changes = {"statistics": statistics, "optional": len(rows) < len(train)}
        modalities.append(modality.model_copy(update=changes))
    target = schema.target
    if target.task is Task.REGRESSION:
        values = np.asarray(targets[train], np.float64)
        fitted = Statistics(mean=(float(values.mean()),), std=(float(values.std()) or 1.0,))
        target = target.model_copy(update={"statistics": fitted})
    return schema.model_copy(update={"modalities": tuple(modalities), "target": target})


MAX_CLASS_WEIGHT = 100.0


def balanced_weights(target: Target, targets: np.ndarray) -> tuple[float, ...]:
    """Weights under which every class counts the same, and every label as much as its absence.

    A class's is N / (K N_k), as scikit-learn's `balanced`; a label's, of the rows that have it,
    N_without / N_with; none is above 100, nor below a hundredth.

    Args:
        target: what is predicted.
        targets: of the training rows.

    Raises:
        UsageError: numbers have no classes.
    """
    if target.task is Task.REGRESSION:
        raise UsageError("--class-weights: a regression target has no classes; leave it out")
    if target.task is Task.MULTILABEL:
        counts = (targets > 0).sum(0)
        weights = (len(targets) - counts) / np.maximum(counts, 1)
    else:
        counts = np.bincount(targets, minlength=len(target.classes))
        weights = len(targets) / (len(counts) * np.maximum(counts, 1))
    return tuple(np.clip(weights, 1 / MAX_CLASS_WEIGHT, MAX_CLASS_WEIGHT).tolist())


def _statistics(modality: Modality, array: np.ndarray, rows: np.ndarray) -> Statistics:
    last = modality.kind not in (Kind.IMAGE, Kind.AUDIO)
    channels = modality.channels
    total, square, count = np.zeros(channels), np.zeros(channels), 0
    for start in range(0, len(rows), CHUNK):
        chunk = array[rows[start : start + CHUNK]].astype(np.float64)
        flat = np.moveaxis(chunk, -1 if last else 1, -1).reshape(-1, channels)
        if modality.padded:
            flat = flat[flat[:, 0] != 0]
        total += flat.sum(0)
        square += np.einsum("nc,nc->c", flat, flat)
        count += len(flat)
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(square / max(count, 1) - mean**2, 0.0))
    std[std < 1e-6 * np.maximum(np.abs(mean), 1.0)] = 1.0
    if modality.padded:
        mean[0], std[0] = 0.0, 1.0  # what says whether a token is there stays as it is
    if modality.gaps:  # nor does what says whether a value was measured
        measured = (channels - modality.padded) // 3
        begin = modality.padded + measured
        mean[begin : begin + measured], std[begin : begin + measured] = 0.0, 1.0
    return Statistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
